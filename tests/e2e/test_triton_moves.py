"""A model repository of Triton's and its command line, as they are, and stock clients that ask."""

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from google.protobuf import text_format
from tritonclient.utils import InferenceServerException

from e2e.harness import RunningServer, command, environment, eventually
from inferd.config.pbtxt import format_pbtxt, parse_pbtxt
from inferd.repository.model_config import decode_model_config
from lifecycle.onnx_models import add_sub, constant

SIMPLE = """
name: "simple"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_FP32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 16 ] }
]
instance_group [ { kind: KIND_CPU count: 2 host_policy: "first" } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
optimization { graph { level: 1 } }
metric_tags { key: "team" value: "search" }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
version_policy: { all {} }
"""

OPTIONS = [
    "--model-control-mode=explicit", "--load-model=*", "--strict-readiness=false",
    "--exit-on-error", "false", "--allow-grpc=true", "--grpc-port=0", "--metrics-port=0",
    "--http-thread-count=8", "--pinned-memory-pool-byte-size", "268435456",
    "--backend-config=default-max-batch-size=16", "--backend-config=tensorrt,version=10",
    "--backend-config=onnxruntime,intra_op_thread_count=1", "--log-verbose=1",
    "--log-format=default", "--id=moved", "--model-config-name=cpu",
    "--model-load-retry-count=1", "--grpc-keepalive-time=60000", "--trace-config",
    "rate=100", "--allow-sagemaker=false",
]  # fmt: skip

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server makes its folders."""
    return tmp_path_factory.mktemp("folders")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("moved")
    for name, content in (("simple", add_sub()), ("bare", constant(3)), ("named", constant(4))):
        (root / "models" / name / "1").mkdir(parents=True)
        (root / "models" / name / "1" / "model.onnx").write_bytes(content)
    (root / "models" / "simple" / "config.pbtxt").write_text(SIMPLE)
    (root / "models" / "named" / "configs").mkdir()
    (root / "models" / "named" / "configs" / "cpu.pbtxt").write_text("max_batch_size: 5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folders))
        running = RunningServer(root / "log", f"--model-repository={root / 'models'}", *OPTIONS)
    yield running
    running.stop()
    assert list(folders.glob("inferd-model-*")) == []


@pytest.fixture(params=[over_http, over_grpc], ids=["http", "grpc"])
def carrier(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(server: RunningServer, carrier: Any) -> Iterator[Any]:
    where = server.grpc if carrier is over_grpc else server.url.removeprefix("http://")
    with carrier.InferenceServerClient(where) as found:
        yield found


def answer(client: Any, carrier: Any, model: str) -> float:
    asked = carrier.InferInput("INPUT0", [1, 1], "FP32")
    asked.set_data_from_numpy(np.zeros((1, 1), np.float32))
    return float(client.infer(model, [asked]).as_numpy("OUTPUT0")[0, 0])


def sent(folders: Path) -> list[Path]:
    return list(folders.glob("inferd-model-*"))


# -- the repository and the command line ----------------------------------------------------------


def test_clients_are_answered(client: Any, carrier: Any) -> None:
    first, second = np.arange(16, dtype=np.float32), np.ones(16, np.float32)
    inputs = []
    for number, values in enumerate((first, second)):
        inputs.append(carrier.InferInput(f"INPUT{number}", [1, 16], "FP32"))
        inputs[-1].set_data_from_numpy(values[None])
    found = client.infer("simple", inputs)
    assert np.array_equal(found.as_numpy("OUTPUT0")[0], first + second)
    assert np.array_equal(found.as_numpy("OUTPUT1")[0], first - second)


def test_the_configuration_is_the_files_and_can_be_read_back(server: RunningServer) -> None:
    with over_grpc.InferenceServerClient(server.grpc) as client:
        message = client.get_model_config("simple").config
    document = server.get("/v2/models/simple/config").json()
    assert (message.optimization.graph.level, message.metric_tags["team"]) == (1, "search")
    assert [(group.count, group.host_policy) for group in message.instance_group] == [(2, "first")]
    assert message.dynamic_batching.preferred_batch_size == [4, 8]
    read = decode_model_config(document, file="json")
    for text in (format_pbtxt(document), text_format.MessageToString(message)):
        again = parse_pbtxt(text, "pbtxt")
        assert decode_model_config(again, file="pbtxt", strict=False) == read


def test_options_of_tritons_are_heeded(server: RunningServer) -> None:
    assert server.get("/v2").json()["name"] == "moved"
    config = server.get("/v2/models/bare/config").json()
    assert config["max_batch_size"] == 16
    assert config["parameters"]["intra_op_thread_count"] == {"string_value": "1"}
    assert server.get("/v2/models/named/config").json()["max_batch_size"] == 5
    assert server.get("/v2/trace/setting").json()["trace_rate"] == "100"
    settings = server.get("/v2/logging").json()
    assert (settings["log_verbose_level"], settings["log_format"]) == (1, "default")


def test_what_changes_nothing_is_in_the_log(server: RunningServer) -> None:
    head = r"^W\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ inferd\.\w+:\d+\] .*"
    for said in (
        "--http-thread-count: requests are handled by one thread",
        "--pinned-memory-pool-byte-size: inferd keeps no pool",
        "tensorrt,version=10: no model has settings for backend 'tensorrt'",
        "changes nothing here model=simple field=instance_group.host_policy",
    ):
        assert re.search(head + re.escape(said), server.log, re.MULTILINE), said


def test_metrics_have_a_port_of_their_own_and_labels_of_the_models(server: RunningServer) -> None:
    found = re.search(r"^metrics: +http://127\.0\.0\.1:(\d+)/metrics$", server.log, re.MULTILINE)
    assert found is not None
    assert int(found[1]) != server.port
    own, shared = server.port, int(found[1])
    for port in (own, shared):
        server.port = port
        page = server.get("/metrics").body.decode()
        server.port = own
        assert 'nv_inference_count{model="simple",team="search",version="1"}' in page
        assert 'nv_inference_count{model="bare",team="",version="1"}' in page
    server.port = shared
    missing = server.get("/v2")
    server.port = own
    assert missing.status == 404


# -- models that come with a request --------------------------------------------------------------


def test_a_model_that_was_sent_is_served_until_the_next_load(
    client: Any, carrier: Any, folders: Path
) -> None:
    files = {"file:1/model.onnx": constant(7), "file:3/model.onnx": constant(9)}
    config = json.dumps({"max_batch_size": 2, "version_policy": {"latest": {"num_versions": 1}}})
    client.load_model("bare", config=config, files=files)
    assert answer(client, carrier, "bare") == 9
    (folder,) = sent(folders)
    assert folder.stat().st_mode & 0o77 == 0
    client.load_model("bare")
    assert answer(client, carrier, "bare") == 3
    client.unload_model("bare")
    client.load_model("bare")
    wait_until_gone(folders)


def test_a_model_that_is_in_no_repository_can_be_sent_and_unloaded(
    client: Any, carrier: Any, folders: Path
) -> None:
    client.load_model("new", config="{}", files={"file:1/model.onnx": constant(5)})
    assert answer(client, carrier, "new") == 5
    client.unload_model("new")
    wait_until_gone(folders)
    with pytest.raises(InferenceServerException, match="failed to poll from model repository"):
        client.load_model("new")


def wait_until_gone(folders: Path) -> None:
    eventually(lambda: not sent(folders), "the folder is removed")


CODE = b"import inferd\nclass M(inferd.Model):\n    def predict(self, x: int) -> int: return x\n"


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        (None, {"file:1/model.onnx": b"x"}, "need 'config'"),
        ("{}", {"file:../../x": b"x"}, "is no file of a model"),
        ("{}", {"file:/etc/x": b"x"}, "is no file of a model"),
        ("{}", {"file:1/model.py": CODE}, "code from the network runs only"),
        ("{}", {"file:1/model.pkl": b"\x80\x04."}, "--trust"),
        ("{}", {"file:1/model.onnx": b"not a model"}, "cannot load model.onnx"),
        ('{"name": "other"}', {"file:1/model.onnx": b"x"}, "name: is 'other'"),
        ('{"python": "/bin/sh"}', None, "only where the server was started with --trust"),
        ('{"requirements": ["x"]}', None, "only where the server was started with --trust"),
        ("{}", {"model.onnx": b"x"}, "load parameter 'model.onnx' is unknown"),
    ],
)
def test_a_load_that_is_refused_leaves_nothing_and_what_serves_goes_on(
    client: Any, carrier: Any, folders: Path, config: str | None, files: Files | None, message: str
) -> None:
    before = sent(folders)
    with pytest.raises(InferenceServerException, match=message):
        client.load_model("named", config=config, files=files)
    assert sent(folders) == before
    assert answer(client, carrier, "named") == 4


def test_files_over_http_are_base64(server: RunningServer) -> None:
    for text in ("not base64!", base64.b64encode(b"abcd").decode()[:-1]):
        body = {"parameters": {"config": "{}", "file:1/model.onnx": text}}
        answered = server.post("/v2/repository/models/named/load", body)
        assert answered.status == 400
        assert "'file:1/model.onnx' is not base64" in answered.error


# -- starts ---------------------------------------------------------------------------------------


@pytest.fixture
def lines_of(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: (tmp_path / name).read_text()


def test_a_server_without_http_answers_grpc_and_logs_to_its_file(
    tmp_path: Path, lines_of: Callable[[str], str]
) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(constant(2))
    arguments = [
        f"--model-store={tmp_path}", "--allow-http=false", "--grpc-port=0", "--metrics-port=0",
        "--grpc-address=127.0.0.2", "--metrics-address=127.0.0.3",
        "--log-format=ISO8601", f"--log-file={tmp_path / 'server.log'}",
    ]  # fmt: skip
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            command("serve", *arguments), env=environment(), stderr=err,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        found = eventually(
            lambda: re.search(r"^grpc: +(\S+)$", lines_of("err"), re.MULTILINE), "it is told", 60
        )
        assert found[1].startswith("127.0.0.2:")
        with over_grpc.InferenceServerClient(found[1]) as client:
            assert answer(client, over_grpc, "m") == 2
    finally:
        process.terminate()
        assert process.wait(60) == 0, lines_of("err")
    assert "docs:" not in lines_of("err")
    assert re.search(r"^metrics: +http://127\.0\.0\.3:\d+/metrics$", lines_of("err"), re.MULTILINE)
    log = lines_of("server.log")
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ inferd\.models:\d+\] model loaded",
        log,
        re.MULTILINE,
    )
    assert "model loaded" not in lines_of("err")


def test_the_command_that_prints_a_configuration_prints_one_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "simple" / "1").mkdir(parents=True)
    (tmp_path / "simple" / "1" / "model.onnx").write_bytes(add_sub())
    (tmp_path / "simple" / "config.pbtxt").write_text(SIMPLE)
    printed = subprocess.run(
        command("config", "model", tmp_path / "simple"), env=environment(), capture_output=True,
        text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    document = parse_pbtxt(printed, "printed")
    assert [tensor["name"] for tensor in document["output"]] == ["OUTPUT0", "OUTPUT1"]
    assert document["default_model_filename"] == "model.onnx"
    assert format_pbtxt(document) == printed
