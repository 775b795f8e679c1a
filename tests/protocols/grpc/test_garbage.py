"""A call that has ended is gone with its message, without the collector: that comes late, and
messages may be large."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.onnx_models import identity
from fakes import on_loop, turns
from inferd.protocols.grpc.call import UnaryCall
from inferd.protocols.grpc.handled_call import StreamedCall
from inferd.protocols.grpc.methods import CallContext
from inferd.protocols.http2.frames import RST_STREAM, frame
from inferd.protocols.http2.stream import Http2Stream
from protocols.grpc.lanes import GrpcLanes
from protocols.grpc.test_endings import calling, settled, stream_echo, wait, whole
from protocols.grpc.test_express import raw
from protocols.http2.client import Client


def calls(client: Client) -> list[object]:
    """All there are of a client's, but for what the client itself remembers."""
    client.sinks.clear()
    kinds = (Http2Stream, UnaryCall, StreamedCall)
    found: list[Any] = [one for one in gc.get_objects() if isinstance(one, kinds)]
    return [one for one in found if getattr(one, "stream", one).connection is client.connection]


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("ordinary", [False, True])
@on_loop
async def test_of_model_infer(ordinary: bool, held: bool, count: int, tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        lanes.pool.held = held
        ids = lanes.send(*[raw()] * count, raw(model="nope"), ordinary=ordinary)
        await turns(12)
        lanes.pool.held = False
        lanes.served.batcher.look()
        assert None not in await lanes.answers(ids)
        assert calls(lanes.client) == []


@pytest.mark.parametrize("count", [1, 3])
@on_loop
async def test_of_model_infer_whose_client_leaves(count: int, tmp_path: Path) -> None:
    async with GrpcLanes(identity(), tmp_path) as lanes:
        lanes.pool.held = True
        ids = lanes.send(*[raw()] * count)
        await turns(12)
        lanes.leave(*ids)
        await turns(12)
        assert calls(lanes.client) == []


async def echo(data: Any, context: CallContext) -> bytes:
    return bytes(data)


@pytest.mark.parametrize("handler", [echo, stream_echo])
@on_loop
async def test_of_a_handler(handler: Any) -> None:
    client, _ = calling(**{handler.__name__: handler})
    await settled(client, whole(handler.__name__, b"a"))
    assert calls(client) == []


@on_loop
async def test_of_a_handler_whose_client_leaves() -> None:
    client, _ = calling(wait=wait)
    await settled(client, whole("wait", b"a"))
    assert len(calls(client)) == 2
    client.send(frame(RST_STREAM, 0, 1, bytes(4)))
    await turns(5)
    assert calls(client) == []
