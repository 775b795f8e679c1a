"""An encoder's weights on a device, and its runs: tokens in, whatever its head gives out.

It refuses to know what the outputs mean. Weights are read by transformers, which is told never to
run code that comes with a folder and never to ask a hub.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from tokenizers import Encoding, normalizers

from inferd.backends.encoders.buckets import buckets
from inferd.backends.encoders.folder import EncoderFolder, EncoderSettings, Task
from inferd.errors import BackendError, ConfigError

transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

RUN_TOKENS = {"cpu": 64, "cuda": 8192}
"""What a run costs beside its tokens, in tokens: MiniLM on a core of an EPYC takes 7 ms and 0.28 ms
a token; more cores make tokens cheaper and runs not. There 32 texts of mixed lengths take half the
time of one padded run. A GPU is busy with few tokens as with many."""

MOST_TOKENS = {"cpu": 8192, "cuda": 65536}
"""In one run; what a large encoder keeps for so many fits into some hundred megabytes."""

MOST_CHANCES = 1 << 26
"""Of a model that gives a number for each word of its vocabulary, in one run."""

NO_LIMIT = 1_000_000
"""Tokenizers that know no length say one larger than this."""

_AUTO: dict[Task, Any] = {
    "embeddings": transformers.AutoModel,
    "classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
    "fill-mask": transformers.AutoModelForMaskedLM,
}


class Network:
    """An encoder, loaded; may be run from several threads.

    `config` is transformers' own, `tokenizer` too. `max_length` is how many tokens a text may have.
    """

    def __init__(
        self, folder: EncoderFolder, settings: EncoderSettings, device: str, trust: bool
    ) -> None:
        self.device = device
        self.config, self.tokenizer = _described(folder)
        self._module = _loaded(folder, self.config, settings, device, trust)
        self.dtype = str(next(self._module.parameters()).dtype).removeprefix("torch.")
        self.max_length = _max_length(folder, settings, self.tokenizer, self._module)
        self._run_tokens = RUN_TOKENS[device.partition(":")[0]]
        self._most_tokens = MOST_TOKENS[device.partition(":")[0]]
        if folder.task == "fill-mask":
            self._run_tokens = RUN_TOKENS[device.partition(":")[0]]
        self._most_tokens = min(self._most_tokens, MOST_CHANCES // self.config.vocab_size)
        pad = self.tokenizer.pad_token_id
        self._pad_id = 0 if pad is None else pad
        self._pads_left = self.tokenizer.padding_side == "left"
        takes = inspect.signature(self._module.forward).parameters
        self._takes_types = (
            "token_type_ids" in takes and "token_type_ids" in self.tokenizer.model_input_names
        )
        self._fixed: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}

    def runs(self, encodings: Sequence[Encoding]) -> Iterator[tuple[list[int], Any, torch.Tensor]]:
        """Run texts, alike in length together: which of them, what came, the mask [N, T] of what
        is no padding."""
        lengths = [len(encoding.ids) for encoding in encodings]
        for group in buckets(lengths, self._run_tokens, self._most_tokens):
            inputs = self._inputs([encodings[index] for index in group])
            with torch.inference_mode():
                found = self._module(**inputs, **self._fixed)
            yield group, found, inputs["attention_mask"]

    def column(self, place: int, length: int, longest: int) -> int:
        """Where token `place` of a text of `length` tokens stands among `longest`."""
        return place + longest - length if self._pads_left else place

    def _inputs(self, encodings: list[Encoding]) -> dict[str, torch.Tensor]:
        longest = max(1, *(len(encoding.ids) for encoding in encodings))
        inputs = {
            "input_ids": self._padded([e.ids for e in encodings], longest, self._pad_id),
            "attention_mask": self._padded([e.attention_mask for e in encodings], longest, 0),
        }
        if self._takes_types:
            inputs["token_type_ids"] = self._padded([e.type_ids for e in encodings], longest, 0)
        return inputs

    def _padded(self, rows: list[list[int]], longest: int, fill: int) -> torch.Tensor:
        if self._pads_left:
            rows = [[fill] * (longest - len(row)) + row for row in rows]
        else:
            rows = [row + [fill] * (longest - len(row)) for row in rows]
        return torch.tensor(rows, dtype=torch.int64, device=self.device)


def floats(found: torch.Tensor) -> Any:
    """An output as a float32 array."""
    return found.float().cpu().numpy()


def _described(folder: EncoderFolder) -> tuple[Any, Any]:
    """The configuration and the tokenizer; raises BackendError."""
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder.weights, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder.weights, **options)
    except Exception as error:
        raise _unreadable(folder, error) from error
    if folder.lowercases and tokenizer.is_fast:
        core = tokenizer.backend_tokenizer
        rest = [core.normalizer] if core.normalizer is not None else []
        core.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
    return config, tokenizer


def _loaded(
    folder: EncoderFolder, config: Any, settings: EncoderSettings, device: str, trust: bool
) -> torch.nn.Module:
    auto = _AUTO[folder.task]
    if folder.task == "embeddings" and config.is_encoder_decoder:
        text = transformers.AutoModelForTextEncoding
        auto = text if type(config) in text._model_mapping else auto
    dtype: Any = settings.dtype
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    try:
        module, told = auto.from_pretrained(
            folder.weights, config=config, dtype=dtype, use_safetensors=None if trust else True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:
        raise _unreadable(folder, error) from error
    # Embeddings do without BERT's pooler, and are often saved without it.
    missing = sorted(
        name for name in told["missing_keys"]
        if not (folder.task == "embeddings" and "pooler." in name)
    )  # fmt: skip
    if missing:
        raise BackendError(
            f"{folder.weights.name} has no weights for {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}, which {folder.task} needs; it holds a "
            f"{folder.architecture}"
        )
    found: torch.nn.Module = module.to(device).eval().requires_grad_(False)
    return found


def _unreadable(folder: EncoderFolder, error: Exception) -> BackendError:
    lines = str(error).strip().splitlines()
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return BackendError(
            f"{folder.weights.name} ({folder.architecture}) needs code that comes with it, which "
            "is never run; serve it as a Python model"
        )
    return BackendError(
        f"transformers cannot load {folder.weights.name}: {lines[0] if lines else repr(error)}"
    )


def _max_length(
    folder: EncoderFolder, settings: EncoderSettings, tokenizer: Any, module: torch.nn.Module
) -> int:
    """The least that anybody says; raises ConfigError for more than the model has places."""
    places = _places(module)
    wanted = settings.max_length
    if wanted is not None:
        if not 8 <= wanted <= places:
            raise ConfigError(
                f"is {wanted}; it must be from 8 to the {places} places that the model has",
                field="parameters.max_length",
            )
        return wanted
    said = [places, tokenizer.model_max_length, folder.max_length or NO_LIMIT]
    least = min(int(length) for length in said)
    return least if least < NO_LIMIT else 512


def _places(module: torch.nn.Module) -> int:
    """How many tokens have a place of their own; models that count from the padding on lose some.
    NO_LIMIT where places are relative."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    return NO_LIMIT
