"""Sequences and schedulers for the tests of this folder."""

from collections.abc import Iterable
from itertools import count
from typing import Any

from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.output import Finished, SchedulerOutput
from inferd.engine.sched.scheduler import Scheduler
from inferd.engine.sched.sequence import Sequence
from inferd.engine.sched.step_time import StepCost, StepTime
from inferd.types.generation import GenerationRequest, SamplingParams

EOS = 1000
BLOCK = 4
_ids = count()


def make(
    prompt: int | list[int] = 3,
    *,
    request_id: str = "",
    priority: int = 0,
    tenant: str = "",
    arrival_s: float = 0.0,
    cache_salt: str = "",
    **params: Any,
) -> Sequence:
    """One sequence; a number as prompt is that many tokens, like no other sequence's."""
    return siblings(
        prompt,
        request_id=request_id,
        priority=priority,
        tenant=tenant,
        arrival_s=arrival_s,
        cache_salt=cache_salt,
        **params,
    )[0]


def siblings(
    prompt: int | list[int] = 3, *, request_id: str = "", n: int = 1, **fields: Any
) -> list[Sequence]:
    """The `n` sequences of one request."""
    first = next(_ids)
    if isinstance(prompt, int):
        prompt = [2000 + 100 * first + i for i in range(prompt)]
    own = {
        key: fields.pop(key) for key in list(fields) if key in GenerationRequest.__struct_fields__
    }
    request = GenerationRequest(
        id=request_id or f"r{first}",
        prompt_token_ids=prompt,
        params=SamplingParams(n=n, **fields),
        **own,
    )
    ids = [first, *(next(_ids) for _ in range(n - 1))]
    return [Sequence.from_request(request, index, id) for index, id in enumerate(ids)]


def make_scheduler(
    num_blocks: int = 100, *, caching: bool = True, cost: StepCost | None = None, **options: Any
) -> Scheduler:
    """A scheduler over blocks of 4 tokens, for sequences of up to 200, whose end token is EOS."""
    settings: dict[str, Any] = {"max_model_len": 200, "max_num_seqs": 8, "watermark": 0.0}
    return Scheduler(
        SchedulerOptions(**(settings | options)),
        KVCacheManager(num_blocks, BLOCK, caching),
        StepTime(cost),
        (EOS,),
    )


def run(
    scheduler: Scheduler,
    *,
    now_s: float = 0.0,
    token: int = 7,
    tokens: dict[int, int] | None = None,
) -> tuple[SchedulerOutput, list[Finished]]:
    """A step in which every sequence samples `token`, or its own of `tokens`. It takes as long as
    predicted, so that nothing is learned."""
    output = scheduler.schedule(now_s)
    sampled = {
        entry.sequence.id: (tokens or {}).get(entry.sequence.id, token)
        for entry in output.sequences
        if entry.samples
    }
    step_s = scheduler.step_time.predict(output.load)
    return output, scheduler.update(output, sampled, now_s, step_s)


def amounts(output: SchedulerOutput) -> dict[int, int]:
    """How many tokens each sequence computes, by its id."""
    return {entry.sequence.id: entry.num_tokens for entry in output.sequences}


def ids(sequences: Iterable[Sequence]) -> list[int]:
    """Their ids."""
    return [sequence.id for sequence in sequences]
