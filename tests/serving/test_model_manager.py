import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.onnx_models import add, write
from fakes import FakeTraceSink, on_loop, turns
from inferd.config.model import All, Latest, ModelConfig, ModelVersionPolicy, Specific
from inferd.config.server import ServerConfig
from inferd.errors import (
    ConfigError,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
)
from inferd.observability.tracing import Tracing
from inferd.repository.model_config import decode_model_config
from inferd.serving.control_plane import ControlPlane
from inferd.serving.model_manager import ModelManager
from inferd.serving.version_loader import intra_op_threads
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.model import ModelReadyState, ModelStatus
from inferd.types.tensor import Tensor
from serving.managed import Managed

READY, GONE = ModelReadyState.READY, ModelReadyState.UNAVAILABLE
LONG_DELAY = "dynamic_batching: {max_queue_delay_microseconds: 60000000}\n"
ALL_VERSIONS = "version_policy: {all: {}}\n"


# -- load, reload, retire -------------------------------------------------------------------------


@on_loop
async def test_a_model_that_is_loaded_answers_and_is_ready(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.manager.load("m")
        assert await managed.ask() == 1
        assert managed.manager.index() == [ModelStatus("m", 1, READY, "")]
        assert [m.version for m in managed.manager.served_models()] == [1]


def test_a_field_that_changes_nothing_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "m", add(1), 1, "cc_model_filenames: {'7.5': model.plan}\n")
    _load_once(tmp_path)
    (record,) = [r for r in caplog.records if "changes nothing here" in r.message]
    assert (record.levelname, record.__dict__["field"]) == ("WARNING", "cc_model_filenames")
    assert "default_model_filename" in record.__dict__["why"]


@on_loop
async def _load_once(folder: Path) -> None:
    async with Managed(folder) as managed:
        await managed.manager.load("m")


@on_loop
async def test_the_highest_version_answers_who_names_none(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        write(tmp_path, "m", add(version), version, ALL_VERSIONS)
    async with Managed(tmp_path) as managed:
        await managed.apply()
        assert await managed.ask() == 10
        assert [await managed.ask(version=v) for v in ("2", "9", "10")] == [2, 9, 10]


@on_loop
async def test_a_changed_file_is_swapped_in_and_the_old_copy_closed(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        old = managed.manager.resolve("m")
        write(tmp_path, "m", add(2))
        (tmp_path / "m" / "1" / "more").write_text("the folder looks different")
        await managed.apply()
        assert await managed.ask() == 2
        assert managed.manager.resolve("m") is not old
        await managed.manager.settle()
        assert managed.states() == {("m", 1): (READY, "")}


@on_loop
async def test_requests_to_the_old_copy_are_still_answered(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        answers: list[InferenceResponse | InferdError] = []
        zeros = Tensor("x", FP32, np.zeros((1, 2), np.float32))
        managed.manager.resolve("m").submit(InferenceRequest("m", "", [zeros]), answers.append)
        write(tmp_path, "m", add(2))
        (tmp_path / "m" / "1" / "more").write_text("changed")
        await managed.apply()
        await managed.manager.settle()
        (answer,) = answers
        assert isinstance(answer, InferenceResponse)
        assert answer.outputs[0].array.tolist() == [[1, 1]]


@on_loop
async def test_what_has_not_changed_is_not_loaded_again(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        before = managed.manager.resolve("m")
        await managed.apply()
        await managed.manager.load("m")
        assert managed.manager.resolve("m") is before


@on_loop
async def test_a_new_version_takes_over_and_the_old_is_unloaded(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1)
    async with Managed(tmp_path) as managed:
        await managed.apply()
        write(tmp_path, "m", add(2), 2)
        await managed.apply()
        assert await managed.ask() == 2
        await managed.manager.settle()
        assert managed.states() == {("m", 1): (GONE, "unloaded"), ("m", 2): (READY, "")}
        with pytest.raises(ModelUnavailable, match="UNAVAILABLE unloaded"):
            managed.manager.resolve("m", "1")


@on_loop
async def test_an_unloaded_model_is_unavailable_and_can_come_back(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.manager.load("m")
        await managed.manager.unload("m")
        with pytest.raises(ModelUnavailable, match="has no available versions"):
            managed.manager.resolve("m")
        await managed.manager.settle()
        assert managed.states() == {("m", 1): (GONE, "unloaded")}
        assert managed.manager.served_models() == []
        await managed.manager.load("m")
        assert await managed.ask() == 1


@on_loop
async def test_a_model_that_has_left_the_repository_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        await managed.manager.remove_all(["m"])
        await managed.manager.settle()
        assert managed.manager.index() == []
        with pytest.raises(ModelNotFound):
            managed.manager.resolve("m")


@on_loop
async def test_what_is_asked_of_a_model_that_has_left_holds_up_no_other_change(
    tmp_path: Path,
) -> None:
    write(tmp_path, "m", add(1), config=LONG_DELAY)
    async with Managed(tmp_path) as managed:
        control = ControlPlane(managed.manager, ServerConfig(model_control_mode="poll"))
        await control.start()
        waits = managed.manager.predictive("m").submit(managed.request("m"), lambda answer: None)
        shutil.rmtree(tmp_path / "m")
        write(tmp_path, "new", add(2))
        async with asyncio.timeout(5):
            await control.poll_once()
        assert await managed.ask("new") == 2
        assert managed.states()["m", 1] == (ModelReadyState.UNLOADING, "")
        waits.cancel()
        await managed.manager.settle()
        assert set(managed.states()) == {("new", 1)}


@on_loop
async def test_a_model_that_comes_back_before_it_is_closed_stays(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), config=LONG_DELAY)
    async with Managed(tmp_path) as managed:
        await managed.apply()
        waits = managed.manager.predictive("m").submit(managed.request("m"), lambda answer: None)
        await managed.manager.remove_all(["m"])
        await managed.apply()
        waits.cancel()
        await managed.manager.settle()
        assert managed.states() == {("m", 1): (READY, "")}


@on_loop
async def test_a_load_is_finished_though_who_asked_for_it_has_left(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        control = ControlPlane(managed.manager, ServerConfig(model_control_mode="explicit"))
        asking = asyncio.ensure_future(control.load("m"))
        async with asyncio.timeout(10):
            while managed.states() != {("m", 1): (ModelReadyState.LOADING, "")}:
                await turns()
            asking.cancel()
            while managed.states() != {("m", 1): (READY, "")}:
                await turns()
        assert asking.cancelled()
        assert await managed.ask() == 1


@on_loop
async def test_what_has_come_since_is_in_the_index_before_it_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        config = ServerConfig(model_control_mode="explicit", load_model=("m",))
        control = ControlPlane(managed.manager, config)
        await control.start()
        write(tmp_path, "later", add(2))
        later = ModelStatus("later", 0, ModelReadyState.UNKNOWN)
        ready = ModelStatus("m", 1, READY, "")
        assert await control.index() == [later, ready]
        assert await control.index(ready_only=True) == [ready]
        shutil.rmtree(tmp_path)
        assert await control.index() == [ready]
        tmp_path.mkdir()


@on_loop
async def test_in_explicit_mode_only_what_was_asked_for_is_reloaded(tmp_path: Path) -> None:
    for name in ("m", "left", "never"):
        write(tmp_path, name, add(1))
    async with Managed(tmp_path) as managed:
        config = ServerConfig(model_control_mode="explicit", reload=True, load_model=("m",))
        control = ControlPlane(managed.manager, config)
        await control.start()
        await control.load("left")
        await control.unload("left")
        write(tmp_path, "m", add(2))
        (tmp_path / "m" / "1" / "more").write_text("the folder looks different")
        await control.poll_once()
        assert await managed.ask("m") == 2
        assert list(managed.manager.default) == ["m"]


@on_loop
async def test_a_model_that_cannot_be_closed_is_unloaded_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        (runner,) = managed.manager.predictive("m")._loaded.runners
        runner._instances.append(None)  # type: ignore[attr-defined]
        await managed.manager.unload("m")
        await managed.manager.settle()
        assert managed.states() == {("m", 1): (GONE, "unloaded")}


# -- failure --------------------------------------------------------------------------------------


@on_loop
async def test_a_model_that_cannot_be_loaded_says_why_and_spares_its_neighbours(
    tmp_path: Path,
) -> None:
    write(tmp_path, "bad", b"not a model")
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        state, reason = managed.states()["bad", 1]
        assert state is GONE
        assert "ONNX Runtime cannot load model.onnx" in reason
        with pytest.raises(ModelUnavailable, match="ONNX Runtime cannot load"):
            managed.manager.resolve("bad")
        assert await managed.ask() == 1
        assert not managed.manager.all_ready()


@on_loop
async def test_a_failed_reload_keeps_the_copy_that_serves(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        write(tmp_path, "m", b"broken")
        with pytest.raises(InvalidRequest, match="load failed for model 'm': version 1"):
            await managed.manager.load("m")
        assert await managed.ask() == 1
        state, reason = managed.states()["m", 1]
        assert state is READY
        assert "reload failed, the copy loaded before serves on" in reason
        write(tmp_path, "m", add(3))
        await managed.manager.load("m")
        assert await managed.ask() == 3
        assert managed.states()["m", 1] == (READY, "")


@on_loop
async def test_a_new_version_that_fails_leaves_the_old_one_serving(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1)
    async with Managed(tmp_path) as managed:
        await managed.apply()
        write(tmp_path, "m", b"broken", 2)
        await managed.apply()
        assert await managed.ask() == 1
        assert managed.states()["m", 1] == (READY, "")
        assert managed.states()["m", 2][0] is GONE


@on_loop
async def test_a_bad_configuration_leaves_what_serves_serving_and_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        (folder / "config.yaml").write_text("max_batch_sise: 3")
        with pytest.raises(InvalidRequest, match="max_batch_size"):
            await managed.manager.load("m")
        assert await managed.ask() == 1


@on_loop
async def test_what_failed_is_tried_again_only_when_asked_or_changed(tmp_path: Path) -> None:
    write(tmp_path, "m", b"broken")
    async with Managed(tmp_path) as managed:
        await managed.apply()
        managed.manager.records["m"][1].reason = "not tried since"
        await managed.apply(retry=False)
        assert managed.states()["m", 1] == (GONE, "not tried since")
        await managed.apply(retry=True)
        assert "cannot load" in managed.states()["m", 1][1]
        write(tmp_path, "m", add(1))
        await managed.apply(retry=False)
        assert managed.states()["m", 1] == (READY, "")


@on_loop
async def test_a_policy_that_chooses_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1), 1, "version_policy: {specific: {versions: [7]}}\n")
    async with Managed(tmp_path) as managed:
        await managed.apply()
        assert managed.manager.index() == [
            ModelStatus("m", 0, GONE, "the version policy chooses none of the versions that exist")
        ]
        with pytest.raises(ModelUnavailable, match="version policy"):
            managed.manager.resolve("m")


@pytest.mark.parametrize(("required", "ready"), [(True, False), (False, True)])
@on_loop
async def test_a_model_that_is_not_required_does_not_keep_the_server_from_being_ready(
    required: bool, ready: bool, tmp_path: Path
) -> None:
    write(tmp_path, "m", add(1))
    write(tmp_path, "bad", b"broken", 1, f"required: {str(required).lower()}\n")
    async with Managed(tmp_path) as managed:
        await managed.apply()
        assert managed.manager.all_ready() is ready


# -- with another configuration -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ModelVersionPolicy(latest=Latest(num_versions=2)), [2, 3]),
        (ModelVersionPolicy(all=All()), [1, 2, 3]),
        (ModelVersionPolicy(specific=Specific(versions=(3, 1))), [1, 3]),
    ],
)
@on_loop
async def test_a_configuration_given_with_the_load_is_used(
    policy: ModelVersionPolicy, expected: list[int], tmp_path: Path
) -> None:
    for version in (1, 2, 3):
        write(tmp_path, "m", add(version), version)
    async with Managed(tmp_path) as managed:
        await managed.manager.load("m", ModelConfig(version_policy=policy))
        assert [m.version for m in managed.manager.served_models()] == expected


@on_loop
async def test_a_configuration_for_another_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        with pytest.raises(ConfigError, match="is 'other', the model is named 'm'"):
            await managed.manager.load("m", ModelConfig(name="other"))


@pytest.mark.parametrize(
    "said",
    [{"python": "/bin/sh"}, {"requirements": ("x",)},
     {"parameters": {"EXECUTION_ENV_PATH": {"string_value": "$$TRITON_MODEL_DIRECTORY/1/e.tar"}}}],
)  # fmt: skip
@pytest.mark.parametrize("files", [{}, {"1/model.onnx": add(1), "1/e.tar": b""}])
@on_loop
async def test_a_configuration_from_the_network_says_no_code_to_run(
    files: dict[str, bytes], said: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        config = ModelConfig(backend="onnxruntime", isolation="process", **said)
        with pytest.raises(InvalidRequest, match="says what code runs"):
            await managed.manager.load("m", config, files)


@on_loop
async def test_a_model_may_be_told_its_own_environment_again(tmp_path: Path) -> None:
    own = {"EXECUTION_ENV_PATH": "$$TRITON_MODEL_DIRECTORY/env"}
    write(tmp_path, "m", add(1), 1, f"parameters: {own}")
    async with Managed(tmp_path) as managed:
        await managed.manager.load("m", ModelConfig(parameters=own))
        assert await managed.ask() == 1


# -- look-up --------------------------------------------------------------------------------------


@on_loop
async def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        await managed.apply()
        for version in ("", "1"):
            with pytest.raises(ModelNotFound) as unknown:
                managed.manager.resolve("x", version)
            assert str(unknown.value) == "Request for unknown model: 'x' is not found"
        for version in ("99", "one", "-1", "1.0", "²", "9" * 5000, " 1"):
            with pytest.raises(ModelNotFound) as caught:
                managed.manager.resolve("m", version)
            assert str(caught.value) == (
                f"Request for unknown model: 'm' version {version} is not found"
            )


@on_loop
async def test_load_and_unload_of_an_unknown_model(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        with pytest.raises(ModelNotFound) as caught:
            await managed.manager.load("x")
        assert str(caught.value) == "failed to load 'x', failed to poll from model repository"
        await managed.manager.unload("x")  # as in Triton
        await managed.manager.unload("m")
        assert managed.manager.index() == []


@pytest.mark.parametrize(
    ("cores", "instances", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 1), (1, 1, 1)]
)
def test_instances_share_the_cores(cores: int, instances: int, threads: int) -> None:
    assert intra_op_threads(cores, instances) == threads


# -- traces ---------------------------------------------------------------------------------------


@on_loop
async def test_a_model_stays_traced_when_it_is_loaded_again(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    sink = FakeTraceSink()
    async with Managed(tmp_path) as managed:
        manager = managed.manager = ModelManager((tmp_path,), 1, 2, tracing=Tracing(sink))
        await managed.apply()
        manager.tracing.change({"timestamps": True, "rate": 1})
        await managed.ask()
        write(tmp_path, "m", add(2))
        (tmp_path / "m" / "1" / "more").write_text("the folder looks different")
        await managed.apply()
        assert await managed.ask() == 2
        manager.tracing.flush()
        assert [(trace.model, trace.version) for trace in sink.traces] == [("m", 1)] * 2


# -- models that come with a request --------------------------------------------------------------


@on_loop
async def test_a_repository_that_is_looked_at_every_0_seconds_is_looked_at_once(
    tmp_path: Path,
) -> None:
    config = ServerConfig(model_control_mode="poll", repository_poll_secs=0)
    async with Managed(tmp_path) as managed:
        await ControlPlane(managed.manager, config).poll()  # which has nothing to wait for


@on_loop
async def test_an_override_stays_until_the_next_load_whatever_the_repository_says(
    tmp_path: Path,
) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        control = ControlPlane(managed.manager, ServerConfig(model_control_mode="explicit"))
        await control.load("m")
        await control.load("m", {}, {"1/model.onnx": add(5)})
        assert await managed.ask() == 5
        await control.poll_once()
        assert await managed.ask() == 5
        await control.load("m")
        assert await managed.ask() == 1


@on_loop
async def test_files_of_a_request_live_as_long_as_the_versions_that_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "folders"
    folders.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folders))
    write(tmp_path / "models", "m", add(1))
    every = decode_model_config({"version_policy": {"all": {}}}, file="sent")
    async with Managed(tmp_path / "models") as managed:
        manager = managed.manager
        await manager.load("m", every, {"1/model.onnx": add(5), "2/model.onnx": add(6)})
        assert [await managed.ask("m", version) for version in ("1", "2")] == [5, 6]
        (first,) = folders.iterdir()
        await manager.load("m", every, {"1/model.onnx": add(7)})
        await manager.settle()
        (second,) = folders.iterdir()
        assert first != second
        with pytest.raises(InvalidRequest, match="load failed for model 'm'"):
            await manager.load("m", every, {"1/model.onnx": b"no model"})
        assert list(folders.iterdir()) == [second]
        assert await managed.ask() == 7
        await manager.load("left", ModelConfig(), {"1/model.onnx": add(8)})
        await manager.unload("m")
        await manager.settle()
        assert len(list(folders.iterdir())) == 1
        manager.sent.remove()
        assert list(folders.iterdir()) == []


@on_loop
async def test_a_configuration_that_says_what_code_runs_needs_trust(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    async with Managed(tmp_path) as managed:
        for said in ({"python": "/bin/sh"}, {"requirements": ["x"]}):
            config = decode_model_config(said, file="sent")
            with pytest.raises(InvalidRequest, match="only where the server was started with --t"):
                await managed.manager.load("m", config)


@on_loop
async def test_a_load_that_fails_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "m", b"no model")
    manager = ModelManager((tmp_path,), 1, 1, load_retries=2)
    with pytest.raises(InvalidRequest, match="load failed for model 'm'"):
        await manager.load("m")
    tries = [r for r in caplog.records if r.message == "model failed to load and is tried again"]
    assert [record.__dict__["tries_left"] for record in tries] == [2, 1]
    await manager.close()


@on_loop
async def test_a_load_that_nobody_waits_for_does_not_hold_the_loop_when_the_models_are_closed(
    tmp_path: Path,
) -> None:
    manager = ModelManager((tmp_path,), 1, 1)
    goes_on = threading.Event()
    left = asyncio.ensure_future(manager._loader.off_loop(goes_on.wait))
    await turns()
    left.cancel()
    closing = asyncio.ensure_future(manager.close())
    await turns(3)
    assert not closing.done()
    goes_on.set()
    async with asyncio.timeout(10):
        await closing
