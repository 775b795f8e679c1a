"""ModelInfer over HTTP/2 without sockets: one model, in the express lane or in the ordinary way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpack import Decoder

from fakes import turns
from inferd.config.model import ModelConfig
from inferd.protocols.grpc.framing import Message, framed
from inferd.protocols.grpc.head import CallHead
from inferd.protocols.grpc.infer_call import InferCall, InferRoute
from inferd.protocols.grpc.inference.service import MODEL_INFER
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.http2.frames import DATA, END_STREAM, HEADERS, RST_STREAM, frame
from inferd.protocols.http2.stream import Http2Stream
from protocols.http.oip.lanes import Lanes
from protocols.http2.client import Client, Frame, data, headers, request

ORDINARY = "/test.Ways/Ordinary"
MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """All that came on one stream: fields of both blocks, and the bytes between them."""

    fields: dict[bytes, bytes]
    data: bytes

    @property
    def status(self) -> bytes:
        return self.fields[b"grpc-status"]

    @property
    def comparable(self) -> tuple[dict[bytes, bytes], bytes]:
        """What two answers to the same request share: all but the request's id."""
        return {n: v for n, v in self.fields.items() if n != b"x-request-id"}, self.data


class GrpcLanes:
    """The model `m` of Lanes, asked over gRPC. The clients speak HTTP/2 on one connection."""

    def __init__(self, model: bytes, folder: Path, config: ModelConfig | None = None) -> None:
        self.lanes = Lanes(model, folder, config)
        self.plane, self.served, self.pool = self.lanes.plane, self.lanes.served, self.lanes.pool
        self.walked: list[bytes] = []
        """Requests that the express lane sent the ordinary way."""
        self.route = InferRoute(self.plane)
        walked = self.walked

        class Riding(InferCall):
            __slots__ = ()

            def walk(self) -> None:
                walked.append(self.body)
                super().walk()

        class Walking(InferCall):
            __slots__ = ()

            def begin(self, message: Message) -> None:
                self._start(message)

        def starts(kind: type[InferCall]) -> Any:
            def start(router: GrpcRouter, stream: Http2Stream, head: CallHead) -> InferCall:
                return kind(router, stream, head, self.route)

            return start

        self.router = GrpcRouter(
            [Method(path, "unary", _nobody) for path in (MODEL_INFER, ORDINARY)],
            {MODEL_INFER: starts(Riding), ORDINARY: starts(Walking)},
            MOST,
        )
        self.client = Client(sink=self.router).begin()  # type: ignore[arg-type]
        wide = (1 << 30).to_bytes(4, "big")
        self.client.send(frame(8, 0, 0, wide))
        self.next_id = 1
        self.frames: list[Frame] = []

    async def __aenter__(self) -> "GrpcLanes":
        await self.lanes.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self.pool.held = False
        self.served.batcher.look()
        await self.lanes.__aexit__(*raised)
        assert self.lanes.trouble == []

    def send(self, *bodies: bytes, ordinary: bool = False, **fields: bytes) -> list[int]:
        """Calls in one turn, each on a stream of its own; the numbers of these."""
        path = ORDINARY if ordinary else MODEL_INFER
        block = request(_path=path.encode(), **fields)
        ids = [self.next_id + 2 * place for place in range(len(bodies))]
        self.next_id += 2 * len(bodies)
        sent = []
        for stream_id, body in zip(ids, bodies, strict=True):
            body = body if body[:1] == b"\x01" else framed(body)
            sent += [headers(stream_id, block), data(stream_id, body, END_STREAM)]
        self.frames += self.client.send(b"".join(sent))
        return ids

    def leave(self, *stream_ids: int) -> None:
        """The client breaks streams off."""
        for stream_id in stream_ids:
            self.client.send(frame(RST_STREAM, 0, stream_id, (8).to_bytes(4, "big")))

    async def answers(self, ids: list[int]) -> list[Answer | None]:
        """What has come by now on these streams; None where nothing has."""
        await turns(12)
        self.frames += self.client.taken()
        return [self._answer(stream_id) for stream_id in ids]

    def _answer(self, stream_id: int) -> Answer | None:
        mine = [frame for frame in self.frames if frame[2] == stream_id]
        if not mine:
            return None
        fields: dict[bytes, bytes] = {}
        for kind, _, _, payload in mine:
            if kind == HEADERS:
                fields |= dict(Decoder().decode(payload, raw=True))
        ends = [flags & END_STREAM for kind, flags, _, _ in mine if kind in (HEADERS, DATA)]
        assert ends == [0] * (len(ends) - 1) + [END_STREAM], "answered once"
        return Answer(fields, b"".join(p for kind, _, _, p in mine if kind == DATA))

    async def ask(self, *bodies: bytes, ordinary: bool = False, **fields: bytes) -> list[Answer]:
        """The answers to bodies that come in one turn."""
        answers = await self.answers(self.send(*bodies, ordinary=ordinary, **fields))
        assert None not in answers
        return answers  # type: ignore[return-value]

    async def only(self, body: bytes, ordinary: bool = False, **fields: bytes) -> Answer:
        """The answer to one body that comes alone."""
        (answer,) = await self.ask(body, ordinary=ordinary, **fields)
        return answer


async def _nobody(message: Any, context: Any) -> bytes:
    raise AssertionError("it is answered directly")
