"""System shared memory with Triton's clients: tensors go by /dev/shm, both ways."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from lifecycle.process import ServerProcess

BYTES = 4 * 16 * 4


class Regions:
    """Two objects of /dev/shm and what they are registered as."""

    def __init__(self, size: int = BYTES) -> None:
        self.size = size
        self.handles: dict[str, Any] = {}
        for name in ("in", "out"):
            key = self.key(name)
            self.handles[name] = shm.create_shared_memory_region(f"{os.getpid()}_{name}", key, size)

    @staticmethod
    def key(name: str) -> str:
        return f"/inferd_test_{os.getpid()}_{name}"

    def put(self, *arrays: "np.ndarray[Any, Any]") -> None:
        shm.set_shared_memory_region(self.handles["in"], list(arrays))

    def get(self, datatype: Any, shape: list[int]) -> "np.ndarray[Any, Any]":
        return shm.get_contents_as_numpy(self.handles["out"], datatype, shape).copy()

    def close(self) -> None:
        for handle in self.handles.values():
            shm.destroy_shared_memory_region(handle)


@pytest.fixture
def regions() -> Iterator[Regions]:
    made = Regions()
    yield made
    made.close()


@pytest.fixture(params=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    return {"http": http, "grpc": grpc}[request.param]


@pytest.fixture
def client(server: ServerProcess, module: Any, regions: Regions) -> Iterator[Any]:
    address = server.address if module is http else server.grpc
    with module.InferenceServerClient(address) as made:
        for name in ("in", "out"):
            made.register_system_shared_memory(name, regions.key(name), regions.size)
        yield made
        made.unregister_system_shared_memory()


def wires(module: Any, datatype: str, shape: list[int], offset: int = 0, size: int = BYTES) -> Any:
    """The input and the output of `id_...`, in shared memory."""
    asked = module.InferInput("INPUT0", shape, datatype)
    asked.set_shared_memory("in", size, offset)
    wanted = module.InferRequestedOutput("OUTPUT0")
    wanted.set_shared_memory("out", size, offset)
    return {"inputs": [asked], "outputs": [wanted]}


def test_status_and_extension(client: Any, module: Any, regions: Regions) -> None:
    assert "system_shared_memory" in _json(client.get_server_metadata(), module)["extensions"]
    status = _json(client.get_system_shared_memory_status(), module)
    (one,) = _json(client.get_system_shared_memory_status("in"), module)
    assert one == {"name": "in", "key": regions.key("in"), "offset": 0, "byte_size": BYTES}
    assert sorted(region["name"] for region in status) == ["in", "out"]
    client.unregister_system_shared_memory("in")
    with pytest.raises(InferenceServerException, match="Unable to find system shared memory reg"):
        client.get_system_shared_memory_status("in")


def _json(found: Any, module: Any) -> Any:
    if module is http:
        return found
    if not hasattr(found, "regions"):
        return {"extensions": list(found.extensions)}
    return [
        {"name": r.name, "key": r.key, "offset": r.offset, "byte_size": r.byte_size}
        for r in found.regions.values()
    ]


def test_tensors_go_both_ways(client: Any, module: Any, regions: Regions) -> None:
    sent = np.random.default_rng(1).random((4, 16), np.float32)
    regions.put(sent)
    result = client.infer("id_FP32", **wires(module, "FP32", [4, 16]), request_id="mine")
    np.testing.assert_array_equal(regions.get(np.float32, [4, 16]), sent)
    output = result.get_output("OUTPUT0")
    shape = output["shape"] if module is http else list(output.shape)
    assert shape == [4, 16]


def test_some_here_and_some_there(client: Any, module: Any, regions: Regions) -> None:
    first, second = np.full((1, 16), 3, np.float32), np.ones((1, 16), np.float32)
    regions.put(np.zeros((1, 16), np.float32), second)
    inputs = [module.InferInput(f"INPUT{n}", [1, 16], "FP32") for n in (0, 1)]
    inputs[0].set_data_from_numpy(first)
    inputs[1].set_shared_memory("in", 64, 64)
    outputs = [module.InferRequestedOutput(f"OUTPUT{n}") for n in (0, 1)]
    outputs[0].set_shared_memory("out", 100, 64)
    result = client.infer("add_sub", inputs, outputs=outputs)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first - second)
    np.testing.assert_array_equal(regions.get(np.float32, [2, 16])[1:], first + second)


def test_texts(client: Any, module: Any, regions: Regions) -> None:
    texts = np.array([[b"some", "h\u00fc".encode(), b""]], object)
    regions.put(np.frombuffer(serialize_byte_tensor(texts).item(), np.uint8))
    size = sum(4 + len(text) for text in texts.ravel())
    asked = wires(module, "BYTES", [1, 3])
    asked["inputs"][0].set_shared_memory("in", size)
    client.infer("id_BYTES", **asked)
    assert regions.get(np.object_, [1, 3]).tolist() == texts.tolist()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"shape": [4, 16], "offset": 1}, "Invalid offset + byte size for shared memory region"),
        ({"shape": [4, 16], "offset": 256}, "Invalid offset for shared memory region: 'in'"),
        ({"shape": [4, 15]}, "input byte size mismatch for input 'INPUT0' for model 'id_FP32'"),
    ],
)
def test_places_that_do_not_fit(client: Any, module: Any, asked: Any, said: str) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer("id_FP32", **wires(module, "FP32", **asked))
    assert said in str(raised.value)


def test_an_output_needs_its_room(client: Any, module: Any) -> None:
    asked = wires(module, "FP32", [4, 16])
    asked["outputs"][0].set_shared_memory("out", 100)
    with pytest.raises(InferenceServerException, match=r"\(100 bytes\) should be at least 256 byt"):
        client.infer("id_FP32", **asked)


def test_regions_that_are_not_there(client: Any, module: Any) -> None:
    with pytest.raises(InferenceServerException, match="shared memory region 'in' already in man"):
        client.register_system_shared_memory("in", Regions.key("in"), BYTES)
    for key, said in (
        ("/inferd_test_none", "Unable to open shared memory region: '/inferd_test_none'"),
        ("/../etc/passwd", "is no name of a shared memory object"),
    ):
        with pytest.raises(InferenceServerException) as raised:
            client.register_system_shared_memory("x", key, 1)
        assert said in str(raised.value)
    client.unregister_system_shared_memory("out")
    with pytest.raises(InferenceServerException) as raised:
        client.infer("id_FP32", **wires(module, "FP32", [4, 16]))
    assert "Unable to find shared memory region: 'out'" in str(raised.value)
    assert raised.value.status() in ("404", "StatusCode.NOT_FOUND")


def test_memory_that_shrinks_under_a_server_that_lives_on(
    client: Any, module: Any, regions: Regions
) -> None:
    os.truncate(f"/dev/shm{regions.key('in')}", 0)
    with pytest.raises(InferenceServerException, match="has shrunk since it was registered"):
        client.infer("id_FP32", **wires(module, "FP32", [4, 16]))
    os.truncate(f"/dev/shm{regions.key('in')}", BYTES)
    os.truncate(f"/dev/shm{regions.key('out')}", 100)
    with pytest.raises(InferenceServerException, match="has shrunk since it was registered"):
        client.infer("id_FP32", **wires(module, "FP32", [4, 16]))
    assert client.is_server_live()


def test_memory_that_comes_and_goes_while_it_is_used(server: ServerProcess) -> None:
    """What would be a signal that ends the server, had it mapped the memory."""
    large = Regions(1 << 20)
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            for name in ("in", "out"):
                os.truncate(f"/dev/shm{large.key(name)}", 0)
                os.truncate(f"/dev/shm{large.key(name)}", large.size)

    thread = threading.Thread(target=come_and_go)
    try:
        with grpc.InferenceServerClient(server.grpc) as client:
            for name in ("in", "out"):
                client.register_system_shared_memory(name, large.key(name), large.size)
            thread.start()
            asked = wires(grpc, "FP32", [1, large.size // 4], size=large.size)
            said: list[str] = []
            count = 0
            while count < 100 or not said:
                count += 1
                try:
                    client.infer("id_FP32", **asked)
                except InferenceServerException as error:
                    said.append(error.message())
            assert all("has shrunk since it was registered" in message for message in said)
            client.unregister_system_shared_memory()
            assert client.is_server_live()
    finally:
        over.set()
        thread.join()
        large.close()


def test_cuda_shared_memory_is_refused_by_name(client: Any, module: Any) -> None:
    client.unregister_cuda_shared_memory()  # which Triton's examples begin with
    assert not _json(client.get_cuda_shared_memory_status(), module)
    with pytest.raises(InferenceServerException, match="Unable to find cuda shared memory region"):
        client.get_cuda_shared_memory_status("c")
    with pytest.raises(InferenceServerException, match="CUDA shared memory is not supported"):
        client.register_cuda_shared_memory("c", b"handle00", 0, 64)


def test_aio_clients(server: ServerProcess, regions: Regions) -> None:
    async def ask(module: Any, address: str) -> None:
        sent = np.random.default_rng(2).random((4, 16), np.float32)
        regions.put(sent)
        async with module.InferenceServerClient(address) as client:
            for name in ("in", "out"):
                await client.register_system_shared_memory(name, regions.key(name), BYTES)
            plain = http if module is http_aio else grpc
            await client.infer("id_FP32", **wires(plain, "FP32", [4, 16]))
            np.testing.assert_array_equal(regions.get(np.float32, [4, 16]), sent)
            await client.unregister_system_shared_memory()

    asyncio.run(ask(http_aio, server.address))
    asyncio.run(ask(grpc_aio, server.grpc))


class Came:
    """What a stream tells."""

    def __init__(self) -> None:
        self.errors: list[Any] = []

    def __call__(self, result: Any, error: Any) -> None:
        self.errors.append(error)


def test_large_tensors(server: ServerProcess) -> None:
    """On the way through threads, several at a time, over a stream as well."""
    large = Regions(8 << 20)
    count = large.size // 4
    try:
        sent = np.random.default_rng(3).random((1, count), np.float32)
        large.put(sent)
        with grpc.InferenceServerClient(server.grpc) as client:
            for name in ("in", "out"):
                client.register_system_shared_memory(name, large.key(name), large.size)
            asked = wires(grpc, "FP32", [1, count], size=large.size)
            client.start_stream(came := Came())
            for _ in range(4):
                client.async_stream_infer("id_FP32", **asked)
            client.stop_stream()  # which waits for all answers
            assert came.errors == [None] * 4
            client.unregister_system_shared_memory()
        np.testing.assert_array_equal(large.get(np.float32, [1, count]), sent)
    finally:
        large.close()
