import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inferd.errors import (
    BackendError,
    InvalidRequest,
    PayloadTooLarge,
    RegionExists,
    RegionNotFound,
    Unsupported,
)
from inferd.serving import shared_memory
from inferd.serving.shared_memory import SharedMemory, SharedOutputs
from inferd.types.datatype import BYTES, FP32
from inferd.types.inference import InferenceResponse, RequestedOutput, SharedPlace
from inferd.types.tensor import Elsewhere, Tensor

DATA = bytes(range(100))


@pytest.fixture
def memory(tmp_path: Path) -> SharedMemory:
    """Objects are files of a folder: to preadv they are the same."""
    (tmp_path / "object").write_bytes(DATA)
    made = SharedMemory(True, tmp_path)
    made.register("r", "/object", 10, 80)
    return made


def place(offset: int = 0, byte_size: int = 80, region: str = "r") -> SharedPlace:
    return SharedPlace(region, offset, byte_size)


def outputs(memory: SharedMemory, *places: SharedPlace) -> SharedOutputs:
    requested = [RequestedOutput(f"y{n}", shared=at) for n, at in enumerate(places)]
    made = memory.outputs(requested)
    assert made is not None
    return made


def response(*arrays: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> InferenceResponse:
    return InferenceResponse("m", "1", [Tensor(f"y{n}", FP32, a) for n, a in enumerate(arrays)])


# -- the registry ----------------------------------------------------------------------------------


def test_regions_are_listed_until_they_are_unregistered(memory: SharedMemory) -> None:
    memory.register("s", "object", 0, 100)  # with and without a slash, as shm_open takes it
    assert [(r.name, r.key, r.offset, r.byte_size) for r in memory.regions()] == [
        ("r", "/object", 10, 80), ("s", "object", 0, 100),
    ]  # fmt: skip
    assert [r.name for r in memory.regions("s")] == ["s"]
    memory.unregister("r")
    memory.unregister("never there")
    with pytest.raises(RegionNotFound, match="Unable to find system shared memory region: 'r'"):
        memory.regions("r")
    memory.unregister()
    assert memory.regions() == []


@pytest.mark.parametrize(
    ("name", "key", "offset", "byte_size", "said"),
    [
        ("r", "/object", 0, 1, "shared memory region 'r' already in manager"),
        ("", "/object", 0, 1, "'name' of a shared memory region must not be empty"),
        ("s", "/other", 0, 1, "Unable to open shared memory region: '/other': No such file"),
        ("s", "/object", 50, 51, "invalid args: offset 50 .* more than the 100 bytes"),
        ("s", "/object", 0, 0, "byte_size 0 must be positive"),
        ("s", "/object", -1, 5, "offset -1 must not be negative"),
        ("s", "/object", 0, 2**63, "all regions together may have"),
        ("s", "", 0, 1, "is no name of a shared memory object"),
        ("s", "/", 0, 1, "is no name"),
        ("s", "..", 0, 1, "is no name"),
        ("s", "/../secret", 0, 1, "is no name"),
        ("s", "folder/object", 0, 1, "is no name"),
        ("s", "object\0", 0, 1, "is no name"),
        ("s", "x" * 256, 0, 1, "is no name"),
        ("s", "/sem.lock", 0, 1, "reserved prefix 'sem.'"),
        ("s", "triton_python_backend_shm_region_1", 0, 1, "reserved prefix"),
        ("s", "folder", 0, 1, "Unable to open|no shared memory object"),
        ("s", "pipe", 0, 1, "no shared memory object"),
        ("s", "link", 0, 1, "Unable to open shared memory region: 'link'"),
    ],
)
def test_what_cannot_be_registered(
    memory: SharedMemory, tmp_path: Path, name: str, key: str, offset: int, byte_size: int,
    said: str,
) -> None:  # fmt: skip
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "object")
    with pytest.raises(InvalidRequest, match=said):
        memory.register(name, key, offset, byte_size)
    assert [region.name for region in memory.regions()] == ["r"]


def test_a_name_is_taken_once(memory: SharedMemory) -> None:
    with pytest.raises(RegionExists):
        memory.register("r", "/object", 0, 1)


def test_so_many_regions(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "MAX_REGIONS", 2)
    memory.register("s", "/object", 0, 1)
    with pytest.raises(InvalidRequest, match="2 shared memory regions are registered"):
        memory.register("t", "/object", 0, 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda memory: memory.register("r", "/object", 0, 1), lambda memory: memory.regions(),
        lambda memory: memory.unregister(), lambda memory: memory.reader()(place()),
        lambda memory: outputs(memory, place()),
    ],
)  # fmt: skip
def test_it_is_off_unless_it_is_switched_on(ask: Callable[[SharedMemory], object]) -> None:
    with pytest.raises(Unsupported, match="start the server with --shared-memory system"):
        ask(SharedMemory())


# -- reading ---------------------------------------------------------------------------------------


def test_bytes_are_read_from_the_start_of_the_region_on(memory: SharedMemory) -> None:
    read = memory.reader()
    assert bytes(read(place())) == DATA[10:90]
    assert bytes(read(place(70, 10))) == DATA[80:90]


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (place(80, 0), "Invalid offset for shared memory region: 'r'"),
        (place(1, 80), r"Invalid offset \+ byte size for shared memory region: 'r'"),
        (place(1, 2**62), r"Invalid offset \+ byte size for shared memory region: 'r'"),
    ],
)
def test_nothing_is_read_beside_the_region(
    memory: SharedMemory, at: SharedPlace, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        memory.reader()(at)
    with pytest.raises(InvalidRequest, match=said):
        outputs(memory, at)


def test_an_unknown_region(memory: SharedMemory) -> None:
    with pytest.raises(RegionNotFound, match="Unable to find shared memory region: 'nope'"):
        memory.reader()(place(region="nope"))


def test_one_request_reads_so_much(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "MAX_REQUEST_BYTES", 100)
    read = memory.reader()
    read(place())
    with pytest.raises(PayloadTooLarge, match="may have 100 bytes together"):
        read(place(0, 21))


# -- writing ---------------------------------------------------------------------------------------


def test_outputs_are_written_and_only_their_shape_is_left(
    memory: SharedMemory, tmp_path: Path
) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    there, here = np.float32([[1, 2, 3]]), np.float32([[7]])
    written = outputs(memory, place(4, 60)).written(response(array, there, here))
    assert isinstance(written, InferenceResponse)
    first, *rest = written.outputs
    assert type(first.array) is Elsewhere
    assert (first.array.shape, first.array.dtype) == ((2, 3), np.float32)
    assert [tensor.array.tolist() for tensor in rest] == [[[1, 2, 3]], [[7]]]
    now = (tmp_path / "object").read_bytes()
    assert now == DATA[:14] + array.tobytes() + DATA[38:]


def test_texts_are_written_with_their_lengths(memory: SharedMemory, tmp_path: Path) -> None:
    texts = Tensor("y0", BYTES, np.array([b"ab", b""], object))
    outputs(memory, place()).written(InferenceResponse("m", "1", [texts]))
    now = (tmp_path / "object").read_bytes()
    assert now[10:20] == b"\x02\0\0\0ab\0\0\0\0"


def test_what_cannot_be_written_is_an_error_of_the_model(memory: SharedMemory) -> None:
    texts = np.array(["\ud800"], object)
    answer = InferenceResponse("m", "1", [Tensor("y0", BYTES, texts)])
    error = outputs(memory, place()).written(answer)
    assert isinstance(error, BackendError)
    assert "cannot be written to shared memory" in str(error)


def test_outputs_larger_than_their_place(memory: SharedMemory, tmp_path: Path) -> None:
    error = outputs(memory, place(0, 20)).written(response(np.zeros(6, np.float32)))
    assert isinstance(error, InvalidRequest)
    assert "for output 'y0' (20 bytes) should be at least 24 bytes to hold the results" in str(
        error
    )
    assert (tmp_path / "object").read_bytes() == DATA


# -- clients that misbehave ------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 5, 60])
def test_an_object_that_shrinks_is_an_error_and_nothing_worse(
    memory: SharedMemory, tmp_path: Path, left: int
) -> None:
    places = outputs(memory, place())
    os.truncate(tmp_path / "object", left)
    with pytest.raises(InvalidRequest, match="'/object' has shrunk since it was registered"):
        memory.reader()(place())
    error = places.written(response(np.zeros(20, np.float32)))
    assert isinstance(error, InvalidRequest)
    assert os.path.getsize(tmp_path / "object") == left  # and it has not grown again


@pytest.mark.parametrize("busy", [False, True])
def test_a_large_input_is_read_by_two_threads_if_there_are(
    memory: SharedMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr(shared_memory, "HALVED_BYTES", 70)
    let_go = threading.Event()
    if busy:
        shared_memory._helper.submit(let_go.wait)
    try:
        assert bytes(memory.reader()(place(3, 77))) == DATA[13:90]
        os.truncate(tmp_path / "object", 80)  # within the second half
        with pytest.raises(InvalidRequest, match="has shrunk since it was registered"):
            memory.reader()(place(3, 77))
    finally:
        let_go.set()


def test_an_object_that_vanishes_is_there_for_who_has_it(
    memory: SharedMemory, tmp_path: Path
) -> None:
    (tmp_path / "object").unlink()
    assert bytes(memory.reader()(place())) == DATA[10:90]


def test_a_region_is_closed_when_nobody_uses_it_any_more(
    memory: SharedMemory, tmp_path: Path
) -> None:
    def is_open() -> bool:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return any(os.path.realpath(link) == str(tmp_path / "object") for link in links)

    places = outputs(memory, place())
    memory.unregister("r")
    assert is_open()
    assert isinstance(places.written(response(np.ones(1, np.float32))), InferenceResponse)
    assert (tmp_path / "object").read_bytes()[10:14] == np.float32(1).tobytes()
    del places
    gc.collect()
    assert not is_open()


# -- the machine -----------------------------------------------------------------------------------


def test_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SharedMemory(False, tmp_path / "none").warning() == ""
    assert "there is no shared memory here" in SharedMemory(True, tmp_path / "none").warning()
    monkeypatch.setattr(shared_memory, "SMALL_BYTES", 0)
    assert SharedMemory(True, tmp_path).warning() == ""
    monkeypatch.setattr(shared_memory, "SMALL_BYTES", 2**63)
    assert "docker run --shm-size" in SharedMemory(True, tmp_path).warning()
