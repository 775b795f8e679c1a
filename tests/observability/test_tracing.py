from typing import Any

import pytest

from fakes import FakeTraceSink
from inferd.errors import InvalidRequest
from inferd.observability.tracing import (
    CHUNK,
    NOT_TRACED,
    ModelTrace,
    TraceSettings,
    Tracing,
)


@pytest.fixture
def sink() -> FakeTraceSink:
    return FakeTraceSink()


@pytest.fixture
def tracing(sink: FakeTraceSink) -> Tracing:
    return Tracing(sink)


def ends(model: ModelTrace, times: int = 1) -> None:
    """Requests end as the batcher tells of them."""
    for _ in range(times):
        if model.on:
            model.ended(1, "", 10, 20, None)


def test_nothing_is_traced_unless_it_is_said(tracing: Tracing, sink: FakeTraceSink) -> None:
    model = tracing.model("m")
    assert not model.on
    assert tracing.settings("m") == tracing.settings() == TraceSettings(False, 1000, -1, 0)
    ends(model, 2000)
    tracing.flush()
    assert sink.ids == []
    assert not NOT_TRACED.on


def test_every_nth_request_is_traced(tracing: Tracing, sink: FakeTraceSink) -> None:
    tracing.change({"timestamps": True, "rate": 3})
    ends(tracing.model("m"), 8)
    tracing.flush()
    assert sink.ids == [([1, 2], False)]
    tracing.flush()
    assert len(sink.traces) == 2


def test_models_without_settings_of_their_own_are_counted_together(
    tracing: Tracing, sink: FakeTraceSink
) -> None:
    one, other = tracing.model("one"), tracing.model("other")
    tracing.change({"timestamps": True, "rate": 2})
    for _ in range(3):
        ends(one)
        ends(other)
    tracing.flush()
    assert len(sink.traces) == 3


def test_a_count_is_counted_down_to_the_end_of_tracing(
    tracing: Tracing, sink: FakeTraceSink
) -> None:
    model, other = tracing.model("m"), tracing.model("other")
    tracing.change({"timestamps": True, "rate": 1, "count": 3})
    ends(model, 2)
    assert tracing.settings().count == 1
    assert other.on
    ends(model, 5)
    assert tracing.settings() == TraceSettings(True, 1, 0, 0)
    assert (model.on, other.on) == (False, False)
    assert sink.ids == [([1, 2, 3], True)]  # at once, and by themselves
    tracing.change({"count": 1})
    ends(other, 5)
    tracing.flush()
    assert sink.ids[1:] == [([4], True)]


def test_what_is_left_of_a_count_survives_other_changes(tracing: Tracing) -> None:
    tracing.change({"timestamps": True, "rate": 1, "count": 5})
    ends(tracing.model("m"), 2)
    tracing.change({"rate": 7})
    assert tracing.settings() == TraceSettings(True, 7, 3, 0)
    tracing.change({"count": None})
    assert tracing.settings().count == -1


def test_so_many_traces_make_a_file(tracing: Tracing, sink: FakeTraceSink) -> None:
    tracing.change({"timestamps": True, "rate": 1, "log_frequency": 2})
    ends(tracing.model("m"), 5)
    assert sink.ids == [([1, 2], True), ([3, 4], True)]
    tracing.flush()
    assert sink.ids[2:] == [([5], True)]


def test_memory_holds_no_more_than_a_chunk(tracing: Tracing, sink: FakeTraceSink) -> None:
    tracing.change({"timestamps": True, "rate": 1})
    ends(tracing.model("m"), CHUNK + 1)
    assert sink.ids == [(list(range(1, CHUNK + 1)), False)]


def test_a_models_own_settings_go_before_the_servers(tracing: Tracing, sink: FakeTraceSink) -> None:
    model, other = tracing.model("m"), tracing.model("other")
    tracing.change({"timestamps": True, "rate": 2}, "m")
    assert (model.on, other.on) == (True, False)
    assert tracing.settings("m") == TraceSettings(True, 2, -1, 0)
    assert tracing.settings("other") == TraceSettings()
    tracing.change({"timestamps": True, "rate": 5, "count": 9})
    assert tracing.settings("m") == TraceSettings(True, 2, 9, 0)
    tracing.change({"timestamps": False}, "m")
    assert (model.on, other.on) == (False, True)
    assert tracing.settings("m").rate == 2


def test_what_is_taken_back_is_the_servers_again(tracing: Tracing) -> None:
    model = tracing.model("m")
    tracing.change({"rate": 5})
    tracing.change({"timestamps": True, "rate": 2}, "m")
    tracing.change({"rate": None}, "m")
    assert tracing.settings("m") == TraceSettings(True, 5, -1, 0)
    tracing.change({"timestamps": None}, "m")
    assert tracing.settings("m") == TraceSettings(False, 5, -1, 0)
    assert not model.on
    tracing.change({"timestamps": True})
    assert model.on
    tracing.change({"timestamps": None, "rate": None})
    assert tracing.settings("m") == TraceSettings()


def test_what_a_sampler_had_is_written_when_it_is_replaced(
    tracing: Tracing, sink: FakeTraceSink
) -> None:
    tracing.change({"timestamps": True, "rate": 1})
    ends(tracing.model("m"), 2)
    tracing.change({"timestamps": True})
    assert sink.ids == []
    tracing.change({"timestamps": False})
    assert sink.ids == [([1, 2], False)]


def test_a_model_that_comes_later_is_traced_as_it_was_said(tracing: Tracing) -> None:
    tracing.change({"timestamps": True}, "m")
    assert tracing.model("m").on
    assert tracing.model("m") is tracing.model("m")
    assert not tracing.model("other").on


@pytest.mark.parametrize("name", ["", "m"])
def test_without_a_file_tracing_cannot_be_switched_on(name: str) -> None:
    tracing = Tracing()
    with pytest.raises(InvalidRequest, match="--trace-file"):
        tracing.change({"timestamps": True}, name)
    assert tracing.settings(name) == TraceSettings()
    others: dict[str, Any] = {"timestamps": False, "rate": 2}
    tracing.change(others, name)
    assert tracing.settings(name).rate == 2
    assert tracing.file == ""
