"""`inferd.Server`: a server within the process that asks it."""

import json
import warnings
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from inferd.config.server import ServerConfig
from inferd.core import Core
from inferd.embedded.core_thread import CoreThread
from inferd.embedded.model_handle import ModelHandle
from inferd.embedded.options import Servable, server_config
from inferd.errors import InvalidRequest, ModelUnavailable, Unsupported
from inferd.protocols.oip.metadata import server_metadata
from inferd.protocols.oip.repository import index_line


class Server:
    """Models, loaded, batched and watched as by `inferd serve`, without sockets.

        with inferd.Server("models/", model_control_mode="explicit") as server:
            server.load("digits")
            result = server.model("digits").infer({"image": array})

    It serves from the moment it is made. It runs on an event loop in a thread of its own; every
    method may be called from any thread, and blocks until it is done: what is awaited instead
    begins with an `a`.

    `close`, or the end of the `with`, refuses new requests, finishes those in flight within
    `exit_timeout_secs` (those that take longer get ModelUnavailable), and closes the models. One
    that is forgotten is closed when it is collected, with a ResourceWarning, or when the
    interpreter ends. Behind a fork it answers with Unsupported in the child, and goes on in the
    parent: make a server in each process, or start processes with the method "spawn".
    """

    def __init__(
        self, *paths: Servable,
        model_repository: Servable | list[Servable] | tuple[Servable, ...] = (),
        config: ServerConfig | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """Return when what should be served at start is loaded, or has failed to: see `index`.

        `paths`, and `model_repository` in Triton's word, are whatever `inferd serve` takes, and
        classes of models. `options` are those of `inferd serve`, in place of what `config` says;
        those for sockets and for the log are refused. Raises ConfigError.
        """
        if not isinstance(model_repository, list | tuple):
            model_repository = (model_repository,)
        self._thread = CoreThread(server_config([*paths, *model_repository], config, options))
        self._thread.start()
        self._forgotten = weakref.finalize(self, self._thread.stop_at_exit)

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def __del__(self) -> None:
        forgotten: weakref.finalize[..., Any] | None = getattr(self, "_forgotten", None)
        if forgotten is not None and forgotten.detach() and not self._thread.ended:
            warnings.warn("a server was not closed", ResourceWarning, stacklevel=2, source=self)
            self._thread.tell_to_stop()  # and not wait: whatever thread this is has other work

    def close(self) -> None:
        """Finish what is in flight and end; harmless when it has."""
        self._forgotten.detach()
        self._thread.stop()

    # -- models --------------------------------------------------------------------------------

    def model(self, name: str, version: int | str = "") -> ModelHandle:
        """A model to ask; without a version, whatever is the default when it is asked."""
        return ModelHandle(self, self._thread, name, str(version))

    def models(self) -> list[ModelHandle]:
        """Every version that is ready, by name and version."""
        ready = self._thread.call(lambda core: core.control.index(ready_only=True))
        return [self.model(status.name, status.version) for status in ready]

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Every model that is or could be served: name, version, state, and the reason of one that
        failed."""
        found = self._thread.call(lambda core: core.control.index(ready_only))
        return [index_line(status) for status in found]

    def load(
        self, name: str, config: Mapping[str, Any] | str | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Load a model, or what has changed of it, and return when it is ready. `config` stands for
        its own, in the fields of Triton's ModelConfig, or their JSON; `files`, by
        `<version>/<name>`, for its own.

        Raises ModelNotFound, ConfigError, InvalidRequest with what failed, and ModelUnavailable
        unless `model_control_mode` is "explicit".
        """
        read = _config(config)
        self._thread.call(lambda core: core.control.load(name, read, files))

    async def aload(
        self, name: str, config: Mapping[str, Any] | str | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """The same from the caller's own event loop; it goes on when the wait is left."""
        read = _config(config)
        await self._thread.acall(lambda core: core.control.load(name, read, files))

    def unload(self, name: str) -> None:
        """Stop serving a model; returns when it takes no more requests. Raises as `load`."""
        self._thread.call(lambda core: core.control.unload(name))

    async def aunload(self, name: str) -> None:
        """The same from the caller's own event loop; it goes on when the wait is left."""
        await self._thread.acall(lambda core: core.control.unload(name))

    # -- the server ----------------------------------------------------------------------------

    def live(self) -> bool:
        """Whether it has not been closed."""
        return self._says(lambda core: core.data.live())

    def ready(self) -> bool:
        """Whether every model that should be served is."""
        return self._says(lambda core: core.data.ready())

    def _says(self, question: Callable[[Core], bool]) -> bool:
        try:
            return bool(self._thread.call(question))
        except (ModelUnavailable, Unsupported):  # closed, or behind a fork
            return False

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        name, version = self._thread.call(lambda core: core.data.server_metadata())
        return server_metadata(name, version)

    def metrics(self) -> str:
        """All metrics, as Prometheus reads them."""
        text: bytes = self._thread.call(lambda core: core.render_metrics())
        return text.decode()


def _config(config: Mapping[str, Any] | str | None) -> Mapping[str, Any] | None:
    """A configuration that may be JSON; raises InvalidRequest."""
    if not isinstance(config, str):
        return config
    try:
        read: Mapping[str, Any] = json.loads(config)
    except ValueError as error:
        raise InvalidRequest(f"config is not JSON: {error}") from error
    return read
