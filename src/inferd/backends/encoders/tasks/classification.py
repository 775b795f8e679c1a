"""Classification of texts, or of pairs of texts; with one label, reranking.

Scores are what transformers' own pipeline makes of logits; those of a reranker are what
sentence-transformers' CrossEncoder does: a sigmoid, or what config.json says.
"""

from typing import Any

import numpy as np

from inferd.backends.encoders.folder import EncoderFolder, EncoderSettings
from inferd.backends.encoders.network import Network, floats
from inferd.backends.encoders.tasks.base import (
    TOKENS,
    TRUNCATED,
    Columns,
    EncoderTask,
    elements,
    spec,
    text_argument,
    value_argument,
    vector_argument,
)
from inferd.backends.encoders.texts import Item, TextReader
from inferd.errors import Unsupported
from inferd.types.datatype import BOOL, BYTES, FP32, INT32
from inferd.types.tensor import Array

_PAIR = text_argument("text_pair", "A second text, for models of pairs; empty is none", '""')


class _Pairs(EncoderTask):
    """What both have in common: logits of texts."""

    inputs = (spec("text", BYTES), spec("text_pair", BYTES, optional=True))

    def __init__(self, network: Network, settings: EncoderSettings) -> None:
        self._network = network
        self._reader = TextReader(network.tokenizer, network.max_length, settings.truncation)
        self._size = int(network.config.num_labels)

    def _logits(self, columns: Columns) -> tuple[Array, dict[str, Array]]:
        """Logits [N, labels], and the outputs that say what was read."""
        texts = columns["text"]
        pairs = columns.get("text_pair") or [""] * len(texts)
        items: list[Item] = [
            (text, pair) if pair else text for text, pair in zip(texts, pairs, strict=True)
        ]
        encodings = self._reader.read(items)
        logits = np.empty((len(items), self._size), np.float32)
        for rows, found, _ in self._network.runs(encodings):
            logits[rows] = floats(found.logits)
        return logits, {
            "tokens": np.array([len(encoding.ids) for encoding in encodings], np.int32),
            "truncated": np.array([bool(encoding.overflowing) for encoding in encodings]),
        }


class Classification(_Pairs):
    """An EncoderTask: `text` to `scores` [N, labels] and `label`, the likeliest."""

    description = "How likely each label is for a text"

    def __init__(self, network: Network, settings: EncoderSettings) -> None:
        super().__init__(network, settings)
        config = network.config
        self._labels = tuple(str(config.id2label[index]) for index in range(self._size))
        self._names = [label.encode() for label in self._labels]
        self._problem = config.problem_type
        self.outputs = (
            spec("scores", FP32, self._size, labels=self._labels), spec("label", BYTES),
            spec("tokens", INT32), spec("truncated", BOOL),
        )  # fmt: skip
        scores = vector_argument(
            "scores", self._size, f"A score for each of {', '.join(self._labels[:20])}"
        )
        label = value_argument("label", BYTES, "The label with the highest score")
        text = text_argument("text", "A text")
        self.arguments = {a.name: a for a in (text, _PAIR, scores, label, TOKENS, TRUNCATED)}
        self.notes = (f"{self._size} labels",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        logits, read = self._logits(columns)
        best = logits.argmax(1)
        return {
            "scores": self._scores(logits),
            "label": elements([self._names[index] for index in best]),
            **read,
        }

    def _scores(self, logits: Array) -> Array:
        if self._problem == "regression":
            return logits
        return sigmoid(logits) if self._problem == "multi_label_classification" else softmax(logits)


class Reranking(_Pairs):
    """An EncoderTask: `text` and `text_pair`, which are a query and a document, to `score`."""

    description = "How well a document answers a query"

    def __init__(self, network: Network, folder: EncoderFolder, settings: EncoderSettings) -> None:
        super().__init__(network, settings)
        self._activates = activation(network.config, folder.activation) == "Sigmoid"
        self.outputs = (
            spec("score", FP32), spec("logit", FP32), spec("tokens", INT32),
            spec("truncated", BOOL),
        )  # fmt: skip
        score = value_argument("score", FP32, "The higher, the better the second text fits")
        logit = value_argument("logit", FP32, "The score before any sigmoid")
        text = text_argument("text", "A text; of a reranker, the query")
        self.arguments = {a.name: a for a in (text, _PAIR, score, logit, TOKENS, TRUNCATED)}
        self.notes = (f"score is {'a sigmoid of' if self._activates else ''} the logit",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        logits, read = self._logits(columns)
        logit = logits[:, 0].copy()
        return {"score": sigmoid(logit) if self._activates else logit, "logit": logit, **read}


def activation(config: Any, said: str) -> str:
    """What makes the score of a logit: Sigmoid, where nothing is said, or Identity.

    Sentence-transformers says it in a file of its own (`said`), in config.json, or, before 4, there
    in another way; transformers says it of a model that gives no probability. Raises Unsupported.
    """
    said = said or (getattr(config, "sentence_transformers", None) or {}).get("activation_fn", "")
    said = said or getattr(config, "sbert_ce_default_activation_function", None) or ""
    if not said:
        return "Identity" if config.problem_type == "regression" else "Sigmoid"
    name = str(said).rpartition(".")[2]
    if name not in ("Sigmoid", "Identity"):
        raise Unsupported(f"the folder says '{said}' for scores; known are Sigmoid and Identity")
    return name


def sigmoid(logits: Array) -> Array:
    """1 / (1 + e^-x), of any x."""
    found: Array = np.exp(-np.logaddexp(0, -logits), dtype=np.float32)
    return found


def softmax(logits: Array) -> Array:
    """Along the last dimension."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    found: Array = exponentials / exponentials.sum(-1, keepdims=True)
    return found
