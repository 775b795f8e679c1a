"""The engine of language models, usable without a server: paged KV cache, continuous batching,
prefix caching, on a CPU without torch. What decides is pure; what computes is in `worker`.

It refuses to know servers and protocols. `LLM` and `SamplingParams` are what a program needs.
"""

from typing import TYPE_CHECKING, Any

from inferd.types.generation import SamplingParams

if TYPE_CHECKING:
    from inferd.engine.async_llm import AsyncLLM
    from inferd.engine.llm import LLM

__all__ = ["LLM", "AsyncLLM", "SamplingParams"]


def __getattr__(name: str) -> Any:
    # Neither Numba nor tokenizers is loaded until somebody has a model to run.
    if name == "LLM":
        from inferd.engine.llm import LLM

        return LLM
    if name == "AsyncLLM":
        from inferd.engine.async_llm import AsyncLLM

        return AsyncLLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
