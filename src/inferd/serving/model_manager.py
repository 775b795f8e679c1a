"""Which models are loaded, in which state, and how they come and go: load, warm, swap, drain.

Runs on the loop's thread; what blocks (looking at disk, loading, closing) runs on loader threads.
One lock a model keeps its changes in order; requests never take it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from inferd.backends.registry import LLM, isolated
from inferd.batching.rate_limiter import RateLimiter, limited_instances
from inferd.caching.redis import RedisCache
from inferd.config.backend_config import NO_SETTINGS, BackendConfig
from inferd.config.model import ModelConfig
from inferd.config.unused import unused_fields
from inferd.errors import (
    ConfigError,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Unsupported,
)
from inferd.observability.machine import has_gpu
from inferd.observability.tracing import Tracing
from inferd.processes.heap import trim_memory
from inferd.repository.formats import ENSEMBLE, PYTHON
from inferd.repository.layout import READING, Reading, scan
from inferd.repository.source import ModelSource
from inferd.repository.version_policy import choose_versions
from inferd.serving.answer_cache import Cache
from inferd.serving.asks import Asks
from inferd.serving.ensembles.loading import (
    EnsembleModel,
    load_ensemble,
)
from inferd.serving.ensembles.roster import Roster, members_of, with_members, without_circles
from inferd.serving.isolated_loading import load_isolated
from inferd.serving.model_loading import load_model
from inferd.serving.mounts import Mounts
from inferd.serving.sent_models import SentModels
from inferd.serving.served_llm import LoadProgress, ServedLLM, load_llm
from inferd.serving.served_model import LoadSpec, ServedModel
from inferd.serving.version_record import Served, VersionRecord
from inferd.types.model import ModelReadyState, ModelStatus

_log = logging.getLogger("inferd.models")

State = ModelReadyState
T = TypeVar("T")


def intra_op_threads(cores: int, instances: int) -> int:
    """Threads for each instance so that all instances together use the cores once; at least 1."""
    return max(1, cores // instances)


class ModelManager:
    """Owns every loaded model."""

    def __init__(
        self, paths: tuple[Path, ...], cores: int, load_threads: int,
        engine_options: Mapping[str, object] = MappingProxyType({}),
        progress: LoadProgress | None = None, trust: bool = False,
        tracing: Tracing | None = None, reading: Reading = READING,
        backend_config: BackendConfig = NO_SETTINGS, load_retries: int = 0,
        limiter: RateLimiter | None = None, cache: Cache | None = None,
    ) -> None:  # fmt: skip
        self.default: dict[str, Served] = {}
        """Highest ready version of each model: what a request without a version gets."""
        self.records: dict[str, dict[int, VersionRecord]] = {}
        self.errors: dict[str, str] = {}
        """Models that cannot be served at all, and why."""
        self.starting = True
        """While true, every model that is to be loaded is wanted; later ones are once they have
        been loaded, so that adding a model does not take the server out of rotation."""
        self.wanted: set[str] = set()
        """Models that are to be served: they count for readiness."""
        self._optional: set[str] = set()
        self._paths = paths
        self._cores = cores
        self._trust = trust
        self._reading = reading
        self._backend_config = backend_config
        self._load_retries = load_retries
        self._engine_options = engine_options
        self._progress = progress
        self._locks: dict[str, asyncio.Lock] = {}
        self._loaders = ThreadPoolExecutor(load_threads, thread_name_prefix="inferd-load")
        self._retiring: set[asyncio.Task[None]] = set()
        self._gone: set[str] = set()
        """Models that have left the repository, and are not closed yet."""
        self.overridden: set[str] = set()
        """Models that were loaded otherwise than the repository has them, until they are again."""
        self.sent = SentModels(self._off_loop)
        self.roster = Roster()
        self.cache = cache
        self.asks = Asks(self.predictive)
        self.mounts = Mounts()
        self.tracing = tracing or Tracing()
        self._limiter = limiter

    # -- look-up, on the path of every request ------------------------------------------------

    def predictive(self, name: str, version: str = "") -> ServedModel:
        """The loaded model for a request of tensors; raises as `resolve`, and InvalidRequest for a
        language model."""
        served = self.resolve(name, version)
        if isinstance(served, ServedModel):
            return served
        raise InvalidRequest(
            f"model '{name}' is a language model and takes no tensors; it is served on "
            "/v1/chat/completions and /v1/completions"
        )

    def resolve(self, name: str, version: str = "") -> Served:
        """The loaded model for a request; raises ModelNotFound or ModelUnavailable."""
        if not version:
            served = self.default.get(name)
            if served is not None:
                return served
            if name not in self.records and name not in self.errors:
                raise ModelNotFound(f"Request for unknown model: '{name}' is not found")
            raise ModelUnavailable(
                f"Request for unknown model: '{name}' has no available versions"
                + (f": {self._why(name)}" if self._why(name) else "")
            )
        if name not in self.records and name not in self.errors:
            raise ModelNotFound(f"Request for unknown model: '{name}' is not found")
        record = self.records.get(name, {}).get(int(version)) if _is_version(version) else None
        if record is None:
            raise ModelNotFound(
                f"Request for unknown model: '{name}' version {version} is not found"
            )
        if record.served is None or record.state not in (State.READY, State.LOADING):
            raise ModelUnavailable(
                f"Request for unknown model: '{name}' version {version} is not at ready state: "
                f"{record.state.value} {record.reason}".rstrip()
            )
        return record.served

    def _why(self, name: str) -> str:
        if name in self.errors:
            return self.errors[name]
        reasons = [record.reason for record in self.records.get(name, {}).values()]
        return reasons[-1] if reasons else ""

    def index(self) -> list[ModelStatus]:
        """Every known version with its state, by name and version."""
        statuses = [
            record.status(name, version, self.errors.get(name, ""))
            for name, versions in self.records.items()
            for version, record in versions.items()
        ]
        statuses += [
            ModelStatus(name, 0, State.UNAVAILABLE, reason)
            for name, reason in self.errors.items()
            if not self.records.get(name)
        ]
        return sorted(statuses, key=lambda s: (s.name, s.version))

    def served_models(self) -> list[ServedModel]:
        """Every loaded version that takes tensors, by name and version."""
        return [served for served in self.loaded() if isinstance(served, ServedModel)]

    def served_llms(self) -> list[ServedLLM]:
        """Every loaded version of a language model, by name and version."""
        return [served for served in self.loaded() if isinstance(served, ServedLLM)]

    def loaded(self) -> list[Served]:
        """Every loaded version, by name and version."""
        return [
            record.served
            for _, versions in sorted(self.records.items())
            for _, record in sorted(versions.items())
            if record.served is not None
        ]

    def all_ready(self) -> bool:
        """Whether every model that should be served is, apart from those marked not required."""
        served = [self.default.get(name) for name in self.wanted - self._optional]
        return all(model is not None and not model.trouble for model in served)

    # -- change --------------------------------------------------------------------------------

    async def scan(self) -> dict[str, ModelSource]:
        """Look at the repository; raises ConfigError for a path that holds nothing."""
        return await self._off_loop(lambda: scan(self._paths, self._reading))

    async def load(
        self, name: str, override: ModelConfig | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Load a model, or what of it has changed; with a configuration in place of its own until
        the next load, and with `files`, by `<version>/<name>`, in place of all of its own.

        Raises ModelNotFound, or ConfigError or InvalidRequest with what failed.
        """
        if override is not None and (override.python or override.requirements) and not self._trust:
            raise InvalidRequest(
                "a configuration from the network says what code runs (python, requirements) only "
                "where the server was started with --trust"
            )
        if files:
            async with self.sent.laid_out(files) as sent:
                config = override or ModelConfig()
                source = await self._off_loop(lambda: sent.source(name, config, self._trust))
                await self._load_source(source, await self.scan() if members_of(source) else {})
            self.overridden.add(name)
            return
        sources = await self.scan()
        found = sources.get(name)
        if found is None:
            raise ModelNotFound(f"failed to load '{name}', failed to poll from model repository")
        source = found if override is None else _with_config(found, override)
        await self._load_source(source, sources)
        (self.overridden.discard if override is None else self.overridden.add)(name)

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
                    self._retire(name, version, "unloaded")

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
                self._retire(name, version, "unloaded")
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
        records = self.records.get(name, {}).values()
        if name in self._gone and not any(r.served or r.state is State.UNLOADING for r in records):
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
        if isinstance(self.cache, RedisCache):
            await self.cache.close()
        self._loaders.shutdown()

    async def _load_version(self, source: ModelSource, version: int, retry: bool) -> bool:
        name = source.name
        origin = source.versions[version].fingerprint, source.config
        versions = self.records.setdefault(name, {})
        record = versions.setdefault(version, VersionRecord(State.UNKNOWN))
        if not retry and record.failed_from == origin:
            return False
        record.failed_from = None
        if record.served and record.loaded_from == origin:
            record.state, record.reason = State.READY, ""
            return True
        previous = record.served
        record.state, record.reason = State.LOADING, ""
        config = self._backend_config.completed(source.config, source.backend)
        _warn_of_unused_fields(name, config, source.backend)
        spec = LoadSpec(
            name, version, source.versions[version].path, source.backend, config,
            intra_op_threads(self._cores, source.config.active_count), source.labels,
            self._trust, source.folder, source.sent,
            fingerprint=source.versions[version].fingerprint,
        )  # fmt: skip
        try:
            served = await self._load_limited(spec)
            await self._settle_cache(served)
        except InferdError as error:
            record.failed_from = origin
            self._load_failed(name, version, record, str(error))
            return False
        except Exception as error:
            _log.exception("model load raised", extra={"model": name, "version": version})
            record.failed_from = origin
            self._load_failed(name, version, record, f"{type(error).__name__}: {error}")
            return False
        if isinstance(served, ServedModel):
            served.trace_to(self.tracing.model(name))
        record.served, record.state, record.reason = served, State.READY, ""
        record.loaded_from = origin
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

    async def _load_in_tries(self, spec: LoadSpec) -> Served:
        for tries_left in range(self._load_retries, 0, -1):
            try:
                return await self._load(spec)
            except (ConfigError, Unsupported):
                raise  # it would be no better the next time
            except InferdError as error:
                extra = {"model": spec.name, "reason": str(error), "tries_left": tries_left}
                _log.warning("model failed to load and is tried again", extra=extra)
        return await self._load(spec)

    async def _load_limited(self, spec: LoadSpec) -> Served:
        """Load a model whose instances may need resources that the server has."""
        instances = limited_instances(spec.config) if self._limiter is not None else []
        if self._limiter is None or not instances or spec.backend in (LLM, ENSEMBLE):
            return await self._load_in_tries(spec)
        limits = self._limiter.join(instances)
        try:
            return await self._load_in_tries(replace(spec, limits=limits))
        except BaseException:
            limits.leave()
            raise

    async def _settle_cache(self, served: Served) -> None:
        """Have answers kept, if the model wants that; raises ConfigError, and then it is closed."""
        if not isinstance(served, ServedModel) or not served.config.response_cache.enable:
            return
        if self.cache is None:
            extra = {"model": served.name, "try": "--cache-config local,size=BYTES"}
            _log.warning("model enables response_cache, and the server has no cache", extra=extra)
            return
        try:
            served.keep_answers(self.cache)
        except ConfigError:
            await self._close_model(served)
            raise

    async def _load(self, spec: LoadSpec) -> Served:
        if spec.backend == ENSEMBLE:
            self.roster.making(spec.name)
            return load_ensemble(spec, self.predictive, asyncio.get_running_loop())
        _check_instances(spec)
        if spec.backend == LLM:
            return await load_llm(spec, self._engine_options, self._progress, self._off_loop)
        if isolated(spec.backend, spec.config):
            return await load_isolated(spec, self.asks, self.mounts)
        loop = asyncio.get_running_loop()
        return await self._off_loop(lambda: load_model(spec, loop))

    def _load_failed(self, name: str, version: int, record: VersionRecord, reason: str) -> None:
        _log.error(
            "model failed to load", extra={"model": name, "version": version, "reason": reason}
        )
        if record.served is not None:
            record.state = State.READY
            record.reason = f"reload failed, the copy loaded before serves on: {reason}"
        else:
            record.state, record.reason = State.UNAVAILABLE, reason
        self._set_default(name)

    def _retire(self, name: str, version: int, reason: str) -> None:
        record = self.records[name][version]
        served, record.served = record.served, None
        record.loaded_from = None
        if served is None:
            if record.state is not State.UNLOADING:
                record.state, record.reason = State.UNAVAILABLE, reason
            return
        record.state, record.reason = State.UNLOADING, ""
        self._set_default(name)

        async def retire() -> None:
            await self._close_model(served)
            if record.state is State.UNLOADING:
                record.state, record.reason = State.UNAVAILABLE, reason
            self._forget(name)
            _log.info("model unloaded", extra={"model": name, "version": version})

        self._spawn(retire())

    async def _close_model(self, served: Served) -> None:
        """Drain, close, and give the memory back to the system."""
        await served.drain()
        try:
            await self._off_loop(served.close)
        except Exception:  # of a framework; its place is given back all the same
            extra = {"model": served.name, "version": served.version}
            _log.exception("a model could not be closed", extra=extra)
        await self.sent.let_go(served.spec.sent)
        if isinstance(served, ServedModel) and served.spec.limits is not None:
            served.spec.limits.leave()
        await self._off_loop(trim_memory)

    def _set_default(self, name: str) -> None:
        ready = [r.served for _, r in sorted(self.records[name].items()) if r.served is not None]
        if ready:
            self.default[name] = ready[-1]
        else:
            self.default.pop(name, None)
        app = ready[-1].app if ready and isinstance(ready[-1], ServedModel) else None
        self.mounts.settle(name, app.mount if app is not None else "")

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loaders, work)


async def _drained(models: Iterable[Served]) -> None:
    await asyncio.gather(*[served.drain() for served in models])


def _warn_of_unused_fields(name: str, config: ModelConfig, backend: str) -> None:
    for field, why in unused_fields(config, backend):
        extra = {"model": name, "field": field, "why": why}
        _log.warning("a field of the configuration changes nothing here", extra=extra)


def _with_config(source: ModelSource, config: ModelConfig) -> ModelSource:
    if config.name and config.name != source.name:
        raise ConfigError(f"is '{config.name}', the model is '{source.name}'", field="name")
    return replace(source, config=config, error="")


def _check_instances(spec: LoadSpec) -> None:
    """Raises ConfigError for a class in Python that wants a GPU where there is none, which a
    backend finds out by itself."""
    groups = spec.config.instance_group
    if spec.backend == PYTHON and any(group.on_gpu for group in groups) and not has_gpu():
        raise ConfigError(
            "KIND_GPU needs a GPU, and there is none here; use KIND_CPU",
            field="instance_group.kind",
        )


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
