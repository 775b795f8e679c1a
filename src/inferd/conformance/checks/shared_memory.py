"""Tensors in memory that client and server share, on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from inferd.conformance.check import Mismatch, Skipped, check, same
from inferd.conformance.wire import Wire

AREA = "shared memory"
NEEDS: dict[str, Any] = {"models": ("add_sub",), "extensions": ("system_shared_memory",)}
SIZE = 64


@contextmanager
def _region(wire: Wire, name: str, size: int, register: bool = True) -> Iterator[Any]:
    """A region of this process, which the server knows by the same name."""
    if not wire.target.is_local:
        raise Skipped("the server is on another machine")
    handle = shm.create_shared_memory_region(name, f"/{name}", size)
    try:
        if register:
            wire.client.register_system_shared_memory(name, f"/{name}", size)
        yield handle
    finally:
        wire.client.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(handle)


def _inputs(wire: Wire, name: str) -> list[Any]:
    made = []
    for index in range(2):
        tensor = wire.module.InferInput(f"INPUT{index}", [1, 16], "FP32")
        tensor.set_shared_memory(name, SIZE, offset=index * SIZE)
        made.append(tensor)
    return made


def _filled(handle: Any) -> tuple[Any, Any]:
    first, second = np.arange(16, dtype=np.float32)[None], np.full((1, 16), 2, np.float32)
    shm.set_shared_memory_region(handle, [first, second])
    return first, second


@check(AREA, **NEEDS)
def inputs_are_read_from_a_region(wire: Wire) -> None:
    with _region(wire, f"conformance_in_{wire.name}", 2 * SIZE) as handle:
        first, second = _filled(handle)
        result = wire.infer("add_sub", _inputs(wire, f"conformance_in_{wire.name}"))
        same("sums", result.as_numpy("OUTPUT0").tolist(), (first + second).tolist())


@check(AREA, **NEEDS)
def outputs_are_written_to_a_region(wire: Wire) -> None:
    name = f"conformance_out_{wire.name}"
    with _region(wire, name, SIZE) as handle:
        output = wire.output("OUTPUT1")
        output.set_shared_memory(name, SIZE)
        wire.infer("add_sub", wire.pair(), outputs=[output])
        got = shm.get_contents_as_numpy(handle, np.float32, [1, 16])
        same("differences", got.tolist(), [[float(value - 1) for value in range(16)]])


@check(AREA, **NEEDS)
def the_status_lists_regions(wire: Wire) -> None:
    name = f"conformance_status_{wire.name}"
    with _region(wire, name, SIZE):
        found = _status(wire)
        same("region", (found[name]["key"], int(found[name]["byte_size"])), (f"/{name}", SIZE))
    same("regions behind the end of it", name in _status(wire), False)


def _status(wire: Wire) -> dict[str, Any]:
    if wire.name == "http":
        return {one["name"]: one for one in wire.client.get_system_shared_memory_status()}
    found = wire.client.get_system_shared_memory_status(as_json=True).get("regions", {})
    return dict(found)


@check(AREA, **NEEDS)
def an_unknown_region_is_refused(wire: Wire) -> None:
    wire_error = _error(wire, lambda: wire.infer("add_sub", _inputs(wire, "no_such_region")))
    same("status", wire_error.status() in (wire.code("invalid"), wire.code("not found")), True)


@check(AREA, **NEEDS)
def a_tensor_beyond_its_region_is_refused(wire: Wire) -> None:
    name = f"conformance_short_{wire.name}"
    with _region(wire, name, SIZE):
        error = _error(wire, lambda: wire.infer("add_sub", _inputs(wire, name)))
        same("status", error.status(), wire.code("invalid"))


@check(AREA, **NEEDS)
def a_region_is_registered_once(wire: Wire) -> None:
    name = f"conformance_twice_{wire.name}"
    with _region(wire, name, SIZE):
        _error(wire, lambda: wire.client.register_system_shared_memory(name, f"/{name}", SIZE))


def _error(wire: Wire, ask: Any) -> InferenceServerException:
    try:
        ask()
    except InferenceServerException as error:
        return error
    raise Mismatch("what cannot be", "an error", "an answer")
