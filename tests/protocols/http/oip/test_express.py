"""The express lane must be a faster way to the same answers."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from backends.onnx_models import identity, two_outputs, wide
from fakes import FakeTraceSink, on_loop, turns
from inferd.config.model import ModelConfig, ModelInput, ModelOutput, ModelTensorReshape
from inferd.config.scheduling import BatchOutput, ModelDynamicBatching, ModelQueuePolicy
from inferd.observability.tracing import Tracing
from inferd.types.datatype import DATATYPES
from protocols.http.harness import Wire, request
from protocols.http.oip.lanes import Lanes, comparable
from protocols.http.oip.wire import body, given


def x(data: object, datatype: str = "FP32", shape: list[int] | None = None) -> bytes:
    return body(given("x", datatype, shape or [1, 4], data))


RIDERS = {
    "floats": x([0.1, 2.5, -3.25, 1e-40]),
    "whole numbers": x([1, 2, 3, 4]),
    "some whole": x([1, 2.5, 3, 4]),
    "large": x([2**53 + 1, 2**62, -(2**63), 16777217]),
    "too large for its float": x([1e39, -1e300, 0, 1]),
    "halfway between two floats": x([2**54 + 2**30 + 1, 1, 2, 3]),
    "unsigned": x([2**64 - 1, 1, 2, 3]),
}
"""Requests that the lane takes."""

OTHERS = {
    "nested": x([[1, 2, 3, 4.5]]),
    "oddly nested": x([[1], [2], [3], [4]]),
    "two rows": x([[1, 2, 3, 4], [5, 6, 7, 8]], shape=[2, 4]),
    "an id": body(given("x", "FP32", [1, 4], [1, 2, 3, 4]), id="a"),
    "parameters": body(given("x", "FP32", [1, 4], [1, 2, 3, 4]), parameters={"p": 1}),
    "outputs": body(given("x", "FP32", [1, 4], [1, 2, 3, 4]), outputs=[{"name": "y"}]),
    "binary output": body(
        given("x", "FP32", [1, 4], [1, 2, 3, 4]), parameters={"binary_data_output": True}
    ),
    "NaN": b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,1,2,3]}]}',
    "truth values": x([True, False, True, False]),
    "a truth value": x([True, 1.5, 2, 3]),
    "text": x(["1", "2", "3", "4"]),
    "null": x([None, 1, 2, 3]),
    "no data": x(None),
    "an object": x({"a": 1}),
    "too few": x([1, 2, 3]),
    "too many": x([1, 2, 3, 4, 5]),
    "twice as many": x([1, 2, 3, 4] * 2),
    "ragged": x([[1, 2], [3, 4, 5]]),
    "another name": body(given("z", "FP32", [1, 4], [1, 2, 3, 4])),
    "another datatype": x([1, 2, 3, 4], "FP64"),
    "no such datatype": x([1, 2, 3, 4], "FLOAT"),
    "another shape": x([1, 2, 3, 4], shape=[4]),
    "another size": x([1, 2, 3], shape=[1, 3]),
    "negative": x([1, 2, 3, 4], shape=[-1, 4]),
    "two inputs": body(given("x", "FP32", [1, 4], [1]), given("x", "FP32", [1, 4], [1])),
    "no inputs": body(),
    "not JSON": b"{nonsense",
    "nothing": b"",
    "not UTF-8": b'{"inputs":"\xff"}',
    "larger than fits": x([10**400, 1, 2, 3]),
    "deep arrays": x([[[[[1, 2, 3, 4]]]]]),
    "arrays too deep": b'{"inputs":' + b"[" * 5000,
}
"""Requests that it must leave to the ordinary path, errors among them."""

BODIES = {**RIDERS, **OTHERS}


FULL = ModelDynamicBatching(default_queue_policy=ModelQueuePolicy(max_queue_size=1))


@pytest.mark.parametrize("name", RIDERS)
@on_loop
async def test_a_plain_request_is_answered_in_the_lane_as_in_the_ordinary_way(
    name: str, tmp_path: Path
) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        with np.errstate(over="ignore"):
            express = await lanes.only(BODIES[name])
            ordinary = await lanes.only(BODIES[name], ordinary=True)
        assert comparable(express) == comparable(ordinary)
        assert express.status == 200
        assert lanes.ordinary == [], "it did not ride"
        assert lanes.trouble == []


@pytest.mark.parametrize("name", OTHERS)
@on_loop
async def test_any_other_request_gets_the_ordinary_answer(name: str, tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        express = await lanes.only(BODIES[name])
        ordinary = await lanes.only(BODIES[name], ordinary=True)
        assert comparable(express) == comparable(ordinary)
        assert lanes.trouble == []


@settings(derandomize=True, deadline=None, max_examples=60)
@for_all(
    st.lists(
        st.sampled_from(sorted(RIDERS)) | st.sampled_from([*sorted(RIDERS), *sorted(OTHERS)]),
        min_size=2,
        max_size=5,
    )
)
def test_company_changes_no_answer(names: list[str]) -> None:
    assert_company_changes_nothing(names)


@pytest.mark.parametrize(
    "names",
    [
        ["truth values", "floats"],
        ["truth values", "whole numbers"],
        ["unsigned", "large"],
        ["halfway between two floats", "floats"],
        ["large", "some whole"],
        ["nested", "floats"],
        ["null", "floats"],
        ["text", "floats"],
        ["too few", "floats"],
        ["two rows", "nested"],
        ["twice as many", "twice as many"],
        ["larger than fits", "floats"],
        ["arrays too deep", "floats"],
        list(RIDERS),
    ],
    ids=" and ".join,
)
def test_riders_of_different_kinds_do_not_change_each_others_answers(names: list[str]) -> None:
    assert_company_changes_nothing(names)


@on_loop
async def assert_company_changes_nothing(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, np.errstate(over="ignore"):
        async with Lanes(identity(), Path(folder)) as lanes:
            together = await lanes.ask(*[BODIES[name] for name in names])
            for name, answers in zip(names, together, strict=True):
                alone = await lanes.only(BODIES[name], ordinary=True)
                assert [comparable(answer) for answer in answers] == [comparable(alone)], name
            assert lanes.trouble == []


@pytest.mark.parametrize(
    "evil",
    [
        b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":'
        + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}]}",
        b'{"a":' * 5000,
        body(given("x", "FP32", [0, 2**62], [])),
        b'{"id":"\\ud800","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32",'
        b'"data":[NaN,1,2,3]}]}',
        body(given("x", "FP32", [1, 4], [[1, 2], [3, {}]])),
    ],
    ids=["deep data", "deep objects", "huge and empty", "half a character", "an object inside"],
)  # fmt: skip
@on_loop
async def test_whatever_a_request_holds_it_and_its_neighbours_are_answered(
    evil: bytes, tmp_path: Path
) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        good = RIDERS["floats"]
        before, worst, after = await lanes.ask(good, evil, good)
        assert [a.status for a in before] == [200]
        assert [a.status for a in after] == [200]
        assert [a.status for a in worst] == [400]
        assert lanes.trouble == []


@on_loop
async def test_a_scalar_for_a_model_of_rows_without_columns_is_refused(tmp_path: Path) -> None:
    async with Lanes(identity(shape=("n",)), tmp_path) as lanes:
        assert (await lanes.only(body(given("x", "FP32", [1], [5])))).status == 200
        for ordinary in (True, False):
            answer = await lanes.only(body(given("x", "FP32", [], [5])), ordinary=ordinary)
            assert answer.status == 400
        assert lanes.trouble == []


@pytest.mark.parametrize(
    ("model", "datatype", "data"),
    [
        (two_outputs(), "FP32", [1.5, 2, 3, 4]),
        (identity("FP64"), "FP64", [0.1, 1e300, 5e-324, 2**60]),
        (identity("INT64"), "INT64", [0, 2**63 - 1, -(2**63), 2**53 + 1]),
        (identity("UINT8"), "UINT8", [0, 255, 1, 2]),
    ],
    ids=["two outputs", "FP64", "INT64", "UINT8"],
)
@on_loop
async def test_models_of_other_kinds(
    model: bytes, datatype: str, data: list[object], tmp_path: Path
) -> None:
    async with Lanes(model, tmp_path) as lanes:
        bodies = [x(data, datatype), x(data[::-1], datatype)]
        together = await lanes.ask(*bodies)
        for one, (answer,) in zip(bodies, together, strict=True):
            ordinary = await lanes.only(one, ordinary=True)
            assert comparable(answer) == comparable(ordinary)
            assert answer.status == 200
        assert lanes.ordinary == []


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@pytest.mark.parametrize(
    "data",
    [
        [1] * 4, [1.0] * 4, [True] * 4, ["a"] * 4, [255, 256, -1, 0], [2**63, 0, 0, 0],
        [2**64, 0, 0, 0], [-(2**63) - 1, 0, 0, 0], [1, 1.0, 2, 3], [1e400, 0, 0, 0],
    ],
    ids=lambda data: str(data[0]),
)  # fmt: skip
@on_loop
async def test_every_datatype_takes_and_refuses_what_it_does_in_the_ordinary_way(
    data: list[object], datatype: str, tmp_path: Path
) -> None:
    async with Lanes(identity(datatype), tmp_path) as lanes:
        one = x(data, datatype)
        assert comparable(await lanes.only(one)) == comparable(await lanes.only(one, ordinary=True))
        assert lanes.trouble == []


@pytest.mark.parametrize("accept", ["gzip", "deflate", "br", "identity", "gzip;q=0"])
@on_loop
async def test_answers_are_compressed_as_in_the_ordinary_way(accept: str, tmp_path: Path) -> None:
    async with Lanes(wide(2000), tmp_path) as lanes:
        one = x([1.5], shape=[1, 1])
        express = await lanes.only(one, accept_encoding=accept)
        ordinary = await lanes.only(one, ordinary=True, accept_encoding=accept)
        assert comparable(express) == comparable(ordinary)
        assert lanes.ordinary == []
        packed = accept in ("gzip", "deflate")
        assert express.headers.get("content-encoding") == (accept if packed else None)


@on_loop
async def test_more_riders_than_a_batch_holds_go_in_several(tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path, ModelConfig(max_batch_size=4)) as lanes:
        bodies = [x([float(number)] * 4) for number in range(11)]
        together = await lanes.ask(*bodies)
        for one, (answer,) in zip(bodies, together, strict=True):
            assert comparable(answer) == comparable(await lanes.only(one, ordinary=True))
        assert max(lanes.served.statistics.batch_sizes) == 4
        assert lanes.served.statistics.success.count == 22


@on_loop
async def test_riders_who_leave_before_departure_are_not_missed(tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        wires = [Wire(listener=lanes.listener) for _ in range(3)]
        for wire in wires:
            wire.feed(request("/v2/models/m/infer", RIDERS["floats"]))
        wires[1].leave()
        await turns(12)
        assert [wire.statuses() for wire in wires] == [[200], [], [200]]


@pytest.mark.parametrize("early", [0, 2])
@pytest.mark.parametrize("stay", [0, 1])
@on_loop
async def test_riders_who_wait_as_one_are_given_up_when_all_have_left(
    stay: int, early: int, tmp_path: Path
) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        lanes.pool.held = True
        wires = [Wire(listener=lanes.listener) for _ in range(4)]
        for wire in wires:
            wire.feed(request("/v2/models/m/infer", RIDERS["floats"]))
        for wire in wires[4 - early :]:
            wire.leave()
        await turns(12)
        assert lanes.served.batcher.queue.size == 4 - early
        assert len(lanes.served.batcher.queue.groups[()].items) == 1
        for wire in wires[stay : 4 - early]:
            wire.leave()
        assert lanes.served.batcher.queue.size == (4 - early) * stay
        lanes.pool.held = False
        assert (await lanes.only(x([5.0, 6, 7, 8]), ordinary=True)).status == 200
        assert [wire.statuses() for wire in wires[:stay]] == [[200]] * stay
        statistics = lanes.served.statistics
        assert statistics.success.count == 1 + (4 - early) * stay
        assert statistics.fail.count == (4 - early) * (1 - stay)
        assert lanes.trouble == []


@pytest.mark.parametrize("held", [False, True], ids=["at once", "as one"])
@on_loop
async def test_answers_that_cannot_be_written_are_an_error_of_each(
    held: bool, tmp_path: Path
) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        (instance,) = lanes.pool._free
        run = instance.run
        instance.run = lambda inputs: [  # type: ignore[method-assign]
            output.astype(np.complex64) for output in run(inputs)
        ]
        lanes.pool.held = held
        wires = [Wire(listener=lanes.listener) for _ in range(3)]
        for wire in wires:
            wire.feed(request("/v2/models/m/infer", RIDERS["floats"]))
        await turns(12)
        lanes.pool.held = False
        lanes.served.batcher.look()
        await turns(4)
        assert [wire.statuses() for wire in wires] == [[500], [500], [500]]
        assert lanes.served.batcher.in_flight == 0


@on_loop
async def test_who_rides_alone_waits_as_any_other(tmp_path: Path) -> None:
    config = ModelConfig(dynamic_batching=FULL)
    async with Lanes(identity(), tmp_path, config) as lanes:
        lanes.pool.held = True
        first, second = (Wire(listener=lanes.listener) for _ in range(2))
        first.feed(request("/v2/models/m/infer", RIDERS["floats"]))
        await turns(12)
        second.feed(request("/v2/models/m/infer", RIDERS["floats"]))
        await turns(12)
        assert second.statuses() == [503]
        assert lanes.served.statistics.fail.count == 1
        first.leave()
        assert lanes.served.batcher.queue.size == 0
        assert lanes.served.statistics.fail.count == 2


@on_loop
async def test_the_policy_of_a_model_is_kept(tmp_path: Path) -> None:
    config = ModelConfig(dynamic_batching=ModelDynamicBatching(preserve_ordering=True))
    async with Lanes(identity(), tmp_path, config) as lanes:
        assert (await lanes.only(RIDERS["floats"])).status == 200
        assert len(lanes.ordinary) == 1


def shaped(dims: tuple[int, ...], ragged: bool, *own: int) -> ModelConfig:
    """x as clients send it, and as the model has it."""
    reshape = None if ragged else ModelTensorReshape(shape=own)
    x = ModelInput(
        name="x", data_type="TYPE_FP32", dims=dims, reshape=reshape, allow_ragged_batch=ragged
    )
    y = ModelOutput(name="y", data_type="TYPE_FP32", dims=dims, reshape=reshape)
    cut = (BatchOutput(target_name=("y",), source_input=("x",)),) if ragged else ()
    return ModelConfig(max_batch_size=8, input=(x,), output=(y,), batch_output=cut)


@pytest.mark.parametrize("riders", [1, 3])
@on_loop
async def test_rows_of_a_reshaped_model_ride_together(riders: int, tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path, shaped((2, 2), False, 4)) as lanes:
        bodies = [x([n, 2, 3, 4], shape=[1, 2, 2]) for n in range(riders)]
        express = await lanes.ask(*bodies)
        assert len(lanes.ordinary) == (0 if riders > 1 else 1), "alone there is nobody to wait with"
        ordinary = await lanes.ask(*bodies, ordinary=True)
        assert [comparable(a) for (a,) in express] == [comparable(a) for (a,) in ordinary]
        assert b'"shape":[1,2,2]' in express[0][0].body
        assert lanes.trouble == []


@on_loop
async def test_ragged_requests_take_the_ordinary_way(tmp_path: Path) -> None:
    """Each is one of its batch, which rows of one request would not be; also of a fixed shape."""
    async with Lanes(identity(shape=("n",)), tmp_path, shaped((4,), True)) as lanes:
        answers = await lanes.ask(*[x([n, 2, 3, 4]) for n in range(3)])
        assert len(lanes.ordinary) == 3
        assert all(answer.status == 200 for (answer,) in answers)
        assert lanes.trouble == []


@on_loop
async def test_a_model_that_is_not_there_and_a_server_that_drains(tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        lanes.plane.draining = True
        answer = await lanes.only(RIDERS["floats"])
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        lanes.plane.draining = False
        served = lanes.manager.default.pop("m")
        assert (await lanes.only(RIDERS["floats"])).status == 503
        lanes.manager.default["m"] = served
        assert (await lanes.only(RIDERS["floats"])).status == 200


@on_loop
async def test_each_answer_has_the_id_of_its_own_request(tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        wires = [Wire(listener=lanes.listener) for _ in range(4)]
        for number, wire in enumerate(wires):
            more = {"x_request_id": f"id-{number}"} if number < 2 else {}
            wire.feed(request("/v2/models/m/infer", RIDERS["floats"], **more))
        await turns(12)
        ids = [wire.answers()[0].headers["x-request-id"] for wire in wires]
        assert ids[:2] == ["id-0", "id-1"]
        assert len(set(ids)) == 4


@on_loop
async def test_requests_of_a_model_that_is_traced_take_the_ordinary_way(tmp_path: Path) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        sink = FakeTraceSink()
        tracing = Tracing(sink)
        lanes.served.trace_to(tracing.model("m"))
        before = await lanes.only(RIDERS["floats"])
        assert lanes.ordinary == []
        tracing.change({"timestamps": True, "rate": 2, "count": 2})
        for answers in await lanes.ask(*[RIDERS["floats"]] * 4):
            assert [comparable(answer) for answer in answers] == [comparable(before)]
        assert len(lanes.ordinary) == 4
        assert not lanes.served.traced  # the count is used up
        await lanes.only(RIDERS["floats"])
        assert len(lanes.ordinary) == 4
        tracing.flush()
        assert len(sink.traces) == 2
