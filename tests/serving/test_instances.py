"""Instance groups of loaded models: where instances run, which of them get requests, and what they
need to run."""

import logging
from pathlib import Path

import pytest

from backends.onnx_models import add, write
from fakes import on_loop
from inferd.batching.rate_limiter import RateLimiter
from inferd.errors import InvalidRequest, ModelUnavailable
from inferd.observability.machine import gpu_count, has_gpu
from serving.managed import Managed

PASSIVE = "instance_group: [{count: 2, passive: true}]\n"
MIXED = "instance_group: [{count: 2, passive: true}, {count: 1, kind: KIND_CPU}]\n"
LIMITED = "instance_group: [{rate_limiter: {resources: [{name: R, count: %d}]}}]\n"

TELLS = '''
import os
from pathlib import Path
from typing import Annotated
import numpy as np
import numpy.typing as npt
import inferd

Rows = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)]

class Tells(inferd.Model, max_batch_size=1):
    """Its answer is the worker it was."""

    def load(self) -> None:
        Path("{folder}", f"{{os.getpid()}}").write_text(self.device)

    def predict(self, x: Rows) -> Rows:
        return np.full_like(x, os.getpid())
'''


def python_model(root: Path, config: str) -> Path:
    """A repository with a model in Python, whose workers tell of their devices in a folder."""
    told, version = root / "told", root / "models" / "m" / "1"
    told.mkdir()
    version.mkdir(parents=True)
    (version / "model.py").write_text(TELLS.format(folder=told))
    (version.parent / "config.yaml").write_text(config)
    return told


@on_loop
async def test_passive_instances_are_loaded_beside_those_that_answer(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1, MIXED)
    async with Managed(tmp_path) as managed:
        await managed.manager.load("m")
        assert await managed.ask() == 1


@on_loop
async def test_a_model_with_passive_instances_only_is_ready_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1, PASSIVE)
    async with Managed(tmp_path) as managed:
        await managed.apply()
        assert managed.manager.all_ready()
        with pytest.raises(ModelUnavailable, match="all its instance groups are passive"):
            await managed.ask()
        served = managed.manager.predictive("m")
        assert not served.runs_now(1)
        assert served.submit_riders([], 2, 0, lambda answer: None) is None


@on_loop
async def test_passive_workers_are_loaded_and_given_nothing(tmp_path: Path) -> None:
    told = python_model(tmp_path, MIXED)
    async with Managed(tmp_path / "models") as managed:
        await managed.manager.load("m")
        workers = {int(file.name): file.read_text() for file in told.iterdir()}
        assert len(workers) == 3
        answered = {int(await managed.ask()) for _ in range(6)}
    (busy,) = answered
    assert workers.pop(busy) == "cpu"


@on_loop
async def test_a_model_with_passive_workers_only_says_so(tmp_path: Path) -> None:
    told = python_model(tmp_path, PASSIVE)
    async with Managed(tmp_path / "models") as managed:
        await managed.manager.load("m")
        assert len(list(told.iterdir())) == 2
        with pytest.raises(ModelUnavailable, match="all its instance groups are passive"):
            await managed.ask()


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
@on_loop
async def test_a_class_in_python_that_wants_a_gpu_needs_one(tmp_path: Path) -> None:
    python_model(tmp_path, "instance_group: [{kind: KIND_GPU, gpus: [0]}]\n")
    async with Managed(tmp_path / "models") as managed:
        with pytest.raises(InvalidRequest, match=r"instance_group\.kind: KIND_GPU needs a GPU"):
            await managed.manager.load("m")


@on_loop
async def test_kind_gpu_is_so_many_instances_on_each_gpu(tmp_path: Path) -> None:
    told = python_model(tmp_path, "instance_group: [{kind: KIND_GPU, count: 2}, {}]\n")
    async with Managed(tmp_path / "models", gpus=2) as managed:
        await managed.manager.load("m")
        assert managed.manager.predictive("m").instance_count == 5
        devices = sorted(file.read_text() for file in told.iterdir())
        assert devices == ["cpu", "cuda:0", "cuda:0", "cuda:1", "cuda:1"]


@on_loop
async def test_what_changes_nothing_is_told_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "m", add(1), 1, "instance_group: [{}, {host_policy: near}]\n")
    with caplog.at_level(logging.WARNING, "inferd.models"):
        async with Managed(tmp_path) as managed:
            await managed.manager.load("m")
    (record,) = caplog.records
    assert record.__dict__["field"] == "instance_group.host_policy"


@pytest.mark.parametrize("limiter", [None, RateLimiter(), RateLimiter({("R", None): 2})])
@on_loop
async def test_a_model_loads_where_its_resources_are_or_nobody_counts_them(
    limiter: RateLimiter | None, tmp_path: Path
) -> None:
    write(tmp_path, "m", add(1), 1, LIMITED % 2)
    async with Managed(tmp_path, limiter=limiter) as managed:
        await managed.manager.load("m")
        assert [await managed.ask() for _ in range(3)] == [1, 1, 1]


@on_loop
async def test_a_model_that_asks_for_more_than_there_is_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1, LIMITED % 3)
    async with Managed(tmp_path, limiter=RateLimiter({("R", None): 2})) as managed:
        with pytest.raises(InvalidRequest, match='Resource count for "R" is limited to 2'):
            await managed.manager.load("m")


@on_loop
async def test_a_model_that_is_gone_needs_nothing_any_more(tmp_path: Path) -> None:
    shared = "instance_group: [{rate_limiter: {resources: [{name: R, global: true}]}}]\n"
    write(tmp_path, "m", add(1), 1, LIMITED % 1)
    write(tmp_path, "n", add(2), 1, shared)
    write(tmp_path, "broken", b"no model", 1, shared.replace("name: R", "name: S"))
    write(tmp_path, "other", add(3), 1, LIMITED.replace("name: R", "name: S") % 1)
    async with Managed(tmp_path, limiter=RateLimiter()) as managed:
        await managed.manager.load("m")
        with pytest.raises(InvalidRequest, match="both global and device-specific"):
            await managed.manager.load("n")
        await managed.manager.unload("m")
        await managed.manager.settle()
        await managed.manager.load("n")
        assert await managed.ask("n") == 2
        with pytest.raises(InvalidRequest, match="load failed"):
            await managed.manager.load("broken")
        await managed.manager.load("other")


@on_loop
async def test_workers_are_limited_as_instances_are(tmp_path: Path) -> None:
    python_model(tmp_path, LIMITED % 1)
    async with Managed(tmp_path / "models", limiter=RateLimiter()) as managed:
        await managed.manager.load("m")
        assert len({await managed.ask() for _ in range(3)}) == 1


def test_gpus_are_counted_as_cuda_shows_them(tmp_path: Path) -> None:
    assert gpu_count({}, tmp_path) == 0
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert gpu_count({}, tmp_path) == 3
    for visible, count in {
        "": 0, "-1": 0, "2": 1, "1,0": 2, "0, 1,-1,2": 2, "GPU-8932f937,1": 2, "0,1,2,3,4": 3,
        "MIG-1/7/0": 1, "MIG-1,MIG-2": 1,
    }.items():  # fmt: skip
        assert gpu_count({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == count


def test_only_devices_make_a_gpu(tmp_path: Path) -> None:
    assert not has_gpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert not has_gpu(tmp_path)
    (tmp_path / "dev" / "nvidia0").touch()
    assert has_gpu(tmp_path)
