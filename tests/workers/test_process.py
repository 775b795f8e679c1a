"""A worker's process from the server's end of its socket: what it cannot read, and how it ends."""

import asyncio
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inferd.config.model import ModelConfig, ModelInput, ModelOutput, ModelTransactionPolicy
from inferd.config.scheduling import ModelDynamicBatching
from inferd.errors import InferdError, InvalidRequest
from inferd.types.datatype import FP32
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import (
    Answer,
    Ask,
    Command,
    Done,
    Event,
    Loaded,
    Part,
    Particulars,
    Refused,
    Run,
    Start,
    Took,
)
from inferd.workers.process import Worker

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x") for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())]) for x in inputs
        ]
"""

ASKS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x")
        ask = pb_utils.InferenceRequest(
            model_name="other", requested_output_names=["y"], inputs=[x])
        return [pb_utils.InferenceResponse(error=ask.exec().error())]
"""

TOGETHER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x")
        if x.shape() == [1, 1]:
            pb_utils.InferenceRequest(
                model_name="other", requested_output_names=["y"], inputs=[x]).exec()
        for request in requests:
            y = pb_utils.Tensor("y", np.full((1, 1), len(requests), np.float32))
            request.get_response_sender().send(pb_utils.InferenceResponse([y]), flags=1)
"""

BABBLES = """
import os, sys

class TritonPythonModel:
    def execute(self, requests):
        os.write(int(sys.argv[1]), bytes((0, 0, 0, 1, 0xc1)))
"""

STUBBORN = """
import sys, threading

class TritonPythonModel:
    def initialize(self, args):
        threading.Thread(target=threading.Event().wait).start()
        sys.stdout.close()
        raise ValueError("no weights")

    def execute(self, requests):
        return []
"""

CONFIG = ModelConfig(
    max_batch_size=4,
    input=(ModelInput(name="x", data_type="TYPE_FP32", dims=(-1,)),),
    output=(ModelOutput(name="y", data_type="TYPE_FP32", dims=(1,)),),
)
DECOUPLED = msgspec.structs.replace(
    CONFIG,
    dynamic_batching=ModelDynamicBatching(),
    model_transaction_policy=ModelTransactionPolicy(decoupled=True),
)
UNKNOWN = {0: Particulars(parameters={"a": None})}  # type: ignore[dict-item]


class Heard:
    """A worker, and what it says."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.ended: asyncio.Future[InferdError] = asyncio.get_running_loop().create_future()
        self.worker = Worker("m", self.events.put_nowait, self.ended.set_result)

    async def next(self) -> Event:
        async with asyncio.timeout(20):
            return await self.events.get()

    async def after(self, *commands: Command) -> list[Event]:
        """What the worker says to some commands, an event to each."""
        for command in commands:
            self.worker.send(command)
        return [await self.next() for _ in commands]

    async def end(self) -> str:
        async with asyncio.timeout(20):
            return str(await self.ended)


@asynccontextmanager
async def started(folder: Path, source: str, config: ModelConfig = CONFIG) -> AsyncIterator[Heard]:
    file = folder / "1" / "model.py"
    file.parent.mkdir()
    file.write_text(source)
    heard = Heard()
    start = Start("m", "python", f"{file}:TritonPythonModel", config, 1, False, "", logging.INFO)
    await heard.worker.start(sys.executable, start, {})
    try:
        yield heard
    finally:
        await heard.worker.close()


def run(job: int, particulars: dict[int, Particulars], shape: tuple[int, int] = (1, 1)) -> Run:
    x = pack_inline(FP32, np.ones(shape, np.float32))
    return Run(job, job, "predict", [x], [shape[0]], [""], False, particulars)


def test_a_job_that_cannot_be_read_is_refused_and_the_next_is_run(tmp_path: Path) -> None:
    async def test() -> None:
        async with started(tmp_path, ECHO) as heard:
            assert isinstance(await heard.next(), Loaded)
            refused, done = await heard.after(run(1, UNKNOWN), run(2, {}))
            assert isinstance(refused, Refused)
            assert refused.job == 1
            assert isinstance(refused.error, InvalidRequest)
            assert isinstance(done, Done)
            assert (done.job, done.errors) == (2, {})

    asyncio.run(test())


def test_an_answer_that_cannot_be_read_is_an_error_to_who_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with started(tmp_path, ASKS) as heard:
            assert isinstance(await heard.next(), Loaded)
            (ask,) = await heard.after(run(1, {}))
            assert isinstance(ask, Ask)
            (done,) = await heard.after(Answer(ask.ask, {}, parameters={"a": None}))  # type: ignore[dict-item]
            assert isinstance(done, Done)
            assert "cannot take what it is told" in str(done.errors[0])

    asyncio.run(test())


def test_a_worker_that_cannot_read_anything_else_ends_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with started(tmp_path, ECHO) as heard:
            assert isinstance(await heard.next(), Loaded)
            heard.worker.send(Took(1, "many"))  # type: ignore[arg-type]
            assert "exit status 1" in await heard.end()

    asyncio.run(test())


@pytest.mark.parametrize(("ragged", "together"), [(False, [2, 2, 1, 1]), (True, [3, 3, 3, 1])])
def test_streamed_requests_come_together_as_their_shapes_and_the_batch_allow(
    tmp_path: Path, ragged: bool, together: list[int]
) -> None:
    """While the first asks, the others arrive."""
    x = msgspec.structs.replace(CONFIG.input[0], allow_ragged_batch=ragged)
    config = msgspec.structs.replace(DECOUPLED, input=(x,))
    shapes = [(1, 2), (1, 2), (1, 3), (4, 3)]

    async def test() -> None:
        async with started(tmp_path, TOGETHER, config) as heard:
            assert isinstance(await heard.next(), Loaded)
            (ask,) = await heard.after(run(1, {}))
            assert isinstance(ask, Ask)
            for job, shape in enumerate(shapes, 2):
                heard.worker.send(run(job, {}, shape))
            heard.worker.send(Answer(ask.ask, {}))
            told = [await heard.next() for _ in range(2 * (1 + len(shapes)))]
            parts = {event.job: event.outputs[0] for event in told if isinstance(event, Part)}
            seen = [unpack(parts[job], None, False) for job in range(2, 6)]  # type: ignore[arg-type]
            assert [int(array.item()) for array in seen] == together

    asyncio.run(test())


def test_a_worker_that_says_what_cannot_be_read_is_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with started(tmp_path, BABBLES) as heard:
            assert isinstance(await heard.next(), Loaded)
            heard.worker.send(run(1, {}))
            assert "'m' said what cannot be read" in await heard.end()

    asyncio.run(test())


def test_threads_of_a_model_that_does_not_load_hold_nobody_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with started(tmp_path, STUBBORN) as heard:
            assert "ValueError: no weights" in await heard.end()

    asyncio.run(test())


def test_a_process_that_cannot_be_started_leaves_no_files_open() -> None:
    async def test() -> None:
        start = Start("m", "python", "model.py", CONFIG, 1, False, "", logging.INFO)
        free, most = os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(free)
        before = os.listdir("/proc/self/fd")
        for spare in range(1, 7):  # memory, two sockets, a pipe, and what starts the process
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, most[1]))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    await Heard().worker.start(sys.executable, start, {})
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, most)
        assert os.listdir("/proc/self/fd") == before

    asyncio.run(test())
