"""A model loaded into worker processes: its first worker says what it is, then the others start."""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from inferd.backends.base import ModelDescription
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import InferdError
from inferd.repository.formats import check_content
from inferd.serving.asks import Asks
from inferd.serving.limited_runner import limited
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.model_loading import check_batching
from inferd.serving.mounts import Mounts
from inferd.serving.served_model import ServedModel
from inferd.serving.visits import MountedApp
from inferd.serving.worker_pool import WorkerPool, start_all
from inferd.workers.culprits import Culprits
from inferd.workers.environment import Environment, environment_of
from inferd.workers.messages import Event, Loaded, Start
from inferd.workers.process import Worker

_log = logging.getLogger("inferd.models")
_clock_ns = time.perf_counter_ns

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""How many threads libraries start; what the server's own environment says goes before it."""


async def load_isolated(spec: LoadSpec, asks: Asks, mounts: Mounts) -> ServedModel:
    """Load a model into processes of its own; raises InferdError, then nothing stays behind but
    what it may have claimed of `mounts`."""
    start_ns = _clock_ns()
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(check_content, spec.path, spec.backend)
    folder = spec.folder or spec.path.parent.parent
    environment = await asyncio.to_thread(environment_of, spec.config, folder)
    culprits = Culprits()

    numbers = itertools.count()

    def pool(places: Sequence[ModelInstanceGroup]) -> WorkerPool:
        turns = itertools.cycle(places)
        return WorkerPool(
            spec.name, lambda: partial(_start, spec, next(turns), environment, next(numbers)),
            partial(asks.heard, spec.name, holds=spec.limits), culprits,
        )  # fmt: skip

    passive = [place for place in spec.config.instances if place.passive]
    active = [place for place in spec.config.instances if not place.passive]
    places = active or passive
    pools = [pool(places)]
    aside = [pool(passive)] if active and passive else []
    try:
        loaded = await pools[0].open()
        if loaded.mount:
            mounts.claim(loaded.mount, spec.name)
        terms = loaded.terms
        workers = len(places) if spec.config.instance_group else terms.instances or 1
        sessions = loaded.signature is not None and loaded.signature.sessions
        apart = sessions or spec.config.sequence_batching is not None
        share = 1 if apart else workers
        pools += [pool(places[n % len(places) :]) for n in range(1, workers)] if apart else []
        await start_all(each.open() for each in (*pools[1:], *aside))
        for each in (*pools, *aside):
            each.set_terms(terms, spec.config)
        await start_all(each.grow(share) for each in pools)
        await start_all(each.grow(len(passive)) for each in aside)
        check_batching(spec.config, loaded.max_batch_size)
        seats = [seat for each in pools for seat in each.seats]
        mounted = bool(loaded.mount and active)
        app = MountedApp(spec.name, loaded.mount, seats, pools[0].timeout_s) if mounted else None
        made = LoadedModel(
            description=_description(loaded), runners=limited(pools, spec.limits),
            instance_count=workers, load_ns=_clock_ns() - start_ns, explain=loaded.explain,
            culprits=culprits,
            max_queue_delay_microseconds=terms.max_queue_delay_microseconds or 0, app=app,
            passive=not active, close=partial(_close, aside), requests=terms.requests,
            ragged=loaded.ragged,
            says_ready=lambda: all(each.says_ready for each in pools),
            says_more=lambda: any(each.says_more for each in pools),
        )  # fmt: skip
        return ServedModel(spec, made, loop)
    except BaseException:
        await asyncio.gather(*[each.aclose() for each in (*pools, *aside)])
        raise


def _close(pools: list[WorkerPool]) -> None:
    for pool in pools:
        pool.close()


async def _start(
    spec: LoadSpec, place: ModelInstanceGroup, environment: Environment, number: int,
    hear: Callable[[Event], None],
    ended: Callable[[InferdError], None],
) -> Worker:  # fmt: skip
    worker = Worker(spec.name, hear, ended)
    config = spec.config
    if config.instance_group:
        config = msgspec.structs.replace(config, instance_group=(place,))
    start = Start(
        spec.name, spec.backend, str(spec.path), config, spec.threads, spec.trust, place.device,
        logging.getLogger("inferd").getEffectiveLevel(),
        str(spec.folder) if spec.folder is not None else "", spec.version, number,
    )  # fmt: skip
    threads = {n: str(spec.threads) for n in _THREAD_VARIABLES if n not in os.environ}
    variables = {"PYTHONUNBUFFERED": "1", **threads, **environment.variables}
    await worker.start(environment.python, start, variables)
    return worker


def _description(loaded: Loaded) -> ModelDescription:
    return ModelDescription(
        platform=loaded.platform, backend=loaded.backend, max_batch_size=loaded.max_batch_size,
        inputs=tuple(line.spec(loaded.max_batch_size > 0) for line in loaded.inputs),
        outputs=tuple(line.spec(loaded.max_batch_size > 0) for line in loaded.outputs),
        notes=loaded.notes, steady=loaded.steady, signature=loaded.signature,
        layout=loaded.layout,
    )  # fmt: skip
