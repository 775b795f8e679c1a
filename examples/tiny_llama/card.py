"""The model's card: what it is, how it was made, whose text it repeats."""

import platform
from dataclasses import dataclass

import torch

from examples.tiny_llama.texts import SHARES
from examples.tiny_llama.training import BATCH_TOKENS, Quality


@dataclass(frozen=True, slots=True)
class Making:
    """The figures of one training."""

    parameters: int
    steps: int
    seconds: float
    threads: int
    held_out_texts: int
    quality: Quality


def card(making: Making) -> str:
    """The README.md of the model's folder, made by the training."""
    q = making.quality
    mixture = ", ".join(
        f"{kind} ({early:.0%}, later {late:.0%})" for kind, (early, late) in SHARES.items()
    )
    return f"""---
license: psf-2.0
language: en
pipeline_tag: text-generation
---

# tiny-llama

A Llama of {making.parameters:,} parameters that answers questions about Python in the words of
Python's own documentation. It is an example and a test of inferd: it writes language, and should be
believed in nothing.

| | |
|---|---|
| made by | `python -m examples.tiny_llama.train` |
| with | Python {platform.python_version()}, torch {torch.__version__}, {making.threads} threads, \
{making.seconds / 60:.1f} minutes |
| steps | {making.steps:,} of {BATCH_TOKENS:,} tokens |
| text | {mixture} |
| held out | {making.held_out_texts} docstrings, {q.tokens:,} tokens, in `held_out.json` |
| perplexity on them | {q.perplexity:.2f} a token, {q.bits_a_byte:.3f} bits a byte |
| weights | bfloat16, as `LlamaForCausalLM` |

The text is the language reference (`pydoc_data.topics`) and the docstrings of the standard library,
as they come with that Python: Copyright © 2001 Python Software Foundation; all rights reserved;
used under the [PSF License Agreement](https://docs.python.org/3/license.html). What the model
repeats of it, and `held_out.json`, stay under that license.

A chat is written as `<|begin|><|user|>`, a line break, the question, `<|end|>`, a line break,
`<|assistant|>`, a line break, the answer, `<|end|>`; a `<|system|>` message may go first.
"""
