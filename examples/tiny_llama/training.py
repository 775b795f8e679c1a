"""The training loop and the measure of its success, in plain torch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from examples.tiny_llama.model import Llama

BATCH_TOKENS = 1024
LENGTH = 256
LONG_AFTER, LONG_SHARE = 0.4, 0.1
"""Where in the training sequences have the model's full length, and for how much of it."""
MATRIX_RATE, OTHER_RATE = 0.02, 0.004
WEIGHT_DECAY, LARGEST_GRADIENT = 0.1, 1.0
WARM_UP = 0.03

Texts = Callable[[float], str]
"""What to train on next, for how much of the training is done."""

Told = Callable[[int, float, float], None]
"""Called with steps done, the loss (smoothed) and tokens a second."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well the model foretells texts: nats in all, over so many tokens and bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """For each token; to be compared only where the tokenizer is the same."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_a_byte(self) -> float:
        """Whatever the tokenizer."""
        return self.nats / math.log(2) / self.bytes


def train(model: Llama, tokenizer: Tokenizer, texts: Texts, steps: int, told: Told) -> None:
    """Muon for the layers' matrices, AdamW for the rest; the rate falls to nothing."""
    inner = {name for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    others = [p for name, p in model.named_parameters() if name not in inner]
    optimizers = (
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    )
    rates = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
        for optimizer in optimizers
    ]
    waiting: list[int] = []
    smooth, start_s = 0.0, time.perf_counter()
    for step in range(steps):
        long = LONG_AFTER <= step / steps < LONG_AFTER + LONG_SHARE
        length = model.config.max_position_embeddings
        length = length if long else min(LENGTH, length)
        while len(waiting) < BATCH_TOKENS:
            waiting += tokenizer.encode(texts(step / steps), add_special_tokens=False).ids
        ids = torch.tensor(waiting[:BATCH_TOKENS]).view(-1, length)
        del waiting[:BATCH_TOKENS]
        with torch.autocast("cpu", torch.bfloat16):
            loss = _loss(model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, LARGEST_GRADIENT)
        for part in (*optimizers, *rates):
            part.step()
        model.zero_grad()
        smooth = loss.item() if not step else 0.95 * smooth + 0.05 * loss.item()
        told(step + 1, smooth, (step + 1) * BATCH_TOKENS / (time.perf_counter() - start_s))


@torch.no_grad()
def measure(model: Llama, tokenizer: Tokenizer, texts: list[str]) -> Quality:
    """How well it foretells each text, all tokens but the first, without what stands around it."""
    nats, tokens = 0.0, 0
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        ids = ids[: model.config.max_position_embeddings]
        nats += _loss(model, torch.tensor([ids])).item() * (len(ids) - 1)
        tokens += len(ids) - 1
    return Quality(nats, tokens, sum(len(text.encode()) for text in texts))


def _loss(model: Llama, ids: Tensor) -> Tensor:
    """Mean over all tokens but each sequence's first."""
    logits = model(ids[:, :-1]).float()  # bfloat16 where it is being trained
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _rate(step: int, steps: int) -> float:
    """Up in a straight line, down along half a cosine."""
    done = step / steps
    if done < WARM_UP:
        return (step + 1) / (WARM_UP * steps)
    return 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))
