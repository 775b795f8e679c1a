"""How ensembles come and go with the models of their steps."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from backends.onnx_models import add, write
from fakes import on_loop
from inferd.caching.local import LocalCache
from inferd.errors import InferdError, InvalidRequest
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.model import ModelReadyState
from inferd.types.tensor import Tensor
from serving.ensembles.graphs import config
from serving.managed import Managed

READY, GONE = ModelReadyState.READY, ModelReadyState.UNAVAILABLE
LINE = "a(x=x) -> y=t", "b(x=t) -> y=out"


def write_ensemble(
    folder: Path, *written: str, name: str = "e", columns: int = 2, version: bool = False
) -> None:
    (folder / name).mkdir(exist_ok=True)
    if version:
        (folder / name / "1").mkdir()
    said = config(*written, inputs="x").ensemble_scheduling
    assert said is not None
    document = {
        "platform": "ensemble",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [columns]}],
        "output": [{"name": "out", "data_type": "TYPE_FP32", "dims": [columns]}],
        "ensemble_scheduling": {
            "step": [
                {"model_name": s.model_name, "input_map": s.input_map, "output_map": s.output_map}
                for s in said.step
            ]
        },
    }
    (folder / name / "config.json").write_text(json.dumps(document))


def repository(folder: Path, **more: bool) -> None:
    write(folder, "a", add(1))
    write(folder, "b", add(10))
    write_ensemble(folder, *LINE, **more)


def reason(managed: Managed, name: str = "e") -> str:
    ((_, told),) = [found for (one, _), found in managed.states().items() if one == name]
    return told


async def everything(managed: Managed, retry: bool = True) -> None:
    await managed.manager.apply_all(await managed.manager.scan(), retry)


@on_loop
async def test_members_are_loaded_before_the_ensemble(tmp_path: Path) -> None:
    repository(tmp_path, version=True)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert await managed.ask("e") == 11
        assert managed.manager.all_ready()
        assert {state for state, _ in managed.states().values()} == {READY}


@on_loop
async def test_loading_an_ensemble_loads_its_members(tmp_path: Path) -> None:
    repository(tmp_path)
    write(tmp_path, "other", add(3))
    async with Managed(tmp_path) as managed:
        await managed.manager.load("e")
        assert await managed.ask("e") == 11
        assert {name for name, _ in managed.states()} == {"a", "b", "e"}


PBTXT = """
platform: "ensemble"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "out" data_type: TYPE_FP32 dims: [ 2 ] }
ensemble_scheduling {
  step {
    model_name: "a" model_version: -1
    input_map { key: "x" value: "x" } output_map { key: "y" value: "t" }
  }
  step {
    model_name: "b" model_version: 1
    input_map { key: "x" value: "t" } output_map { key: "y" value: "out" }
  }
  max_inflight_requests: 4
}
"""


@on_loop
async def test_an_ensemble_of_tritons_own_repository_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "a", add(1))
    write(tmp_path, "b", add(10))
    (tmp_path / "e" / "1").mkdir(parents=True)
    (tmp_path / "e" / "config.pbtxt").write_text(PBTXT)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert await managed.ask("e") == 11


@on_loop
async def test_an_ensemble_may_be_a_step_of_another(tmp_path: Path) -> None:
    repository(tmp_path)
    write_ensemble(tmp_path, "e(x=x) -> out=t", "a(x=t) -> y=out", name="whole")
    async with Managed(tmp_path) as managed:
        await managed.manager.load("whole")
        assert await managed.ask("whole") == 12


@on_loop
async def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a", add(1))
    write_ensemble(tmp_path, *LINE)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert managed.states()["e", 1][0] is GONE
        assert "step 2 (model 'b')" in reason(managed)
        assert "'b' is not found" in reason(managed)
        write(tmp_path, "b", add(10))
        await everything(managed, retry=False)  # it comes with what it waited for
        assert await managed.ask("e") == 11


@on_loop
async def test_what_is_wrong_with_a_member_is_told(tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "b" / "1" / "model.onnx").write_bytes(b"no model")
    async with Managed(tmp_path) as managed:
        with pytest.raises(InvalidRequest, match=r"step 2 \(model 'b'\)"):
            await managed.manager.load("e")


@on_loop
async def test_ensembles_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", add(1))
    write_ensemble(tmp_path, "two(x=x) -> out=out", name="one")
    write_ensemble(tmp_path, "one(x=x) -> out=out", name="two")
    write_ensemble(tmp_path, "self(x=x) -> out=out", name="self")
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert "one -> two -> one" in reason(managed, "one")
        assert "self -> self" in reason(managed, "self")
        assert await managed.ask("a") == 1


@on_loop
async def test_an_ensemble_is_ready_while_its_members_are(tmp_path: Path) -> None:
    repository(tmp_path)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        await managed.manager.unload("b")
        assert managed.states()["e", 1][0] is GONE
        assert "step 2 (model 'b')" in reason(managed)
        assert managed.manager.resolve("e").trouble
        assert not managed.manager.all_ready()
        await managed.manager.load("b")
        assert managed.states()["e", 1] == (READY, "")
        assert await managed.ask("e") == 11


@on_loop
async def test_a_member_that_is_loaded_again_is_used_at_once(tmp_path: Path) -> None:
    repository(tmp_path)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        before = managed.manager.resolve("e")
        write(tmp_path, "b", add(20), 2)
        await managed.manager.load("b")
        assert await managed.ask("e") == 21
        assert managed.manager.resolve("e") is before


@on_loop
async def test_an_ensemble_is_made_anew_when_a_members_tensors_change(tmp_path: Path) -> None:
    repository(tmp_path)
    write(tmp_path, "a", add(1), config="max_batch_size: 16\n")
    async with Managed(tmp_path) as managed:
        await everything(managed)
        before = managed.manager.resolve("e")
        write(tmp_path, "a", add(2), config="max_batch_size: 32\n")
        await managed.manager.load("a")
        assert await managed.ask("e") == 12
        assert managed.manager.resolve("e") is not before
        write(tmp_path, "a", add(2, columns=3), 2)  # this does not fit any more
        await managed.manager.load("a")
        assert managed.states()["e", 1][0] is GONE
        assert "other tensors" in managed.manager.resolve("e").trouble


@on_loop
async def test_models_that_came_with_an_ensemble_go_with_it(tmp_path: Path) -> None:
    repository(tmp_path)
    write_ensemble(tmp_path, "a(x=x) -> y=out", name="other")
    async with Managed(tmp_path) as managed:
        await managed.manager.load("e")
        await managed.manager.load("other")
        await managed.manager.unload("e")
        assert await managed.ask("b") == 10
        await managed.manager.load("e")
        await managed.manager.unload("e", dependents=True)
        gone = {name for (name, _), (state, _) in managed.states().items() if state is not READY}
        assert gone == {"e", "b"}  # the other one needs a
        await managed.manager.load("a")  # now somebody wants it for itself
        await managed.manager.unload("other", dependents=True)
        assert await managed.ask("a") == 1


@on_loop
async def test_what_an_ensemble_has_begun_it_ends_before_its_models_go(tmp_path: Path) -> None:
    repository(tmp_path)
    async with Managed(tmp_path) as managed:
        await managed.manager.load("e")
        answers: list[InferenceResponse | InferdError] = []
        zeros = Tensor("x", FP32, np.zeros((1, 2), np.float32))
        served = managed.manager.predictive("e")
        served.submit(InferenceRequest("e", "", [zeros]), answers.append)
        await managed.manager.unload("e", dependents=True)
        (answer,) = answers
        assert isinstance(answer, InferenceResponse), answer
        assert answer.outputs[0].array.tolist() == [[11, 11]]


@on_loop
async def test_models_that_are_gone_go_behind_their_ensembles(tmp_path: Path) -> None:
    repository(tmp_path)
    write_ensemble(tmp_path, "e(x=x) -> out=out", name="whole")
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert managed.manager.roster.outermost({"a", "b", "e", "whole"}) == {"whole"}
        await managed.manager.remove_all(["a", "e", "whole"])
        await managed.manager.settle()
        assert {name for name, _ in managed.states()} == {"b"}


@on_loop
async def test_an_ensemble_that_was_unloaded_does_not_come_back_with_a_member(
    tmp_path: Path,
) -> None:
    repository(tmp_path)
    async with Managed(tmp_path) as managed:
        await everything(managed)
        await managed.manager.unload("e")
        await managed.manager.unload("b")
        await managed.manager.load("b")
        await managed.manager.settle()
        assert managed.states()["e", 1][0] is GONE


@on_loop
async def test_a_configuration_of_an_ensemble_says_that_it_is_one(tmp_path: Path) -> None:
    repository(tmp_path)
    path = tmp_path / "e" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "platform": "onnxruntime_onnx"}))
    async with Managed(tmp_path) as managed:
        await everything(managed)
        assert "platform: is 'onnxruntime_onnx'" in reason(managed)
        assert "'ensemble'" in reason(managed)


# -- what is kept ---------------------------------------------------------------------------------


@on_loop
async def test_a_model_that_wants_a_cache_is_loaded_without_one_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "m", add(1), config="response_cache: {enable: true}\n")
    async with Managed(tmp_path) as managed:
        with caplog.at_level(logging.WARNING, "inferd.models"):
            await managed.manager.load("m")
        assert "the server has no cache" in caplog.text
        assert await managed.ask() == 1
        assert not managed.manager.predictive("m").keeps_answers


@on_loop
async def test_a_model_that_is_loaded_again_does_not_give_the_answers_of_the_one_before(
    tmp_path: Path,
) -> None:
    write(tmp_path, "m", add(1), config="response_cache: {enable: true}\n")
    async with Managed(tmp_path, cache=LocalCache(1 << 20)) as managed:
        await managed.manager.load("m")
        assert [await managed.ask() for _ in range(2)] == [1, 1]
        assert managed.manager.predictive("m").statistics.cache_hit.count == 1
        write(tmp_path, "m", add(2))
        (tmp_path / "m" / "1" / "more").write_text("the folder looks different")
        await managed.manager.load("m")
        assert await managed.ask() == 2
