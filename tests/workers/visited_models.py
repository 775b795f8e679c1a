"""Models with HTTP routes of their own, for the tests beside this."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import inferd

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Shop(inferd.Model, timeout_s=1.0):
    """Synchronous, with an application that has a life."""

    def load(self) -> None:
        self.calls = self.sent = 0

    def predict(self, number: int) -> int:
        if number == 13:
            os._exit(13)
        self.calls += 1
        return self.calls

    def asgi(self) -> Starlette:
        routes = [
            Route("/", self.seen),
            Route("/echo", self.echo, methods=["POST"]),
            Route("/size", self.size, methods=["POST"]),
            Route("/late", self.late, methods=["POST"]),
            Route("/endless", self.endless),
            Route("/answer/{kind}", self.answer),
            Route("/fault/{what}", self.fault),
        ]
        return Starlette(routes=routes, lifespan=self.life)

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        mark = os.environ.get("VISITED_MARK")
        if mark:
            Path(mark).write_text("open")
        yield {"opened": "by its life"}
        if mark:
            Path(mark).write_text("closed")

    async def seen(self, request: Request) -> Response:
        scope = request.scope
        return JSONResponse(
            {
                "method": scope["method"], "path": scope["path"], "root": scope["root_path"],
                "query": dict(request.query_params), "client": scope["client"],
                "headers": {n.decode(): v.decode() for n, v in scope["headers"]},
                "opened": request.state.opened, "calls": self.calls, "sent": self.sent,
                "thread": threading.current_thread().name, "pid": os.getpid(),
                "url": str(request.url_for("echo")) if "echo" in request.query_params else "",
            }
        )  # fmt: skip

    async def echo(self, request: Request) -> Response:
        return StreamingResponse(request.stream(), media_type="application/octet-stream")

    async def size(self, request: Request) -> Response:
        return JSONResponse({"size": len(await request.body())})

    async def late(self, request: Request) -> Response:
        """Answers before it has read any of its body."""
        return Response(b"early", 409)

    async def endless(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
                    self.sent += 1
                    await asyncio.sleep(0)
            finally:
                Path(request.query_params["mark"]).write_text("left")

        return StreamingResponse(parts(), headers={"x-kind": "endless"})

    async def answer(self, request: Request) -> Response:
        match request.path_params["kind"]:
            case "nothing":
                return Response(status_code=204)
            case "unchanged":
                return Response(status_code=304, headers={"etag": '"1"'})
            case "cookies":
                response = Response(b"x", headers={"connection": "x-hop", "x-hop": "1", "te": "x"})
                response.set_cookie("a", "1")
                response.set_cookie("b", "2")
                return response
            case "short":
                return StreamingResponse(_two_parts(), headers={"content-length": "5"})
            case "exact":
                return StreamingResponse(_two_parts(), headers={"content-length": "6"})
            case "split":
                return Response(b"", headers={"x-bad": "1\r\nx-injected: 2"})
            case _:
                return Response(b"informed", 103)

    async def fault(self, request: Request) -> Response:
        match request.path_params["what"]:
            case "exit":
                os._exit(7)
            case "exit later":
                return StreamingResponse(_exits())
            case "raise":
                raise ValueError("no such thing")
            case "raise later":
                return StreamingResponse(_raises())
            case "sys.exit":
                raise SystemExit(3)
            case "half":
                raise SystemExit("half a pair: \udc80")
            case "hang":
                await asyncio.Event().wait()
            case "block":
                threading.Event().wait()
        return Response(b"fine")


async def _two_parts() -> AsyncIterator[bytes]:
    yield b"abc"
    yield b"def"


async def _exits() -> AsyncIterator[bytes]:
    yield b"some"
    await asyncio.sleep(0.2)
    os._exit(8)


async def _raises() -> AsyncIterator[bytes]:
    yield b"some"
    await asyncio.sleep(0.2)
    raise ValueError("behind the head")


class Front(inferd.Model, mount="/front/desk"):
    """Asynchronous, with a plain application that knows of no life, on the model's own loop."""

    async def load(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.arrived = asyncio.Event()

    async def predict(self, number: int) -> int:
        self.arrived.set()
        return number

    async def asgi(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"].endswith("/wait"):
            await self.arrived.wait()
        if scope["path"].endswith("/left"):
            while (await receive())["type"] != "http.disconnect":
                pass
            Path(scope["query_string"].decode()).write_text("left")
            await asyncio.Event().wait()  # until it is cancelled
        said = {"path": scope["path"], "same": asyncio.get_running_loop() is self.loop}
        headers = [(b"Content-Type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})


class Inner(inferd.Model, mount="/front/desk/drawer"):
    """Below the mount of another."""

    def predict(self, number: int) -> int:
        return number

    async def asgi(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"the drawer"})


class Hides(inferd.Model, mount="/v2"):
    def predict(self, number: int) -> int:
        return number

    asgi = Inner.asgi


class Also(inferd.Model, mount="/front/desk"):
    def predict(self, number: int) -> int:
        return number

    asgi = Inner.asgi


class Unwell(inferd.Model):
    """Its application does not start."""

    def predict(self, number: int) -> int:
        return number

    def asgi(self) -> Starlette:
        @asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            raise ValueError("the shop is closed")
            yield

        return Starlette(lifespan=life)
