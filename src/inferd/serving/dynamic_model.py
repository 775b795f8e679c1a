"""A model whose requests stand alone: the batcher that its configuration asks for."""

import asyncio

from inferd.batching.batcher import DynamicBatcher
from inferd.batching.levels import Levels
from inferd.batching.policy import BatchPolicy
from inferd.batching.queue import DEFAULT_MAX_QUEUE_SIZE, QueueOptions
from inferd.config.scheduling import ModelDynamicBatching, ModelQueuePolicy
from inferd.observability.statistics import ModelStatistics
from inferd.serving.loaded_model import LoadedModel, LoadSpec, ModelRunner
from inferd.types.tensor import TensorSpec

MAX_BUNDLE = 64
"""Requests of a model without batching that may go to its worker in one message."""


def dynamic_batcher(
    spec: LoadSpec, loaded: LoadedModel, runner: ModelRunner, outputs: tuple[TensorSpec, ...],
    streams: bool, statistics: ModelStatistics, loop: asyncio.AbstractEventLoop,
) -> DynamicBatcher:  # fmt: skip
    """The batcher in front of a runner of a model that gives `outputs`, perhaps as a stream."""
    description = loaded.description
    batching = spec.config.dynamic_batching or ModelDynamicBatching()
    options = _queue_options(batching.default_queue_policy, batching.preserve_ordering)
    levels: Levels | None = None
    if batching.priority_levels or options.delay:
        levels = Levels(
            options,
            batching.priority_levels,
            batching.default_priority_level if batching.priority_levels else 0,
            {
                level: _queue_options(policy, batching.preserve_ordering)
                for level, policy in batching.priority_queue_policy.items()
            },
        )
        options = levels.of(0)
    delay_us = batching.max_queue_delay_microseconds or loaded.max_queue_delay_microseconds
    return DynamicBatcher(
        BatchPolicy(
            0 if streams else description.max_batch_size,
            batching.preferred_batch_size,
            delay_us * 1000,
            MAX_BUNDLE if loaded.requests and not streams else 1,
        ),
        options,
        outputs,
        runner,
        statistics,
        loop,
        spec.name,
        str(spec.version),
        levels,
        description.layout,
    )


def _queue_options(policy: ModelQueuePolicy, preserve_ordering: bool) -> QueueOptions:
    return QueueOptions(
        policy.max_queue_size or DEFAULT_MAX_QUEUE_SIZE,
        policy.default_timeout_microseconds,
        policy.allow_timeout_override,
        preserve_ordering,
        policy.delays,
    )
