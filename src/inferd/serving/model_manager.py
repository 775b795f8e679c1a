"""How models come and go: loaded, swapped, drained, retired.

Runs on the loop's thread; what blocks (looking at disk, loading, closing) runs on loader threads.
One lock a model keeps its changes in order; requests never take it. It refuses to know how a
version is loaded (`version_loader.py`) and which of them a request gets (`model_table.py`).
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inferd.batching.rate_limiter import RateLimiter
from inferd.config.backend_config import NO_SETTINGS, BackendConfig
from inferd.config.model import ModelConfig
from inferd.errors import InferdError, InvalidRequest, ModelNotFound
from inferd.observability.tracing import Tracing
from inferd.repository.formats import ENSEMBLE
from inferd.repository.layout import READING, Reading, scan
from inferd.repository.model_folder import with_config
from inferd.repository.source import ModelSource
from inferd.repository.version_policy import choose_versions
from inferd.serving.answer_cache import Cache
from inferd.serving.ensembles.loading import EnsembleModel
from inferd.serving.ensembles.roster import Roster, members_of, with_members, without_circles
from inferd.serving.model_table import ModelTable
from inferd.serving.sent_models import SentModels
from inferd.serving.served_llm import LoadProgress
from inferd.serving.served_model import ServedModel
from inferd.serving.version_loader import VersionLoader
from inferd.serving.version_record import Served, VersionRecord
from inferd.workers.environment import EXECUTION_ENV

_log = logging.getLogger("inferd.models")


class ModelManager(ModelTable):
    """Changes which models there are; owns every one that is loaded."""

    def __init__(
        self, paths: tuple[Path, ...], cores: int, load_threads: int,
        engine_options: Mapping[str, object] = MappingProxyType({}),
        progress: LoadProgress | None = None, trust: bool = False,
        tracing: Tracing | None = None, reading: Reading = READING,
        backend_config: BackendConfig = NO_SETTINGS, load_retries: int = 0,
        limiter: RateLimiter | None = None, cache: Cache | None = None, gpus: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.starting = True
        """While true, every model that is to be loaded is wanted; later ones are once they have
        been loaded, so that adding a model does not take the server out of rotation."""
        self.overridden: set[str] = set()
        """Models that were loaded otherwise than the repository has them, until they are again."""
        self.roster = Roster()
        self.tracing = tracing or Tracing()
        self._paths = paths
        self._reading = reading
        self._loader = VersionLoader(
            self.predictive, self.mounts, cores, load_threads, engine_options, progress, trust,
            backend_config, load_retries, limiter, cache, gpus,
        )  # fmt: skip
        self.cache = cache
        self.asks = self._loader.asks
        self.sent = SentModels(self._loader.off_loop)
        self._locks: dict[str, asyncio.Lock] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._gone: set[str] = set()
        """Models that have left the repository, and are not closed yet."""

    async def scan(self) -> dict[str, ModelSource]:
        """Look at the repository; raises ConfigError for a path that holds nothing."""
        return await self._loader.off_loop(lambda: scan(self._paths, self._reading))

    async def load(
        self, name: str, override: ModelConfig | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Load a model, or what of it has changed; with a configuration in place of its own until
        the next load, and with `files`, by `<version>/<name>`, in place of all of its own.

        Raises ModelNotFound, or ConfigError or InvalidRequest with what failed.
        """
        trust = self._loader.trust
        if files:
            self._check_code(override, ModelConfig())
            async with self.sent.laid_out(files) as sent:
                config = override or ModelConfig()
                source = await self._loader.off_loop(lambda: sent.source(name, config, trust))
                await self._load_source(source, await self.scan() if members_of(source) else {})
            self.overridden.add(name)
            return
        sources = await self.scan()
        found = sources.get(name)
        if found is None:
            raise ModelNotFound(f"failed to load '{name}', failed to poll from model repository")
        source = found
        if override is not None:
            self._check_code(override, found.config)
            source = await self._loader.off_loop(partial(with_config, found, override))
        await self._load_source(source, sources)
        (self.overridden.discard if override is None else self.overridden.add)(name)

    def _check_code(self, config: ModelConfig | None, own: ModelConfig) -> None:
        """Raises InvalidRequest for a configuration from the network that says what code runs, and
        is not allowed to; a model's own environment it may name."""
        if config is None or self._loader.trust:
            return
        named = config.parameter(EXECUTION_ENV)
        if config.python or config.requirements or named not in ("", own.parameter(EXECUTION_ENV)):
            raise InvalidRequest(
                "a configuration from the network says what code runs (python, requirements, "
                f"{EXECUTION_ENV}) only where the server was started with --trust"
            )

    async def _load_source(self, source: ModelSource, sources: Mapping[str, ModelSource]) -> None:
        """Load a model and, of an ensemble, those of `sources` that it is made of and that are not
        loaded."""
        name = source.name
        needed = with_members([name], {**sources, name: source})
        along = {n: s for n, s in needed.items() if n not in self.default}
        self.roster.came([name], along)
        await self.apply_all({**along, name: source})
        wanted = choose_versions(source.config.version_policy, source.versions)
        failed = [
            f"version {version} is at {record.state.value} state: {record.reason}"
            for version, record in self.records.get(name, {}).items()
            if version in wanted and record.reason
        ]
        if name in self.errors or failed:
            reason = self.errors.get(name) or "; ".join(failed)
            raise InvalidRequest(f"load failed for model '{name}': {reason}")

    async def apply_all(self, sources: Mapping[str, ModelSource], retry: bool = True) -> None:
        """Bring models to what their sources say, each ensemble after the models of its steps; then
        ensembles whose models have changed. `retry` as of `apply`."""
        tasks: dict[str, asyncio.Task[None]] = {}

        async def bring(source: ModelSource) -> None:
            if not source.error:
                before = [tasks[name] for name in members_of(source) if name in tasks]
                await asyncio.gather(*before, return_exceptions=True)
            await self.apply(source, retry)

        loop = asyncio.get_running_loop()
        for name, source in without_circles(sources).items():
            tasks[name] = loop.create_task(bring(source))
        await asyncio.gather(*tasks.values())
        await self._renew_ensembles()

    async def _renew_ensembles(self) -> None:
        """Load ensembles whose models have come, or have come again with other tensors."""
        while changed := self.roster.changed():
            source = changed[0]
            self.roster.making(source.name)
            if self._outdated(source):
                for record in self.records.get(source.name, {}).values():
                    record.loaded_from = record.failed_from = None
                await self.apply(source)

    def _outdated(self, source: ModelSource) -> bool:
        wanted = choose_versions(source.config.version_policy, source.versions)
        records = self.records.get(source.name, {})
        found = [records[version].served if version in records else None for version in wanted]
        return any(not isinstance(one, EnsembleModel) or one.outdated for one in found)

    async def apply(self, source: ModelSource, retry: bool = True) -> None:
        """Bring a model to what its source says: load what is new, then retire what is not wanted.

        A version that fails to load leaves what serves serving; without `retry` it is not tried
        again until it looks different.
        """
        name = source.name
        async with self._lock(name):
            if self.starting:
                self.wanted.add(name)
            (self._optional.discard if source.config.required else self._optional.add)(name)
            if source.error:
                if self.errors.get(name) != source.error:
                    extra = {"model": name, "reason": source.error}
                    _log.error("model cannot be served", extra=extra)
                self.errors[name] = source.error
                return
            self.errors.pop(name, None)
            self._gone.discard(name)
            self.roster.expect(source)
            wanted = choose_versions(source.config.version_policy, source.versions)
            if not wanted:
                self.errors[name] = "the version policy chooses none of the versions that exist"
            results = await asyncio.gather(*[self._load_version(source, v, retry) for v in wanted])
            if wanted and all(results):
                for version in [v for v in self.records.get(name, {}) if v not in wanted]:
                    self._retire(name, version)

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stop serving a model; returns once it takes no more requests, memory comes back later.
        Of one that is not there, as in Triton, there is nothing to stop.

        With `dependents` also the models that were loaded for it only, if it is an ensemble, and
        that no other ensemble needs.
        """
        source, left = await self._unload(name)
        if dependents and source is not None:
            await _drained(left)
            for member in self.roster.go_along(source):
                if member in self.records:
                    await self.unload(member, dependents)

    async def _unload(self, name: str) -> tuple[ModelSource | None, list[Served]]:
        """Retire what is loaded of a model; its source if it is an ensemble, and what was loaded,
        which may still have requests."""
        if name not in self._locks:  # no load has ever begun
            return None, []
        async with self._lock(name):
            source = self.roster.leave(name)
            self.wanted.discard(name)
            self.overridden.discard(name)
            self.errors.pop(name, None)
            records = self.records.get(name, {})
            left = [record.served for record in records.values() if record.served is not None]
            for version in records:
                self._retire(name, version)
        return source, left

    async def remove_all(self, names: Iterable[str]) -> None:
        """These models are gone from the repository: unload each, and forget it when it is closed;
        ensembles, and what they have begun, before the models of their steps."""
        gone = set(names)
        while gone:
            now = self.roster.outermost(gone)
            unloaded = await asyncio.gather(*[self._unload(name) for name in now])
            self._gone |= now
            for name in now:
                self._forget(name)
            gone -= now
            if gone:
                await asyncio.gather(*[_drained(left) for _, left in unloaded])

    def _forget(self, name: str) -> None:
        """Of a model that has left the repository nothing is known, once it is closed."""
        if name in self._gone and all(r.over for r in self.records.get(name, {}).values()):
            self._gone.discard(name)
            self.records.pop(name, None)

    async def settle(self) -> None:
        """Wait until every retired version is closed."""
        while self._retiring:
            await asyncio.gather(*self._retiring)

    async def drain(self) -> None:
        """Wait until no model has a request queued or running. New ones have been stopped."""
        await _drained(self.loaded())

    async def close(self) -> None:
        """Close every model."""
        for name in list(self.records):
            await self.unload(name)
        await self.settle()
        await self._loader.stop()

    async def _load_version(self, source: ModelSource, version: int, retry: bool) -> bool:
        name = source.name
        origin = source.versions[version].fingerprint, source.config
        record = self.records.setdefault(name, {}).setdefault(version, VersionRecord())
        if not retry and record.failed_from == origin:
            return False
        record.failed_from = None
        previous = record.served
        if previous is not None and record.loaded_from == origin:
            record.loaded(previous, origin)
            return True
        record.loading()
        if source.backend == ENSEMBLE:
            self.roster.making(name)
        try:
            served = await self._loader.load(source, version)
        except Exception as error:
            extra = {"model": name, "version": version}
            reason = str(error)
            if not isinstance(error, InferdError):
                _log.exception("model load raised", extra=extra)
                reason = f"{type(error).__name__}: {error}"
            _log.error("model failed to load", extra={**extra, "reason": reason})
            record.failed(origin, reason)
            self._set_default(name)
            return False
        if isinstance(served, ServedModel):
            served.trace_to(self.tracing.model(name))
        record.loaded(served, origin)
        if source.sent is not None:
            source.sent.hold()
        self.roster.loaded(name)
        self.wanted.add(name)
        self._set_default(name)
        if previous is not None:
            self._spawn(self._close_model(previous))
        _log.info(
            "model loaded",
            extra={
                "model": name, "version": version,
                "seconds": round(served.statistics.load_ns / 1e9, 3),
                "notes": "; ".join(served.description.notes),
            },
        )  # fmt: skip
        return True

    def _retire(self, name: str, version: int) -> None:
        record = self.records[name][version]
        served = record.unload()
        if served is None:
            return
        self._set_default(name)

        async def retire() -> None:
            await self._close_model(served)
            record.closed()
            self._forget(name)
            _log.info("model unloaded", extra={"model": name, "version": version})

        self._spawn(retire())

    async def _close_model(self, served: Served) -> None:
        await self._loader.close(served)
        await self.sent.let_go(served.spec.sent)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _drained(models: Iterable[Served]) -> None:
    await asyncio.gather(*[served.drain() for served in models])
