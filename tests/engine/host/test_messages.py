"""Messages arrive as they were sent, however the bytes are cut."""

import logging
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.config.engine import EngineConfig
from inferd.engine.core import SequenceUpdate
from inferd.engine.host.messages import (
    Abort,
    Add,
    ChildCommand,
    ChildEvent,
    Ended,
    Finish,
    Loaded,
    Progress,
    Refused,
    Start,
    Stepped,
)
from inferd.errors import (
    ConfigError,
    EngineDead,
    InferdError,
    InvalidRequest,
    Overloaded,
    Unsupported,
)
from inferd.observability.generation_statistics import EngineGauges
from inferd.processes.frames import Frames, frame
from inferd.processes.log_lines import Logged, LogSender
from inferd.types.generation import GenerationRequest, SamplingParams, TokenLogprobs

GAUGES = EngineGauges(running=3, waiting=2, kv_usage=0.5, prefix_hits=7)
SCORES = TokenLogprobs(7, -0.5, 1, [(7, -0.5), (9, float("-inf"))])


def across(kind: object, *messages: object) -> list[object]:
    data = b"".join(frame(message) for message in messages)  # type: ignore[arg-type]
    frames: Frames[object] = Frames(kind)
    return list(frames.feed(data))


def test_commands_are_what_they_were() -> None:
    params = SamplingParams(
        n=2, logit_bias={5: -1.5}, stop=("a", "b"), bad_words_token_ids=((1, 2), (3,)), seed=2**40
    )
    request = GenerationRequest(
        id="r", prompt_token_ids=[1, 2], params=params, tenant="t", arrival_s=1.25
    )
    config = EngineConfig(quantization="int4", isolation="process")
    start, add, abort, finish = across(
        ChildCommand, Start("/m", config, 20), Add(request), Abort("r"), Finish(9)
    )
    assert isinstance(start, Start)
    assert (start.folder, start.config, start.log_level) == ("/m", config, 20)
    assert isinstance(add, Add)
    names = request.__struct_fields__
    assert [getattr(add.request, n) for n in names] == [getattr(request, n) for n in names]
    assert (abort, finish) == (Abort("r"), Finish(9))


def test_events_are_what_they_were() -> None:
    update = SequenceUpdate(
        "r", 4, 1, [7], logprobs=[SCORES], prompt_logprobs=[None, SCORES], finish_reason="stop",
        stop_reason="x", num_cached_tokens=16, queue_s=0.25,
    )  # fmt: skip
    sent = [Progress(1, 2), Loaded(64, ("a", "b")), Logged("inferd.engine", 20, "text", "")]
    *plain, stepped = across(ChildEvent, *sent, Stepped([update], GAUGES))
    assert plain == sent
    assert isinstance(stepped, Stepped)
    assert stepped.gauges == GAUGES
    (came,) = stepped.updates
    names = update.__struct_fields__
    assert [getattr(came, n) for n in names] == [getattr(update, n) for n in names]


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("is wrong", file="f.json", field="dtype"), Overloaded("full", 2.5),
        Unsupported("no"), EngineDead("gone"), InvalidRequest("prompt: it has none"),
    ],
)  # fmt: skip
def test_an_error_is_of_its_class_and_says_the_same(error: InferdError) -> None:
    refused, ended = across(ChildEvent, Refused("r", error), Ended(error))
    assert isinstance(refused, Refused)
    assert isinstance(ended, Ended)
    for came in (refused.error, ended.error):
        assert (type(came), str(came), vars(came)) == (type(error), str(error), vars(error))


def test_an_error_of_no_class_in_the_tree_is_the_next_above() -> None:
    class Special(Unsupported):
        """Somebody's own."""

    (ended,) = across(ChildEvent, Ended(Special("no")))
    assert isinstance(ended, Ended)
    assert type(ended.error) is Unsupported


@pytest.mark.parametrize("tenant", ["\ud800", 1 << 70])
def test_what_cannot_cross_is_the_callers_mistake(tenant: Any) -> None:
    request = GenerationRequest(
        id="r", prompt_token_ids=[1], params=SamplingParams(), tenant=tenant
    )
    with pytest.raises(InvalidRequest, match="64 bits"):
        frame(Add(request))


def test_half_pairs_in_what_is_raised_and_logged_are_spelt_out() -> None:
    sent: list[bytes] = []
    record = logging.LogRecord("m", logging.INFO, "", 0, "half \udc80", None, None)
    LogSender(lambda line: sent.append(frame(line))).emit(record)
    error = ConfigError("half \udc80", file="a\udcff")
    line, ended = Frames[Any](ChildEvent).feed(sent[0] + frame(Ended(error)))
    assert line.message == r"half \udc80"
    assert (str(ended.error), ended.error.file) == (r"a\udcff: half \udc80", r"a\udcff")


@given(st.lists(st.integers(0, 300), max_size=5), st.integers(1, 60))
def test_it_does_not_matter_how_the_bytes_are_cut(lengths: list[int], cut: int) -> None:
    sent = [Abort("x" * length) for length in lengths]
    data = b"".join(frame(message) for message in sent)
    frames: Frames[ChildCommand] = Frames(ChildCommand)
    pieces = [data[first : first + cut] for first in range(0, len(data), cut)]
    assert [message for piece in pieces for message in frames.feed(piece)] == sent


def test_a_step_of_32_streams_is_read_well_within_a_millisecond() -> None:
    updates = [SequenceUpdate(f"chatcmpl-{n:032d}", n, 0, [n]) for n in range(32)]
    data = frame(Stepped(updates, GAUGES))
    frames: Frames[ChildEvent] = Frames(ChildEvent)
    took = []
    for _ in range(20):
        start_s = time.perf_counter()
        events = list(frames.feed(data))
        took.append(time.perf_counter() - start_s)
        assert len(events) == 1
    assert min(took) < 0.0005
