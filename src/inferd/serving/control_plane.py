"""The ControlPlane: everything that a protocol may ask about what is served, and to change it."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from inferd.config.server import ServerConfig
from inferd.errors import InferdError, ModelUnavailable
from inferd.observability.log_settings import LogSettings
from inferd.observability.logging import log_settings, set_log_settings
from inferd.observability.tracing import Tracing
from inferd.repository.model_config import decode_model_config
from inferd.repository.source import ModelSource
from inferd.serving.ensembles.roster import with_members
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_model import ServedModel
from inferd.types.model import ModelReadyState, ModelStatus

_log = logging.getLogger("inferd.models")

RELOAD_POLL_S = 0.5
"""How often to look whether an author has saved a file."""


class ControlPlane:
    """Changes what is served. All calls on the loop's thread."""

    def __init__(self, manager: ModelManager, config: ServerConfig) -> None:
        self._manager = manager
        manager.asks.control = self
        self._mode = config.model_control_mode
        self._load_model = config.load_model
        followed = config.model_control_mode == "poll" or config.reload
        self._poll_secs = RELOAD_POLL_S if config.reload else config.repository_poll_secs
        self._polls = followed and self._poll_secs > 0
        self._known: set[str] = set()
        self._changing: set[asyncio.Task[None]] = set()

    # -- the repository -----------------------------------------------------------------------

    async def index(self, ready_only: bool = False) -> list[ModelStatus]:
        """Every model that is or was served or could be, with its state. Where models are loaded
        on demand the repository is looked at for those that have come since, as in Triton."""
        if ready_only:
            return [s for s in self._manager.index() if s.state is ModelReadyState.READY]
        if self._mode != "explicit":
            return self.known_index()
        try:
            return self._with_unloaded(await self._manager.scan())
        except (InferdError, OSError) as error:
            _log.error("repository cannot be read", extra={"reason": str(error)})
            return self.known_index()

    def known_index(self) -> list[ModelStatus]:
        """The same, of the repository as it was when it was last followed."""
        return self._with_unloaded(self._known)

    def _with_unloaded(self, names: Iterable[str]) -> list[ModelStatus]:
        statuses = self._manager.index()
        listed = {status.name for status in statuses}
        unloaded = [ModelStatus(n, 0, ModelReadyState.UNKNOWN) for n in names if n not in listed]
        return sorted([*statuses, *unloaded], key=lambda status: (status.name, status.version))

    async def load(
        self, name: str, config: object | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Load or reload a model, with a configuration in place of its own if one is given, and
        with files, by `<version>/<name>`, in place of its own.

        Returns when it is ready. Raises ModelUnavailable when loading is not allowed,
        ModelNotFound, ConfigError, and InvalidRequest with what failed.
        """
        self._check_explicit()
        override = None
        if config is not None:
            override = decode_model_config(config, file="parameters.config", strict=False)
        await self._changed(self._manager.load(name, override, files))

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stop serving a model, with `dependents` also the models that were loaded for it only;
        returns when it takes no more requests."""
        self._check_explicit()
        await self._changed(self._manager.unload(name, dependents))

    async def _changed(self, change: Coroutine[Any, Any, None]) -> None:
        """Make a change, to its end though whoever asked for it may leave before: half of one would
        leave behind what nobody knows of."""
        task = asyncio.get_running_loop().create_task(change)
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        await asyncio.shield(task)

    def _check_explicit(self) -> None:
        if self._mode == "poll":
            raise ModelUnavailable(
                "explicit model load / unload is not allowed if polling is enabled"
            )
        if self._mode == "none":
            raise ModelUnavailable(
                "explicit model load / unload is not allowed in model control mode 'none'; "
                "start the server with --model-control-mode explicit"
            )

    # -- what is known of models --------------------------------------------------------------

    def models(self, name: str = "", version: str = "") -> list[ServedModel]:
        """The loaded versions of one model that takes tensors, or of all; raises as
        DataPlane.served does."""
        if not name:
            return self._manager.served_models()
        served = self._manager.predictive(name, version)
        if version:
            return [served]
        return [model for model in self._manager.served_models() if model.name == name]

    # -- what is told of the server ------------------------------------------------------------

    def log_settings(self) -> LogSettings:
        """Which severities are logged."""
        return log_settings()

    def set_log_settings(self, settings: LogSettings) -> None:
        """Log others from now on."""
        set_log_settings(settings)

    def tracing(self, name: str = "") -> Tracing:
        """What is traced, of one model that takes tensors or of all; raises as DataPlane.served
        does."""
        if name:
            self._manager.predictive(name)
        return self._manager.tracing

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what should be served at start; failures are states, not exceptions.

        Raises ConfigError when a path holds no models at all.
        """
        await self._manager.sent.remove_forsaken()
        sources = await self._manager.scan()
        self._known = set(sources)
        if self._mode == "explicit":
            names = set(self._load_model)
            wanted = sources if "*" in names else with_members(names, sources)
            self._manager.roster.came(wanted if "*" in names else names, wanted)
            for name in sorted(names - set(sources) - {"*"}):
                await self._manager.apply(
                    ModelSource(name, error=f"'{name}' of --load-model is not in the repository")
                )
        else:
            wanted = sources
        await self._manager.apply_all(wanted)
        self._manager.starting = False

    async def poll(self) -> None:
        """Follow the repository until cancelled; only in poll mode, or to reload."""
        while self._polls:
            await asyncio.sleep(self._poll_secs)
            try:
                await self.poll_once()
            except (InferdError, OSError) as error:
                _log.error("repository cannot be read", extra={"reason": str(error)})
            except Exception:  # a fault of the server's own; the next look may do without it
                _log.exception("the repository was not followed")

    async def poll_once(self) -> None:
        """Look at the repository and bring what is served to what it holds; in explicit mode of
        the models that are wanted."""
        sources = await self._manager.scan()
        gone = self._known - set(sources)
        self._known = set(sources)
        followed = set(sources) - self._manager.overridden
        if self._mode == "explicit":
            followed &= self._manager.wanted
        await asyncio.gather(
            self._manager.apply_all({n: sources[n] for n in sorted(followed)}, retry=False),
            self._manager.remove_all(gone),
        )
