"""What the engine of a language model can be told, in vLLM's words where it has one.

It refuses to know what `auto` becomes: that is decided where machine and model are known
(`engine/loading.py`).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Dtype = Literal["auto", "float32", "bfloat16"]
Quantization = Literal["int8", "int4"]
KVCacheDtype = Literal["auto", "float32", "bfloat16", "int8"]
Device = Literal["auto", "cpu", "cuda"]
SchedulingPolicy = Literal["fcfs", "priority"]
Isolation = Literal["thread", "process"]

Count = Annotated[int, Meta(ge=1)]


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of one language model."""

    dtype: Annotated[
        Dtype, Meta(description="Type of the weights; auto keeps what the checkpoint has.")
    ] = "auto"
    quantization: Annotated[
        Quantization | None,
        Meta(description="Weights made smaller at load: int8 per channel, int4 in groups of 32."),
    ] = None
    kv_cache_dtype: Annotated[
        KVCacheDtype, Meta(description="Type of the KV cache; auto is that of the weights.")
    ] = "auto"
    device: Annotated[Device, Meta(description="Where the model runs.")] = "auto"
    max_model_len: Annotated[
        Count | None, Meta(description="Longest sequence in tokens; default: the model's own.")
    ] = None
    max_num_seqs: Annotated[Count, Meta(description="Sequences that run at once.")] = 64
    max_num_batched_tokens: Annotated[Count, Meta(description="Tokens in one step, at most.")] = 512
    max_num_partial_prefills: Annotated[
        Count, Meta(description="Prompts that are computed in part at once.")
    ] = 4
    max_num_queued_reqs: Annotated[
        Count, Meta(description="Requests that may wait; more are refused with 429.")
    ] = 1024
    max_num_queued_tokens: Annotated[
        Count, Meta(description="Prompt tokens that may wait; more are refused with 429.")
    ] = 1 << 20
    max_logprobs: Annotated[
        int, Meta(ge=-1, description="Most logprobs a request may ask for; -1: no limit.")
    ] = 20
    inter_token_target_ms: Annotated[
        float, Meta(gt=0, description="How long a step may take while anybody's tokens stream.")
    ] = 200.0
    kv_cache_memory_bytes: Annotated[
        Count | None, Meta(description="Memory for the KV cache; default: what the model needs.")
    ] = None
    enable_prefix_caching: Annotated[
        bool, Meta(description="Keep computed prompts for others that begin alike.")
    ] = True
    scheduling_policy: Annotated[
        SchedulingPolicy, Meta(description="fcfs: requests' priorities are not looked at.")
    ] = "fcfs"
    seed: Annotated[int | None, Meta(description="Seed for requests without one of their own.")] = (
        None
    )
    threads: Annotated[
        int, Meta(ge=0, description="Threads that compute; 0: one for each physical core.")
    ] = 0
    packed_cache: Annotated[
        bool, Meta(description="Keep packed weights on disk for the next start.")
    ] = True
    isolation: Annotated[
        Isolation,
        Meta(description="Where the engine runs; the server survives the crash of a process."),
    ] = "thread"
