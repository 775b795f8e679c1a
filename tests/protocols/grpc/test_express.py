"""The express lane over gRPC must be a faster way to the same answers."""

import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from backends.onnx_models import identity, two_outputs, wide
from fakes import clock, on_loop, turns
from inferd.config.model import ModelConfig
from inferd.config.scheduling import ModelDynamicBatching, ModelQueuePolicy
from inferd.errors import BackendError
from inferd.protocols.grpc.framing import framed
from inferd.types.datatype import DATATYPES
from protocols.grpc.lanes import GrpcLanes
from protocols.grpc.wire import add_input, add_output, add_raw, add_typed, message

FOUR = np.array([[0.1, 2.5, -3.25, 1e-40]], np.float32)
RAW = b"\x3a\x10"
"""What stands before four floats."""


def raw(array: Any = FOUR, datatype: str = "FP32", name: str = "x", **fields: Any) -> bytes:
    request = message(**{"model": "m", "version": "", **fields})
    return bytes(add_raw(request, name, datatype, np.asarray(array)).SerializeToString())


def shaped(shape: list[int], data: bytes) -> bytes:
    request = message("m", "")
    add_input(request, "x", "FP32", shape)
    request.raw_input_contents.append(data)
    return bytes(request.SerializeToString())


def two_inputs() -> Any:
    return add_raw(add_raw(message("m", ""), "x", "FP32", FOUR), "x", "FP32", FOUR)


def cut() -> tuple[bytes, bytes, bytes]:
    """The name, the input and the raw contents of the plainest request."""
    plain = raw()
    return plain[:3], plain[3:-18], plain[-18:]


NAME, INPUT, CONTENTS = cut()
assert NAME == b"\x0a\x01m"
assert RAW + FOUR.tobytes() == CONTENTS

RIDERS = {
    "floats": raw(),
    "others": raw(FOUR[:, ::-1] * 3),
    "not finite": raw(np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)),
    "a NaN with a payload": shaped([1, 4], b"\x01\x00\xc0\x7f" * 4),
    "what looks like fields": shaped([1, 4], b"\x0a\x01z\x12\x017\x1a\x01a" + RAW + bytes(5)),
    "a version": raw(version="1"),
    "an end that is of no use here": raw(parameters={"triton_enable_empty_final_response": True}),
    "an empty id": NAME + b"\x1a\x00" + INPUT + CONTENTS,
    "the same name twice": NAME + NAME + INPUT + CONTENTS,
}  # fmt: skip
"""Requests that the lane takes."""

OTHERS = {
    "an id": raw(id="a"),
    "an id in the end": NAME + INPUT + CONTENTS + b"\x1a\x01a",
    "parameters": raw(parameters={"p": 1}),
    "a priority": raw(parameters={"priority": 1}),
    "a time of its own": raw(parameters={"timeout": 1_000_000}),
    "outputs": add_output(message("m", ""), "y").SerializeToString() + INPUT + CONTENTS,
    "another output": add_output(message("m", ""), "z").SerializeToString() + INPUT + CONTENTS,
    "classes": add_output(message("m", ""), "y", classification=2).SerializeToString()
    + INPUT
    + CONTENTS,
    "typed": add_typed(message("m", ""), "x", "FP32", [1, 4], [1, 2, 3, 4]).SerializeToString(),
    "typed and raw": add_typed(
        message("m", ""), "x", "FP32", [1, 4], [1, 2, 3, 4]
    ).SerializeToString()
    + CONTENTS,
    "two rows": raw(np.repeat(FOUR, 2, 0)),
    "no rows": raw(FOUR[:0]),
    "another shape": shaped([4], FOUR.tobytes()),
    "more dimensions": shaped([1, 1, 4], FOUR.tobytes()),
    "another size": shaped([1, 3], FOUR.tobytes()[:12]),
    "two of two": shaped([2, 2], FOUR.tobytes()),
    "negative": shaped([-1, 4], FOUR.tobytes()),
    "negative twice": shaped([-1, -4], FOUR.tobytes()),
    "too little": shaped([1, 4], FOUR.tobytes()[:12]),
    "too much": shaped([1, 4], FOUR.tobytes() + b"abcd"),
    "nothing": shaped([1, 4], b""),
    "another name": raw(name="z"),
    "another datatype": raw(FOUR.view(np.int32), "INT32"),
    "as wide as two": raw(FOUR.view(np.float64), "FP64"),
    "no such datatype": raw(datatype="FLOAT"),
    "raw twice": NAME + INPUT + CONTENTS * 2,
    "raw first": CONTENTS + NAME + INPUT,
    "raw before its input": NAME + CONTENTS + INPUT,
    "name last": INPUT + CONTENTS + NAME,
    "name before raw": INPUT + NAME + CONTENTS,
    "another model after this one": NAME + b"\x0a\x01z" + INPUT + CONTENTS,
    "this model after another one": b"\x0a\x01z" + NAME + INPUT + CONTENTS,
    "a name taken back": NAME + b"\x0a\x00" + INPUT + CONTENTS,
    "a version behind the input": NAME + INPUT + b"\x12\x011" + CONTENTS,
    "a missing version behind the input": NAME + INPUT + b"\x12\x017" + CONTENTS,
    "a missing version over one": NAME + b"\x12\x011\x12\x017" + INPUT + CONTENTS,
    "a version over a missing one": NAME + b"\x12\x017\x12\x011" + INPUT + CONTENTS,
    "a version taken back": NAME + b"\x12\x017\x12\x00" + INPUT + CONTENTS,
    "a missing version": raw(version="7"),
    "a version that is none": raw(version="new"),
    "a name of more bytes than it needs": b"\x0a\x81\x00m" + INPUT + CONTENTS,
    "contents of more bytes than they need": NAME + INPUT + b"\x3a\x90\x00" + FOUR.tobytes(),
    "an unknown field": NAME + b"\xa2\x06\x01z" + INPUT + CONTENTS,
    "no name": INPUT + CONTENTS,
    "an empty name": b"\x0a\x00" + INPUT + CONTENTS,
    "a name that is not UTF-8": b"\x0a\x01\xff" + INPUT + CONTENTS,
    "a version that is not UTF-8": NAME + b"\x12\x01\xff" + INPUT + CONTENTS,
    "an id that is not UTF-8": NAME + b"\x1a\x01\xff" + INPUT + CONTENTS,
    "a name that does not end": b"\x0a\x7fm",
    "a version that does not end": NAME + b"\x12",
    "a long name": raw(model="m" * 200),
    "two inputs": two_inputs().SerializeToString(),
    "no inputs": message("m", "").SerializeToString(),
    "contents only": NAME + CONTENTS,
    "nothing at all": b"",
    "no protobuf": b"nonsense, of some length",
    "wrong fields within": NAME + b"\x2a\x04\xff\xff\xff\xff" + CONTENTS,
    "half": raw()[:-7],
}
"""Requests that it must leave to the ordinary path, errors among them."""

BODIES = {**RIDERS, **OTHERS}

FULL = ModelDynamicBatching(default_queue_policy=ModelQueuePolicy(max_queue_size=1))


@pytest.mark.parametrize("name", RIDERS)
@on_loop
async def test_a_plain_request_is_answered_in_the_lane_as_in_the_ordinary_way(
    name: str, tmp_path: Path
) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        express = await lanes.only(BODIES[name])
        again = await lanes.only(BODIES[name])
        ordinary = await lanes.only(BODIES[name], ordinary=True)
        assert express.comparable == again.comparable == ordinary.comparable
        assert express.status == b"0"
        assert lanes.walked == [], "it did not ride"


@pytest.mark.parametrize("name", OTHERS)
@on_loop
async def test_any_other_request_gets_the_ordinary_answer(name: str, tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        for _ in range(2):  # what is remembered of the first changes nothing for the second
            express = await lanes.only(BODIES[name])
            ordinary = await lanes.only(BODIES[name], ordinary=True)
            assert express.comparable == ordinary.comparable


@settings(derandomize=True, deadline=None, max_examples=60)
@for_all(
    st.lists(
        st.sampled_from(sorted(RIDERS)) | st.sampled_from([*sorted(RIDERS), *sorted(OTHERS)]),
        min_size=2,
        max_size=6,
    )
)
def test_company_changes_no_answer(names: list[str]) -> None:
    assert_company_changes_nothing(names)


def test_all_together() -> None:
    assert_company_changes_nothing(list(BODIES))
    assert_company_changes_nothing(list(BODIES)[::-1])


@on_loop
async def assert_company_changes_nothing(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with GrpcLanes(identity(), Path(folder)) as lanes:
            together = await lanes.ask(*[BODIES[name] for name in names])
            for name, answer in zip(names, together, strict=True):
                alone = await lanes.only(BODIES[name], ordinary=True)
                assert answer.comparable == alone.comparable, name


@settings(derandomize=True, deadline=None, max_examples=200)
@for_all(
    st.sampled_from([raw(), raw(version="1"), raw(id="a"), raw(version="7")]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
    st.integers(0, 60),
)
def test_whatever_is_wrong_with_a_request_it_is_answered_alike(
    body: bytes, changes: list[tuple[int, int]], less: int
) -> None:
    changed = bytearray(body)
    for place, value in changes:
        changed[place % len(changed)] = value
    broken = bytes(changed[: len(changed) - less // 10])

    @on_loop
    async def test() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with GrpcLanes(identity(), Path(folder)) as lanes:
                before, answer, after = await lanes.ask(raw(), broken, raw())
                assert before.status == after.status == b"0"
                alone = await lanes.only(broken, ordinary=True)
                assert answer.comparable == alone.comparable

    test()


@pytest.mark.parametrize(
    ("model", "datatype", "dtype"),
    [
        (two_outputs(), "FP32", np.float32),
        (identity("FP64"), "FP64", np.float64),
        (identity("INT64"), "INT64", np.int64),
        (identity("UINT8"), "UINT8", np.uint8),
    ],
    ids=["two outputs", "FP64", "INT64", "UINT8"],
)
@on_loop
async def test_models_of_other_kinds(
    model: bytes, datatype: str, dtype: Any, tmp_path: Path
) -> None:
    async with GrpcLanes(model, tmp_path) as lanes:
        rows = np.arange(8, dtype=dtype).reshape(2, 1, 4)
        bodies = [raw(row, datatype) for row in rows]
        for body, answer in zip(bodies, await lanes.ask(*bodies), strict=True):
            ordinary = await lanes.only(body, ordinary=True)
            assert answer.comparable == ordinary.comparable
            assert answer.status == b"0"
        assert lanes.walked == []


@pytest.mark.parametrize("size", [0, 3, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@on_loop
async def test_every_datatype_takes_and_refuses_what_it_does_in_the_ordinary_way(
    datatype: str, size: int, tmp_path: Path
) -> None:
    data = (b"\x01\x00\x00\x00" * 16)[:size]
    async with GrpcLanes(identity(datatype), tmp_path) as lanes:
        request = message("m", "")
        add_input(request, "x", datatype, [1, 4])
        request.raw_input_contents.append(data)
        body = request.SerializeToString()
        express = await lanes.only(body)
        assert express.comparable == (await lanes.only(body, ordinary=True)).comparable


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("accept", [b"gzip,deflate", b"identity"])
@pytest.mark.parametrize("columns", [2, 2000])
@on_loop
async def test_answers_are_compressed_as_in_the_ordinary_way(
    encoding: str, accept: bytes, columns: int, tmp_path: Path
) -> None:
    def compressed(body: bytes) -> bytes:
        stream = zlib.compressobj(1, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[encoding])
        return b"\x01" + framed(stream.compress(body) + stream.flush())[1:]

    async with GrpcLanes(wide(columns), tmp_path) as lanes:
        body = compressed(raw(np.array([[1.5]], np.float32)))
        fields = {"grpc_encoding": encoding.encode(), "grpc_accept_encoding": accept}
        found = []
        for ordinary in (False, True):
            (stream_id,) = lanes.send(body, ordinary=ordinary, **fields)
            while (answer := (await lanes.answers([stream_id]))[0]) is None:
                pass  # it was taken apart on a thread
            found.append(answer)
        assert found[0].comparable == found[1].comparable
        assert lanes.walked == []
        expected = encoding.encode() if columns > 2 and b"gzip" in accept else None
        assert found[0].fields.get(b"grpc-encoding") == expected
        assert found[0].data[0] == (expected is not None)


@on_loop
async def test_more_riders_than_a_batch_holds_go_in_several(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path, ModelConfig(max_batch_size=4)) as lanes:
        bodies = [raw(FOUR + number) for number in range(11)]
        for body, answer in zip(bodies, await lanes.ask(*bodies), strict=True):
            assert answer.comparable == (await lanes.only(body, ordinary=True)).comparable
        assert max(lanes.served.statistics.batch_sizes) == 4
        assert lanes.served.statistics.success.count == 22


@on_loop
async def test_riders_who_leave_before_departure_are_not_missed(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        ids = lanes.send(raw(), raw(), raw())
        lanes.leave(ids[1])
        first, second, third = await lanes.answers(ids)
        assert first is not None
        assert second is None
        assert third is not None
        assert first.status == third.status == b"0"
        assert {status: n for (_, status), n in lanes.router.calls.items()} == {
            "OK": 2, "CANCELLED": 1,
        }  # fmt: skip


@pytest.mark.parametrize("early", [0, 2])
@pytest.mark.parametrize("stay", [0, 1])
@on_loop
async def test_riders_who_wait_as_one_are_given_up_when_all_have_left(
    stay: int, early: int, tmp_path: Path
) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        lanes.pool.held = True
        ids = lanes.send(*[raw()] * 4)
        lanes.leave(*ids[4 - early :])
        await turns(12)
        queue = lanes.served.batcher.queue
        assert queue.size == 4 - early
        assert len(queue.groups[()].items) == 1
        lanes.leave(*ids[stay : 4 - early])
        assert queue.size == (4 - early) * stay
        lanes.pool.held = False
        assert (await lanes.only(raw(FOUR * 2), ordinary=True)).status == b"0"
        answers = await lanes.answers(ids[:stay])
        assert [answer and answer.status for answer in answers] == [b"0"] * stay
        assert lanes.served.statistics.success.count == 1 + (4 - early) * stay
        assert sum(lanes.router.calls.values()) == 5


@on_loop
async def test_a_rider_alone_waits_as_any_other_and_is_cancelled_at_once(tmp_path: Path) -> None:
    config = ModelConfig(dynamic_batching=FULL)
    async with GrpcLanes(identity(), tmp_path, config) as lanes:
        lanes.pool.held = True
        first = lanes.send(raw())
        assert await lanes.answers(first) == [None]
        refused = await lanes.only(raw())
        assert refused.status == b"14"
        lanes.leave(*first)
        assert lanes.served.batcher.queue.size == 0
        assert lanes.served.statistics.fail.count == 2


@on_loop
async def test_riders_whose_group_fails_come_again_by_themselves(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        lanes.pool.held = True
        ids = lanes.send(*[raw(FOUR + number) for number in range(3)])
        await turns(12)
        lanes.leave(ids[1])
        lanes.served.batcher.fail_waiting(BackendError("once"))
        lanes.pool.held = False
        first, second, third = await lanes.answers(ids)
        assert first is not None
        assert second is None
        assert third is not None
        assert first.status == third.status == b"0"
        assert len(lanes.walked) == 2


@on_loop
async def test_a_call_with_a_deadline_has_it_in_the_queue(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        for timeout in (b"1H", b"99999999H"):
            express = await lanes.only(raw(), grpc_timeout=timeout)
            assert express.comparable == (await lanes.only(raw(), ordinary=True)).comparable
        for timeout in (b"0m", b"1n"):
            assert (await lanes.only(raw(), grpc_timeout=timeout)).status == b"4"
        assert lanes.served.statistics.success.count == 4
        lanes.pool.held = True
        ids = lanes.send(raw(), raw(), grpc_timeout=b"50S")
        assert await lanes.answers(ids) == [None, None]
        await clock().pass_time(51)
        for answer in await lanes.answers(ids):
            assert answer is not None
            assert answer.status == b"4"
        assert lanes.served.batcher.queue.size == 0


@on_loop
async def test_the_policy_of_a_model_is_kept(tmp_path: Path) -> None:
    config = ModelConfig(dynamic_batching=ModelDynamicBatching(preserve_ordering=True))
    async with GrpcLanes(identity(), tmp_path, config) as lanes:
        assert (await lanes.only(raw())).status == b"0"
        assert len(lanes.walked) == 1


@on_loop
async def test_a_model_that_is_not_there_and_a_server_that_drains(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        lanes.plane.draining = True
        assert (await lanes.only(raw())).comparable == (
            await lanes.only(raw(), ordinary=True)
        ).comparable
        assert (await lanes.only(raw())).status == b"14"
        lanes.plane.draining = False
        served = lanes.lanes.manager.default.pop("m")
        assert (await lanes.only(raw())).status == b"14"
        lanes.lanes.manager.default["m"] = served
        assert (await lanes.only(raw())).status == b"0"


@on_loop
async def test_each_answer_has_the_id_of_its_own_request(tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        ids = [
            *lanes.send(raw(), x_request_id=b"mine"),
            *lanes.send(raw(), x_request_id=b"not sane \xff"),
            *lanes.send(raw(), raw()),
        ]
        found = [answer.fields[b"x-request-id"] for answer in await lanes.answers(ids) if answer]
        assert found[0] == b"mine"
        assert len(set(found)) == 4
        assert b"not sane" not in found[1]
