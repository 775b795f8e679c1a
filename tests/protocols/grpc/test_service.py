import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2, service_pb2

from fakes import on_loop
from inferd.errors import (
    ConfigError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    RequestTimeout,
    Unsupported,
)
from inferd.protocols.grpc.inference.request_codec import HEAVY_BYTES
from inferd.protocols.grpc.inference.service import NOT_OFFERED
from inferd.protocols.grpc.services import SERVICES
from inferd.protocols.oip.metadata import EXTENSIONS
from inferd.protocols.oip.model_config import model_config
from inferd.protocols.oip.statistics import statistics
from inferd.schemas.pb.messages import POOL
from models import LABELS, identity, mlp, mlp_answer, write_model
from protocols.grpc.planes import Streaming, repository
from protocols.grpc.wire import add_output, add_raw, add_typed, message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path, "mlp", mlp(), {"max_batch_size": 8, "parameters": {"a": "b"}})
    output = {"name": "y", "data_type": "TYPE_FP32", "dims": [3], "label_filename": "labels.txt"}
    labels = {"max_batch_size": 8, "output": [output]}
    write_model(
        tmp_path, "labels", identity("FP32", ("b", 3)), labels, {"labels.txt": "\n".join(LABELS)}
    )
    both: dict[str, Any] = {"version_policy": {"all": {}}}
    for version in (1, 2):
        write_model(tmp_path, "versions", identity(), both, version=version)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"junk")
    return tmp_path


def rows(count: int, width: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(count * width, dtype=np.float32).reshape(count, width) / 100


# -- the table -------------------------------------------------------------------------------------


@on_loop
async def test_every_call_of_every_service_has_its_method(folder: Path) -> None:
    async with repository(folder) as client:
        wanted = {}
        for name in SERVICES:
            for method in POOL.FindServiceByName(name).methods:
                kind = {
                    (False, False): "unary", (False, True): "server_stream", (True, True): "bidi",
                }[method.client_streaming, method.server_streaming]  # fmt: skip
                wanted[f"/{name}/{method.name}"] = kind, method.input_type.full_name
        assert {path: method.kind for path, method in client.methods.items()} == {
            path: kind for path, (kind, _) in wanted.items()
        }
        for path, method in client.methods.items():
            if method.request is not None:
                assert method.request.DESCRIPTOR.full_name == wanted[path][1]


# -- inference -------------------------------------------------------------------------------------


@on_loop
async def test_inference(folder: Path) -> None:
    async with repository(folder) as client:
        answer = await client.call("ModelInfer", add_raw(message("mlp", ""), "x", "FP32", rows(2)))
        assert (answer.model_name, answer.model_version, answer.id) == ("mlp", "1", "")
        (output,) = answer.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [2, 3])
        found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(2, 3)
        np.testing.assert_allclose(found, mlp_answer(rows(2)), rtol=1e-5)
        typed = add_typed(
            message("mlp", "1", id="7"), "x", "FP32", (2, 16), rows(2).ravel().tolist()
        )
        same = await client.call("ModelInfer", typed)
        assert same.id == "7"
        assert same.raw_output_contents == answer.raw_output_contents


@on_loop
async def test_large_typed_contents_are_read_on_a_thread(tmp_path: Path) -> None:
    count = HEAVY_BYTES // 4 + 4
    write_model(tmp_path, "m", identity("FP32", ("b", count)), {"max_batch_size": 4})
    async with repository(tmp_path) as client:
        values = np.arange(count, dtype=np.float32)
        wire = add_typed(message("m", ""), "x", "FP32", (1, count), values.tolist())
        answer = await client.call("ModelInfer", wire)
        assert answer.raw_output_contents[0] == values.tobytes()


@on_loop
async def test_classification(folder: Path) -> None:
    async with repository(folder) as client:
        array = np.array([[0.25, 1, 0.5]], np.float32)
        wire = add_output(add_raw(message("labels", ""), "x", "FP32", array), "y", classification=2)
        answer = await client.call("ModelInfer", wire)
        (output,) = answer.outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [1, 2])
        first, second = b"1.000000:1:dog", b"0.500000:2:bird"
        assert answer.raw_output_contents[0] == (
            len(first).to_bytes(4, "little") + first + len(second).to_bytes(4, "little") + second
        )


@on_loop
async def test_errors_of_inference(folder: Path) -> None:
    async with repository(folder) as client:
        error = await client.error("ModelInfer", add_raw(message("x"), "x", "FP32", rows(1)))
        assert isinstance(error, ModelNotFound)
        assert str(error) == "Request for unknown model: 'x' is not found"
        error = await client.error(
            "ModelInfer", add_raw(message("broken", ""), "x", "FP32", rows(1))
        )
        assert isinstance(error, ModelUnavailable)
        error = await client.error(
            "ModelInfer", add_raw(message("mlp", ""), "x", "FP32", rows(1, 4))
        )
        assert isinstance(error, InvalidRequest)
        assert str(error) == (
            "unexpected shape for input 'x' for model 'mlp'. Expected [-1,16], got [1,4]"
        )
        error = await client.error("ModelInfer", message("mlp", ""))
        assert "expected 1 inputs but got 0 inputs for model 'mlp'" in str(error)


@on_loop
async def test_the_deadline_of_a_call_is_that_of_its_request(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        streaming.lanes.pool.held = True
        streaming.client.context.deadline_ns = time.perf_counter_ns() + 1_000_000
        wire = add_raw(message(version=""), "x", "FP32", rows(1, 4))
        assert isinstance(await streaming.client.error("ModelInfer", wire), RequestTimeout)


@on_loop
async def test_a_model_that_streams_needs_the_call_that_does(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        wire = add_raw(message(version=""), "x", "FP32", rows(1, 4))
        error = await streaming.client.error("ModelInfer", wire)
        assert isinstance(error, Unsupported)
        assert "ModelStreamInfer" in str(error)


# -- health and metadata ---------------------------------------------------------------------------


@on_loop
async def test_live_and_ready(folder: Path) -> None:
    async with repository(folder) as client:
        assert (await client.call("ServerLive")).live
        assert not (await client.call("ServerReady")).ready  # one model is broken
        assert (await client.call("ModelReady", name="mlp")).ready
        assert (await client.call("ModelReady", name="mlp", version="1")).ready
        assert not (await client.call("ModelReady", name="broken")).ready
        assert not (await client.call("ModelReady", name="x")).ready
        assert not (await client.call("ModelReady", name="mlp", version="9")).ready
        client.plane.draining = True
        assert not (await client.call("ServerLive")).live
        assert not (await client.call("ModelReady", name="mlp")).ready


@on_loop
async def test_a_server_whose_models_are_ready_is_ready(tmp_path: Path) -> None:
    write_model(tmp_path, "mlp", mlp())
    async with repository(tmp_path) as client:
        assert (await client.call("ServerReady")).ready
        client.plane.started = False
        assert not (await client.call("ServerReady")).ready


@on_loop
async def test_server_metadata(folder: Path) -> None:
    async with repository(folder) as client:
        answer = await client.call("ServerMetadata")
        assert (answer.name, answer.version) == client.plane.server_metadata()
        assert tuple(answer.extensions) == EXTENSIONS


@on_loop
async def test_model_metadata(folder: Path) -> None:
    async with repository(folder) as client:
        answer = await client.call("ModelMetadata", name="mlp")
        assert (answer.name, list(answer.versions)) == ("mlp", ["1"])
        assert answer.platform == "onnxruntime_onnx"
        (x,), (y,) = answer.inputs, answer.outputs
        assert (x.name, x.datatype, list(x.shape)) == ("x", "FP32", [-1, 16])
        assert (y.name, y.datatype, list(y.shape)) == ("y", "FP32", [-1, 3])
        assert list((await client.call("ModelMetadata", name="versions")).versions) == ["1", "2"]
        one = await client.call("ModelMetadata", name="versions", version="1")
        assert list(one.versions) == ["1"]
        assert isinstance(await client.error("ModelMetadata", name="x"), ModelNotFound)


NUMBERS_AS_TEXT = {
    "dims", "versions", "max_queue_delay_microseconds", "priority_levels", "default_priority_level",
    "default_timeout_microseconds",
}  # fmt: skip
"""Fields of 64 bits, which JSON of Protocol Buffers has as text."""


def without_defaults(value: Any, key: str = "") -> Any:
    """What JSON of Protocol Buffers shows of a configuration."""
    if isinstance(value, dict):
        shown = {k: without_defaults(v, k) for k, v in value.items()}
        return {k: v for k, v in shown.items() if v or k in ("all", "default_queue_policy")}
    if isinstance(value, list):
        return [without_defaults(item, key) for item in value]
    if key in NUMBERS_AS_TEXT:
        return str(value) if value else value
    if value in ("FORMAT_NONE", "REJECT", "PRIORITY_DEFAULT"):
        return ""  # the first of its kind
    return value


@on_loop
async def test_model_config_is_that_of_http(folder: Path) -> None:
    async with repository(folder) as client:
        for name in ("mlp", "labels", "versions"):
            answer = (await client.call("ModelConfig", name=name)).config
            theirs = MessageToDict(answer, preserving_proto_field_name=True)
            ours = model_config(client.plane.served(name))
            assert theirs == without_defaults(ours)
        config = (await client.call("ModelConfig", name="mlp")).config
        assert (config.name, config.max_batch_size, config.backend) == ("mlp", 8, "onnxruntime")
        assert config.input[0].data_type == model_config_pb2.TYPE_FP32
        assert list(config.input[0].dims) == [16]
        assert config.version_policy.latest.num_versions == 1
        assert config.HasField("dynamic_batching")
        assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
        assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
        assert (await client.call("ModelConfig", name="labels")).config.output[0].label_filename
        assert isinstance(await client.error("ModelConfig", name="x"), ModelNotFound)


@on_loop
async def test_statistics_are_those_of_http(folder: Path) -> None:
    async with repository(folder) as client:
        await client.call("ModelInfer", add_raw(message("mlp", ""), "x", "FP32", rows(2)))
        (mlp,) = (await client.call("ModelStatistics", name="mlp")).model_stats
        assert (mlp.name, mlp.version) == ("mlp", "1")
        assert (mlp.inference_count, mlp.execution_count) == (2, 1)
        assert mlp.inference_stats.success.count == 1
        assert mlp.inference_stats.success.ns > 0
        assert [(batch.batch_size, batch.compute_infer.count) for batch in mlp.batch_stats] == [
            (2, 1)
        ]
        assert mlp.last_inference > 1_600_000_000_000
        ours = statistics(client.control, "mlp")["model_stats"][0]
        assert mlp.inference_stats.queue.ns == ours["inference_stats"]["queue"]["ns"]
        found = (await client.call("ModelStatistics")).model_stats
        assert [(one.name, one.version) for one in found] == [
            ("labels", "1"), ("mlp", "1"), ("versions", "1"), ("versions", "2"),
        ]  # fmt: skip
        error = await client.error("ModelStatistics", name="x")
        assert "requested model 'x' is not available, no statistics" in str(error)


# -- repository ------------------------------------------------------------------------------------


@on_loop
async def test_index(folder: Path) -> None:
    async with repository(folder) as client:
        found = (await client.call("RepositoryIndex")).models
        assert [(one.name, one.version, one.state) for one in found] == [
            ("broken", "1", "UNAVAILABLE"), ("labels", "1", "READY"), ("mlp", "1", "READY"),
            ("versions", "1", "READY"), ("versions", "2", "READY"),
        ]  # fmt: skip
        assert found[0].reason
        ready = (await client.call("RepositoryIndex", ready=True)).models
        assert [one.name for one in ready] == ["labels", "mlp", "versions", "versions"]
        error = await client.error("RepositoryIndex", repository_name="r")
        assert isinstance(error, Unsupported)
        assert str(error) == "'repository_name' specification is not supported"


def load(name: str, **parameters: Any) -> Any:
    wire = service_pb2.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        setattr(wire.parameters[key.replace("__", ":")], *value)
    return wire


@on_loop
async def test_load_and_unload(folder: Path) -> None:
    async with repository(folder, "explicit") as client:
        await client.call("RepositoryModelUnload", model_name="mlp")
        assert not (await client.call("ModelReady", name="mlp")).ready
        await client.call("RepositoryModelLoad", model_name="mlp")
        assert (await client.call("ModelReady", name="mlp")).ready
        await client.call(
            "RepositoryModelLoad", load("mlp", config=("string_param", '{"max_batch_size":3}'))
        )
        assert (await client.call("ModelConfig", name="mlp")).config.max_batch_size == 3
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="mlp")
        unload.parameters["unload_dependents"].bool_param = True
        await client.call("RepositoryModelUnload", unload)
        assert not (await client.call("ModelReady", name="mlp")).ready


@on_loop
async def test_what_a_load_cannot_do(folder: Path) -> None:
    async with repository(folder, "explicit") as client:

        async def said(wire: Any, kind: Any) -> str:
            error = await client.error("RepositoryModelLoad", wire)
            assert isinstance(error, kind)
            return str(error)

        assert await said(load("x"), ModelNotFound) == (
            "failed to load 'x', failed to poll from model repository"
        )
        assert "load failed for model 'broken'" in await said(load("broken"), InvalidRequest)
        file = load("mlp", file__1_model=("bytes_param", b"x"))
        assert "load parameters 'file:...' need 'config'" in await said(file, InvalidRequest)
        assert await said(load("mlp", mine=("int64_param", 1)), InvalidRequest) == (
            "load parameter 'mine' is unknown; expected 'config', or 'file:<version>/<name>'"
        )
        assert await said(load("mlp", config=("bytes_param", b"{}")), InvalidRequest) == (
            "load parameter 'config' must be a string"
        )
        assert "load parameter 'config' is not JSON" in await said(
            load("mlp", config=("string_param", "{")), InvalidRequest
        )
        assert "max_batch_size" in await said(
            load("mlp", config=("string_param", '{"max_batch_size":"x"}')), ConfigError
        )
        unset = load("mlp")
        unset.parameters["config"].SetInParent()
        assert await said(unset, InvalidRequest) == "load parameter 'config' has no value"
        named = service_pb2.RepositoryModelLoadRequest(model_name="mlp", repository_name="r")
        assert "'repository_name'" in await said(named, Unsupported)
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="mlp", repository_name="r")
        assert isinstance(await client.error("RepositoryModelUnload", unload), Unsupported)
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="mlp")
        unload.parameters["mine"].bool_param = True
        assert "unload parameter 'mine' is unknown" in str(
            await client.error("RepositoryModelUnload", unload)
        )


@on_loop
async def test_load_and_unload_need_leave(folder: Path) -> None:
    async with repository(folder) as client:
        for name in ("RepositoryModelLoad", "RepositoryModelUnload"):
            error = await client.error(name, model_name="mlp")
            assert "explicit model load / unload is not allowed" in str(error)


@on_loop
async def test_calls_that_are_not_offered_say_their_name(folder: Path) -> None:
    async with repository(folder) as client:
        for name in NOT_OFFERED:
            error = await client.error(name)
            assert isinstance(error, Unsupported)
            assert str(error).startswith(f"{name}: CUDA shared memory is not supported")


@on_loop
async def test_shared_memory_is_off_unless_it_is_switched_on(folder: Path) -> None:
    async with repository(folder) as client:
        for verb in ("Status", "Register", "Unregister"):
            error = await client.error(f"SystemSharedMemory{verb}", name="r")
            assert isinstance(error, Unsupported)
            assert "start the server with --shared-memory system" in str(error)
