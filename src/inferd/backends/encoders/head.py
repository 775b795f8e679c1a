"""What comes behind a transformer in sentence-transformers: from the vectors of tokens to the
vector of a text. Pooling, Dense, Normalize, as their config.json files say, in torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from inferd.backends.encoders.folder import (
    EncoderFolder,
    EncoderSettings,
    Module,
    pooling_modes,
)
from inferd.errors import BackendError, ConfigError, Unsupported

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Vectors of tokens [N, T, D] and their mask [N, T] to [N, D]."""

_ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    kind.__name__: kind
    for kind in (
        torch.nn.Identity, torch.nn.Tanh, torch.nn.Sigmoid, torch.nn.ReLU, torch.nn.GELU,
        torch.nn.SiLU,
    )
}  # fmt: skip


def mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of a text's tokens."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def mean_sqrt_len(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The sum of a text's tokens over the root of their number."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9).sqrt()


def weighted_mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of a text's tokens, the later the heavier."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return mean(tokens, mask * places)


def largest(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The largest of a text's tokens in each dimension."""
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)


def first(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A text's first token, which is the class token of BERT and its like."""
    places = mask.to(torch.int64).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), places]


def last(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A text's last token."""
    places = mask.shape[1] - 1 - mask.flip(1).to(torch.int64).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), places]


_POOLS: dict[str, Pool] = {
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "max": largest,
    "cls": first,
    "lasttoken": last,
}


class SentenceHead:
    """From a transformer's last hidden state to embeddings; float32 from the pooling on."""

    def __init__(self, folder: EncoderFolder, settings: EncoderSettings, device: str) -> None:
        modules = list(folder.modules)
        pooling = modules.pop(0) if modules and modules[0].kind == "Pooling" else Module("Pooling")
        if folder.prompt and pooling.config.get("include_prompt") is False:
            raise Unsupported("a Pooling that leaves the prompt out is not supported")
        modes = pooling_modes(pooling.config)
        if settings.pooling != "auto":
            modes = (settings.pooling,)
        unknown = [mode for mode in modes if mode not in _POOLS]
        if unknown:
            raise Unsupported(f"pooling '{unknown[0]}' is none of {', '.join(_POOLS)}")
        self.modes = modes
        self._pools = [_POOLS[mode] for mode in modes]
        self._steps: list[torch.nn.Module] = []
        self.normalizes = any(module.kind == "Normalize" for module in modules)
        if settings.normalize is not None:
            self.normalizes = settings.normalize
            modules = [module for module in modules if module.kind != "Normalize"]
            modules += [Module("Normalize")] * settings.normalize
        for module in modules:
            self._steps.append(_step(module).to(device))

    def __call__(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embeddings [N, D] of hidden states [N, T, H] and their mask [N, T]."""
        tokens = tokens.float()
        found = torch.cat([pool(tokens, mask) for pool in self._pools], 1)
        for step in self._steps:
            found = step(found)
        return found


class _Normalize(torch.nn.Module):
    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vectors, dim=1)


def _step(module: Module) -> torch.nn.Module:
    if module.kind == "Normalize":
        return _Normalize()
    if module.kind == "Dense":
        return _dense(module)
    raise Unsupported(f"modules.json has a {module.kind} where none is expected")


def _dense(module: Module) -> torch.nn.Module:
    """A Dense, with its own weights; raises BackendError or Unsupported."""
    name = str(module.config.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise Unsupported(f"activation '{name}' of a Dense is none of {', '.join(_ACTIVATIONS)}")
    weights = _dense_weights(module.folder)
    try:
        bias = bool(module.config.get("bias", True))
        linear = torch.nn.Linear(
            int(module.config["in_features"]), int(module.config["out_features"]), bias
        )
        linear.load_state_dict({n.removeprefix("linear."): t.float() for n, t in weights.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"the Dense in {module.folder.name} cannot be loaded: {error}"
        ) from error
    return torch.nn.Sequential(linear, _ACTIVATIONS[name]()).eval().requires_grad_(False)


def _dense_weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise BackendError(
            f"the Dense in {folder.name} has no model.safetensors; save the model again with "
            "sentence-transformers, which writes safetensors"
        )
    return load_file(file)


def matryoshka(config: object, dimension: int) -> Sequence[int] | None:
    """Sizes that an embedding may be cut to, () for any, None for none, as config.json says.

    Raises ConfigError for what is no list of sizes.
    """
    sizes = getattr(config, "matryoshka_dimensions", None)
    if sizes is None:
        return () if getattr(config, "is_matryoshka", False) else None
    if not isinstance(sizes, list) or not all(isinstance(s, int) and s > 0 for s in sizes):
        raise ConfigError("must be a list of sizes", file="config.json",
                          field="matryoshka_dimensions")  # fmt: skip
    return sorted({*(s for s in sizes if s <= dimension), dimension})
