"""What a configuration says of tensors and batches, by stock clients over both protocols: requests
of different shapes in one batch, reshapes, inputs that are left out, warm-up from files. Each model
is served in the server's own process and in a worker."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc_sync
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from backends.onnx_models import graph, identity, node, ragged, with_default, write
from e2e.harness import RunningServer

Array = np.ndarray[Any, Any]

RAGGED = """
max_batch_size: 8
input: [{name: INPUT, data_type: TYPE_FP32, dims: [-1], allow_ragged_batch: true}]
output: [{name: OUTPUT, data_type: TYPE_FP32, dims: [-1]}]
batch_input:
- {kind: BATCH_ELEMENT_COUNT, target_name: [COUNT], data_type: TYPE_INT32, source_input: [INPUT]}
batch_output: [{target_name: [OUTPUT], source_input: [INPUT]}]
dynamic_batching: {preferred_batch_size: [4], max_queue_delay_microseconds: 3000000}
"""
MATRIX = """
max_batch_size: 8
input: [{name: x, data_type: TYPE_FP32, dims: [2, 2], reshape: {shape: [4]}}]
output: [{name: y, data_type: TYPE_FP32, dims: [4, 1], reshape: {shape: [4]}}]
"""
NUMBER = """
input: [{name: x, data_type: TYPE_FP32, dims: [1], reshape: {shape: []}}]
output: [{name: y, data_type: TYPE_FP32, dims: [1], reshape: {shape: []}}]
"""
OPTIONAL = """
max_batch_size: 8
input:
- {name: x, data_type: TYPE_FP32, dims: [2]}
- {name: bias, data_type: TYPE_FP32, dims: [2], optional: true}
"""
SCALAR = """
max_batch_size: 0
input: [{name: x, data_type: TYPE_FP32, dims: [1], reshape: {shape: []}}]
output: [{name: y, data_type: TYPE_FP32, dims: []}]
"""
NOTHING = """
max_batch_size: 4
input: [{name: x, data_type: TYPE_FP32, dims: [0]}]
"""
WARMED = """
max_batch_size: 4
model_warmup:
- {name: first, batch_size: 2, count: 2, inputs:
    {x: {data_type: TYPE_INT64, dims: [1], input_data_file: row}}}
"""
WORKER = "isolation: process\n"


def lookup() -> bytes:
    """y is x, looked up in a table of ten: another number fails the run."""
    return graph(
        [node("Gather", ["table", "x"], ["y"])],
        [("x", "INT64", ("n", 1))], [("y", "FP32", ("n", 1))],
        table=np.arange(10, dtype=np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("tensors")
    for name, model, config in (
        ("ragged", ragged(), RAGGED), ("matrix", identity(), MATRIX),
        ("number", identity(shape=("n",)), NUMBER), ("optional", with_default(), OPTIONAL),
        ("warmed", lookup(), WARMED), ("scalar", identity(shape=()), SCALAR),
        ("nothing", identity(shape=("n", 0)), NOTHING),
    ):  # fmt: skip
        for suffix, more in (("", ""), ("_apart", WORKER)):
            write(root / "models", name + suffix, model, 1, config + more)
    for name, number in (
        ("warmed", 9),
        ("warmed_apart", 9),
        ("too_far", 10),
        ("too_far_apart", 10),
    ):
        if number == 10:
            more = WORKER if "apart" in name else ""
            write(root / "models", name, lookup(), 1, "required: false\n" + WARMED + more)
        (root / "models" / name / "warmup").mkdir()
        (root / "models" / name / "warmup" / "row").write_bytes(np.int64(number).tobytes())
    server = RunningServer(root / "server.log", root / "models")
    yield server
    server.stop()


Ask = Callable[..., Any]


class Clients:
    """Stock clients of one protocol."""

    def __init__(self, module: Any, url: str) -> None:
        self._module = module
        self._client = module.InferenceServerClient(url)

    async def ask(self, model: str, **inputs: Array) -> Array:
        given = []
        for name, array in inputs.items():
            datatype = np_to_triton_dtype(array.dtype)
            one = self._module.InferInput(name, list(array.shape), datatype)
            one.set_data_from_numpy(array)
            given.append(one)
        result = await self._client.infer(model, given)
        found: Array = result.as_numpy("OUTPUT" if model.startswith("ragged") else "y")
        return found

    async def close(self) -> None:
        await self._client.close()


@pytest.fixture(params=["http", "grpc"])
def talk(request: Any, server: RunningServer) -> Callable[[Ask], None]:
    """Runs a test with a client."""

    def run(test: Ask) -> None:
        async def talking() -> None:
            if request.param == "http":
                clients = Clients(triton_http, server.url.removeprefix("http://"))
            else:
                clients = Clients(triton_grpc, server.grpc)
            try:
                await test(clients.ask)
            finally:
                await clients.close()

        asyncio.run(talking())

    return run


def executions(server: RunningServer, model: str) -> tuple[int, int]:
    """Rows and batches until now."""
    (found,) = server.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return found["inference_count"], found["execution_count"]


@pytest.mark.parametrize("where", ["", "_apart"])
def test_requests_of_different_shapes_share_a_batch_and_get_their_own(
    server: RunningServer, talk: Callable[[Ask], None], where: str
) -> None:
    """Each element comes back times the number of elements of its own request."""
    requests = [
        np.arange(width, dtype=np.float32).reshape(1, width) + 10 * width for width in (3, 4, 5, 1)
    ]
    before = executions(server, f"ragged{where}")

    async def test(ask: Ask) -> None:
        answers = await asyncio.gather(*[ask(f"ragged{where}", INPUT=array) for array in requests])
        for array, answer in zip(requests, answers, strict=True):
            assert answer.shape == array.shape
            assert answer.tolist() == (array * array.size).tolist()

    talk(test)
    rows, batches = executions(server, f"ragged{where}")
    assert (rows - before[0], batches - before[1]) == (4, 1)


def test_a_request_of_several_rows_counts_as_one(talk: Callable[[Ask], None]) -> None:
    async def test(ask: Ask) -> None:
        array = np.arange(8, dtype=np.float32).reshape(4, 2)
        assert (await ask("ragged", INPUT=array)).tolist() == (array * 8).tolist()

    talk(test)


def test_what_is_made_of_a_batch_is_no_clients_business(server: RunningServer) -> None:
    found = server.get("/v2/models/ragged").json()
    assert found["inputs"] == [{"name": "INPUT", "datatype": "FP32", "shape": [-1, -1]}]
    config = server.get("/v2/models/ragged/config").json()
    assert [entry["name"] for entry in config["input"]] == ["INPUT"]
    with triton_grpc_sync.InferenceServerClient(server.grpc) as client:
        told = client.get_model_config("ragged").config
        matrix = client.get_model_config("matrix").config
    assert [entry.name for entry in told.input] == ["INPUT"]
    assert told.input[0].allow_ragged_batch
    assert told.batch_input[0].target_name == ["COUNT"]
    assert told.batch_output[0].source_input == ["INPUT"]
    assert matrix.input[0].reshape.shape == [4]
    count = {"name": "COUNT", "datatype": "INT32", "shape": [1], "data": [1]}
    given = {"name": "INPUT", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    answer = server.infer("ragged", {"inputs": [given, count]})
    assert answer.status == 400
    assert "unexpected inference input 'COUNT'" in answer.error


@pytest.mark.parametrize("where", ["", "_apart"])
def test_clients_send_and_get_other_shapes_than_the_models(
    talk: Callable[[Ask], None], where: str
) -> None:
    async def test(ask: Ask) -> None:
        arrays = [np.full((rows, 2, 2), rows, np.float32) for rows in (1, 1, 2, 1)]
        answers = await asyncio.gather(*[ask(f"matrix{where}", x=array) for array in arrays])
        for array, answer in zip(arrays, answers, strict=True):
            assert answer.tolist() == array.reshape(-1, 4, 1).tolist()
        with pytest.raises(InferenceServerException, match=r"Expected \[-1,2,2\], got \[1,4\]"):
            await ask(f"matrix{where}", x=np.zeros((1, 4), np.float32))
        number = np.array([[1], [2]], np.float32)
        assert (await ask(f"number{where}", x=number)).tolist() == number.tolist()

    talk(test)


@pytest.mark.parametrize("where", ["", "_apart"])
def test_scalars_and_tensors_without_elements(talk: Callable[[Ask], None], where: str) -> None:
    async def test(ask: Ask) -> None:
        found = await ask(f"scalar{where}", x=np.array([3], np.float32))
        assert (found.shape, float(found)) == ((), 3)
        empty = np.zeros((2, 0), np.float32)
        assert (await ask(f"nothing{where}", x=empty)).shape == (2, 0)
        none = np.zeros((1, 0), np.float32)
        three = np.ones((1, 3), np.float32)
        model = f"ragged{where}"
        answers = await asyncio.gather(
            *[ask(model, INPUT=array) for array in (none, three, none, three)]
        )
        assert [answer.tolist() for answer in answers] == [[[]], [[3, 3, 3]]] * 2

    talk(test)


def test_plain_requests_of_a_reshaped_model_in_json(server: RunningServer) -> None:
    """What rides together is laid out together."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2, 2],
                        "data": [1, 2, 3, 4]}]}  # fmt: skip
    for _ in range(3):
        (output,) = server.infer("matrix", body).json()["outputs"]
        assert (output["shape"], output["data"]) == ([1, 4, 1], [1, 2, 3, 4])


@pytest.mark.parametrize("where", ["", "_apart"])
def test_an_input_that_is_left_out_has_the_models_own_value(
    talk: Callable[[Ask], None], where: str
) -> None:
    async def test(ask: Ask) -> None:
        x = np.array([[1, 2]], np.float32)
        bias = np.array([[5, 6]], np.float32)
        model = f"optional{where}"
        asked = [ask(model, x=x), ask(model, x=x, bias=bias)] * 1
        asked += [ask(model, x=2 * x), ask(model, x=2 * x, bias=bias)]
        answers = [answer.tolist() for answer in await asyncio.gather(*asked)]
        assert answers == [[[11, 12]], [[6, 8]], [[12, 14]], [[7, 10]]]

    talk(test)


@pytest.mark.parametrize("where", ["", "_apart"])
def test_a_warm_up_is_run_with_what_its_file_holds(server: RunningServer, where: str) -> None:
    """The table has ten numbers, so 9 is well and 10 fails the load, with the model's words."""
    assert server.get(f"/v2/models/warmed{where}/ready").status == 200
    assert executions(server, f"warmed{where}") == (0, 0)
    index = server.post("/v2/repository/index").json()
    (line,) = [line for line in index if line["name"] == f"too_far{where}"]
    assert line["state"] == "UNAVAILABLE"
    assert "idx=10 must be within" in line["reason"]
