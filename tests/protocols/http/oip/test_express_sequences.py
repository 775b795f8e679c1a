"""Requests of sequences in the express lane: the same answers in the same order, faster."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto

from fakes import FakeTraceSink, on_loop, turns
from inferd.batching.batcher import BatchResult
from inferd.config.model import ModelConfig
from inferd.errors import BackendError
from inferd.observability.tracing import Tracing
from inferd.types.tensor import Array
from protocols.http.harness import Answer, Wire, request
from protocols.http.oip.lanes import Lanes, comparable
from protocols.http.oip.wire import body, given
from sequence_models import CONTROLS, STATE, accumulator, corrid

MODEL = accumulator(TensorProto.UINT64)


def lanes(folder: Path, **batching: Any) -> Lanes:
    told = {"control_input": [*CONTROLS, corrid("TYPE_UINT64")], "state": [STATE]}
    strategy = batching or {"oldest": {"max_candidate_sequences": 64}}
    config = {"max_batch_size": 8, "sequence_batching": {**told, **strategy}}
    return Lanes(MODEL, folder, msgspec.convert(config, ModelConfig))


def asked(
    id: object = 1, value: object = 1.0, start: object = False, end: object = False,
    shape: tuple[int, ...] = (1, 1), **more: object,
) -> bytes:  # fmt: skip
    said = {"sequence_id": id, "sequence_start": start, "sequence_end": end, **more}
    return body(given("x", "FP32", list(shape), [value]), parameters=said)


def sums(answers: list[list[Answer]]) -> list[float]:
    return [json.loads(answer.body)["outputs"][0]["data"][0] for (answer,) in answers]


@pytest.mark.parametrize("held", [False, True], ids=["at once", "queued"])
@on_loop
async def test_steps_that_come_together_are_answered_as_in_the_ordinary_way(
    held: bool, tmp_path: Path
) -> None:
    async with lanes(tmp_path) as express:
        heard: dict[bool, list[Any]] = {False: [], True: []}
        for ordinary in (False, True):
            for step in range(4):
                bodies = [asked(id, id * 10.0**step, step == 0, step == 3) for id in range(1, 7)]
                answers = await ask(express, *bodies, held=held, ordinary=ordinary)
                heard[ordinary] += [comparable(answer) for (answer,) in answers]
        assert heard[False] == heard[True]
        assert {status for status, _, _ in heard[False]} == {200}
        assert express.ordinary == [], "they did not ride"
        assert express.trouble == []
        statistics = express.served.statistics
        assert statistics.success.count == 48
        assert express.served.sequences is not None
        assert express.served.sequences.table.sequences == {}
        assert express.served.sequences.in_flight == 0


async def ask(
    express: Lanes, *bodies: bytes, held: bool = True, ordinary: bool = False
) -> list[list[Answer]]:
    """The answers to bodies that come in one turn, while the instance is held or is not."""
    express.pool.held = held
    headers = {"x_ordinary": "1"} if ordinary else {}
    wires = [Wire(listener=express.listener) for _ in bodies]
    for wire, one in zip(wires, bodies, strict=True):
        wire.feed(request("/v2/models/m/infer", one, **headers))
    await turns(12)
    await release(express)
    return [wire.answers() for wire in wires]


async def release(express: Lanes) -> None:
    express.pool.held = False
    express.served.batcher.look()
    await turns(20)


OTHERS = {
    "no sequence": body(given("x", "FP32", [1, 1], [1.0])),
    "an id of zero": asked(0),
    "an id of no characters": asked(""),
    "a text for a number": asked("one", start=True),
    "a fraction": asked(1.5),
    "below zero": asked(-1),
    "too large": asked(2**64),
    "too long": asked("x" * 129),
    "a start that is a number": asked(start=1),
    "nothing as an end": asked(end=None),
    "another parameter": asked(start=True, flavour="sweet"),
    "a time-out": asked(start=True, timeout=1_000_000),
    "priority": asked(start=True, priority=1),
    "an id of its own": body(given("x", "FP32", [1, 1], [1.0]), id="a", parameters={
        "sequence_id": 1, "sequence_start": True}),
    "an output": body(given("x", "FP32", [1, 1], [1.0]), outputs=[{"name": "y"}], parameters={
        "sequence_id": 1, "sequence_start": True}),
    "two rows": body(given("x", "FP32", [2, 1], [1.0, 2.0]), parameters={"sequence_id": 1}),
    "text": asked(value="1", start=True),
    "too large for its float": asked(value=10**400, start=True),
    "not started": asked(77),
    "not JSON": b'{"parameters":{"sequence_id":1,',
    "deep": b'{"parameters":' + b"[" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@on_loop
async def test_any_other_gets_the_ordinary_answer(name: str, tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        mine = await express.only(OTHERS[name])
        express.served.sequences.table.expire(2**62)  # type: ignore[union-attr]
        ordinary = await express.only(OTHERS[name], ordinary=True)
        assert comparable(mine) == comparable(ordinary)
        assert express.trouble == []


@pytest.mark.parametrize("held", [False, True], ids=["at once", "queued"])
@on_loop
async def test_nobody_overtakes_one_of_its_own_sequence_that_cannot_ride(
    held: bool, tmp_path: Path
) -> None:
    async with lanes(tmp_path) as express:
        walks = body(given("x", "FP32", [1, 1], [10.0]), id="a", parameters={"sequence_id": 1})
        asks = [
            asked(1, 1.0, start=True),
            asked(2, 5.0, start=True),
            walks,
            asked(1, 100.0, end=True),
        ]
        assert sums(await ask(express, *asks, held=held)) == [1, 5, 11, 111]
        assert len(express.ordinary) == 1
        assert express.trouble == []


@on_loop
async def test_steps_of_one_sequence_that_come_together_run_in_order(tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        asks = [asked(3, 10.0**place, place == 0, place == 4) for place in range(5)]
        assert sums(await express.ask(*asks)) == [1, 11, 111, 1111, 11111]
        assert express.ordinary == []


@pytest.mark.parametrize("strategy", [
    {"direct": {}}, {"oldest": {"max_candidate_sequences": 16}},
    {"oldest": {"max_candidate_sequences": 64, "preferred_batch_size": [2]}},
    {"oldest": {"max_candidate_sequences": 64, "preserve_ordering": True}},
], ids=["direct", "oldest", "preferred sizes", "in order"])  # fmt: skip
@on_loop
async def test_whatever_the_strategy_each_gets_its_own_sum(
    strategy: dict[str, Any], tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with lanes(tmp_path, **strategy) as express:
        left = dict.fromkeys(range(1, 9), 4)
        totals: dict[int, float] = {}
        while left:
            ids = chance.sample(sorted(left), min(len(left), chance.randint(1, 5)))
            expected, asks = [], []
            for id in ids:
                value = float(chance.randint(1, 100))
                totals[id] = value + totals.get(id, 0)
                expected.append(totals[id])
                asks.append(asked(id, value, left[id] == 4, left[id] == 1))
                left[id] -= 1
                if not left[id]:
                    del left[id]
            got = await express.ask(*asks)
            await turns(8)
            assert sums(got) == expected
        assert express.ordinary == []
        assert express.trouble == []


@on_loop
async def test_more_than_a_batch_holds_go_in_several(tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        asks = [asked(id, float(id), start=True) for id in range(1, 20)]
        assert sums(await express.ask(*asks)) == [float(id) for id in range(1, 20)]
        assert express.served.statistics.execution_count == 3
        assert express.ordinary == []


@on_loop
async def test_one_who_leaves_while_it_waits_takes_what_came_behind_it_along(
    tmp_path: Path,
) -> None:
    async with lanes(tmp_path) as express:
        express.pool.held = True
        wires = [Wire(listener=express.listener) for _ in range(4)]
        asks = [asked(1, 1.0, start=True), asked(2, 1.0, start=True), asked(1), asked(2)]
        for wire, one in zip(wires, asks, strict=True):
            wire.feed(request("/v2/models/m/infer", one))
        await turns(12)
        wires[0].leave()
        await turns(2)
        assert express.served.batcher.waiting == 2
        await release(express)
        assert [wire.statuses() for wire in wires] == [[], [200], [499], [200]]
        assert express.served.sequences.in_flight == 0  # type: ignore[union-attr]
        assert express.trouble == []


@on_loop
async def test_riders_that_a_full_queue_refuses_are_told(tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        express.served.sequences.table.max_waiting = 2  # type: ignore[union-attr]
        answers = await ask(express, *[asked(id, start=True) for id in range(1, 5)])
        assert [some[0].status for some in answers] == [200, 200, 503, 503]


@on_loop
async def test_a_rider_at_fault_fails_alone(tmp_path: Path) -> None:
    """The model raises where one of a batch is 13: the others of the batch are answered."""
    async with lanes(tmp_path) as express:
        (instance,) = express.pool._free
        run = instance.run

        def unlucky(inputs: list[Array]) -> list[Array]:
            if (inputs[0] == 13).any():
                raise BackendError("unlucky")
            return run(inputs)

        instance.run = unlucky  # type: ignore[method-assign]
        answers = await express.ask(*[asked(id, float(id), start=True) for id in range(10, 16)])
        await turns(20)
        assert [some[0].status for some in answers] == [200, 200, 200, 500, 200, 200]
        assert b"unlucky" in answers[3][0].body
        following = await express.ask(*[asked(id, 100.0, end=True) for id in (10, 11, 15)])
        assert sums(following) == [110, 111, 115]
        assert express.trouble == []


@pytest.mark.parametrize("held", [False, True], ids=["at once", "queued"])
@on_loop
async def test_answers_that_cannot_be_written_are_an_error_of_each(
    held: bool, tmp_path: Path
) -> None:
    async with lanes(tmp_path) as express:
        (instance,) = express.pool._free
        run = instance.run
        instance.run = lambda inputs: [  # type: ignore[method-assign]
            output.astype(np.complex64) if output.dtype == np.float32 else output
            for output in run(inputs)
        ]
        asks = [asked(id, start=True, end=True) for id in (1, 2)]
        answers = await ask(express, *asks, held=held)
        assert [[answer.status for answer in some] for some in answers] == [[500], [500]]
        assert express.served.sequences.in_flight == 0  # type: ignore[union-attr]
        assert express.trouble == []


@on_loop
async def test_an_answer_that_says_more_is_told_whole(tmp_path: Path) -> None:
    """What a model says beside its outputs is not left out for being told together."""
    async with lanes(tmp_path) as express:
        run = express.pool.run

        def saying(batch: Any, done: Any, alone: bool = True) -> None:
            def more(ran: Any, result: BatchResult) -> None:
                result.parameters = {0: {"flavour": "sweet"}}
                done(ran, result)

            run(batch, more, alone)

        express.pool.run = saying  # type: ignore[method-assign]
        waiting = await ask(express, *[asked(id, start=True) for id in (1, 2)])
        told = [json.loads(answer.body).get("parameters") for (answer,) in waiting]
        assert told == [{"flavour": "sweet"}, None]


@on_loop
async def test_each_answer_has_the_id_of_its_own_request(tmp_path: Path) -> None:
    for held in (False, True):
        async with lanes(tmp_path) as express:
            express.pool.held = held
            wires = [Wire(listener=express.listener) for _ in range(3)]
            for number, wire in enumerate(wires):
                one = asked(number + 1, start=True)
                wire.feed(request("/v2/models/m/infer", one, x_request_id=f"id-{number}"))
            await turns(12)
            await release(express)
            ids = [wire.answers()[0].headers["x-request-id"] for wire in wires]
            assert ids == ["id-0", "id-1", "id-2"]


@on_loop
async def test_requests_that_are_traced_take_the_ordinary_way(tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        sink = FakeTraceSink()
        tracing = Tracing(sink)
        express.served.trace_to(tracing.model("m"))
        tracing.change({"timestamps": True, "rate": 1, "count": 2})
        assert sums(await express.ask(asked(1, start=True), asked(2, start=True))) == [1, 1]
        assert len(express.ordinary) == 2
        tracing.flush()
        assert len(sink.traces) == 2


@pytest.mark.parametrize("accept", ["gzip", "identity"])
@on_loop
async def test_values_are_those_of_the_ordinary_way(accept: str, tmp_path: Path) -> None:
    async with lanes(tmp_path) as express:
        with np.errstate(over="ignore"):
            for value in (0.1, 1e39, 2**54 + 2**30 + 1, 1e-40, -0.0):
                one = asked(5, value, start=True, end=True)
                mine = await express.only(one, accept_encoding=accept)
                ordinary = await express.only(one, ordinary=True, accept_encoding=accept)
                assert comparable(mine) == comparable(ordinary)
        assert express.ordinary == []
