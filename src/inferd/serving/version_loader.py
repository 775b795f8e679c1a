"""How one version of a model is loaded and closed: by which backend and where, in how many tries,
what its instances may hold while they run, where its answers are kept.

It refuses to know what is served already (`model_manager.py`). What blocks runs on loader threads,
everything else on the loop's.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

import msgspec

from inferd.backends.registry import LLM, isolated
from inferd.batching.rate_limiter import RateLimiter, limited_instances
from inferd.caching.redis import RedisCache
from inferd.config.backend_config import NO_SETTINGS, BackendConfig
from inferd.config.scheduling import on_each_gpu
from inferd.config.unused import unused_fields
from inferd.errors import ConfigError, InferdError, Unsupported
from inferd.observability.machine import has_gpu
from inferd.processes.heap import trim_memory
from inferd.repository.formats import ENSEMBLE, PYTHON
from inferd.repository.source import ModelSource
from inferd.serving.answer_cache import Cache
from inferd.serving.asks import Asks
from inferd.serving.ensembles.loading import load_ensemble
from inferd.serving.isolated_loading import load_isolated
from inferd.serving.loaded_model import LoadSpec
from inferd.serving.model_loading import load_model
from inferd.serving.mounts import Mounts
from inferd.serving.served_llm import LoadProgress, load_llm
from inferd.serving.served_model import ServedModel
from inferd.serving.version_record import Served

_log = logging.getLogger("inferd.models")

_ON_ONE_DEVICE = frozenset({"openvino", "tensorflow", LLM})
"""Backends whose models are on one device, whatever their instances."""

T = TypeVar("T")
Resolve = Callable[[str, str], ServedModel]


def intra_op_threads(cores: int, instances: int) -> int:
    """Threads for each instance so that all instances together use the cores once; at least 1."""
    return max(1, cores // instances)


class VersionLoader:
    """Loads what a ModelSource says, and closes it again; `resolve` finds the models that others
    are made of, or ask."""

    def __init__(
        self, resolve: Resolve, mounts: Mounts, cores: int, threads: int,
        engine_options: Mapping[str, object] = MappingProxyType({}),
        progress: LoadProgress | None = None, trust: bool = False,
        backend_config: BackendConfig = NO_SETTINGS, retries: int = 0,
        limiter: RateLimiter | None = None, cache: Cache | None = None, gpus: int = 0,
    ) -> None:  # fmt: skip
        self.trust = trust
        self.cache = cache
        self.asks = Asks(resolve)
        self._resolve = resolve
        self._mounts = mounts
        self._cores = cores
        self._engine_options = engine_options
        self._progress = progress
        self._backend_config = backend_config
        self._retries = retries
        self._limiter = limiter
        self._gpus = gpus
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="inferd-load")

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Have work done on a loader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def load(self, source: ModelSource, version: int) -> Served:
        """A version, ready to be asked; raises InferdError, and then nothing stays behind."""
        config = self._backend_config.completed(source.config, source.backend)
        for field, why in unused_fields(config, source.backend):
            extra = {"model": source.name, "field": field, "why": why}
            _log.warning("a field of the configuration changes nothing here", extra=extra)
        if source.backend not in _ON_ONE_DEVICE:
            groups = on_each_gpu(config.instance_group, self._gpus)
            config = msgspec.structs.replace(config, instance_group=groups)
        found = source.versions[version]
        served = await self._load_limited(
            LoadSpec(
                source.name, version, found.path, source.backend, config,
                intra_op_threads(self._cores, config.active_count), source.labels,
                self.trust, source.folder, source.sent, fingerprint=found.fingerprint,
            )
        )  # fmt: skip
        await self._settle_cache(served)
        return served

    async def close(self, served: Served) -> None:
        """Drain, close, and give the memory back to the system."""
        await served.drain()
        try:
            await self.off_loop(served.close)
        except Exception:  # of a framework; its place is given back all the same
            extra = {"model": served.name, "version": served.version}
            _log.exception("a model could not be closed", extra=extra)
        if isinstance(served, ServedModel) and served.spec.limits is not None:
            served.spec.limits.leave()
        await self.off_loop(trim_memory)

    async def stop(self) -> None:
        """Nothing is loaded or closed any more; waits for what still is, for nobody."""
        if isinstance(self.cache, RedisCache):
            await self.cache.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def _load_in_tries(self, spec: LoadSpec) -> Served:
        for tries_left in range(self._retries, 0, -1):
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
            await self.close(served)
            raise

    async def _load(self, spec: LoadSpec) -> Served:
        if spec.backend == ENSEMBLE:
            return load_ensemble(spec, self._resolve, asyncio.get_running_loop())
        if not self._gpus:
            _check_instances(spec)
        if spec.backend == LLM:
            return await load_llm(spec, self._engine_options, self._progress, self.off_loop)
        if isolated(spec.backend, spec.config):
            return await load_isolated(spec, self.asks, self._mounts)
        loop = asyncio.get_running_loop()
        return await self.off_loop(lambda: load_model(spec, loop))


def _check_instances(spec: LoadSpec) -> None:
    """Raises ConfigError for a class in Python that wants a GPU where there is none, which a
    backend finds out by itself."""
    groups = spec.config.instance_group
    if spec.backend == PYTHON and any(group.on_gpu for group in groups) and not has_gpu():
        raise ConfigError(
            "KIND_GPU needs a GPU, and there is none here; use KIND_CPU",
            field="instance_group.kind",
        )
