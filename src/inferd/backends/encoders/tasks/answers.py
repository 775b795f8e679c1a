"""Question answering: the part of a context that answers a question.

A context that is too long is read in windows that overlap, and the best answer of all is taken.
Source: transformers' QuestionAnsweringPipeline before 5, with its defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from inferd.backends.encoders.folder import EncoderSettings
from inferd.backends.encoders.network import Network, floats
from inferd.backends.encoders.tasks.base import (
    Columns,
    EncoderTask,
    elements,
    spec,
    text_argument,
    value_argument,
)
from inferd.backends.encoders.tasks.classification import softmax
from inferd.backends.encoders.texts import TextReader
from inferd.types.datatype import BYTES, FP32, INT32
from inferd.types.tensor import Array

MAX_WINDOW = 384
MAX_STRIDE = 128
MAX_ANSWER_TOKENS = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """Where in its context an answer stands, in characters, and how likely it is."""

    start: int
    end: int
    score: float


class Answers(EncoderTask):
    """An EncoderTask: `question` and `context` to `answer`, `score`, `start` and `end`."""

    description = "The part of a context that answers a question"

    def __init__(self, network: Network, settings: EncoderSettings) -> None:
        self._network = network
        window = settings.max_length or min(network.max_length, MAX_WINDOW)
        self._reader = TextReader(
            network.tokenizer, window, settings.truncation, offsets=True,
            stride=min(window // 2, MAX_STRIDE),
        )  # fmt: skip
        self.inputs = (spec("question", BYTES), spec("context", BYTES))
        self.outputs = (
            spec("answer", BYTES), spec("score", FP32), spec("start", INT32), spec("end", INT32)
        )  # fmt: skip
        arguments = (
            text_argument("question", "What is asked"),
            text_argument("context", "The text that holds the answer"),
            value_argument("answer", BYTES, "A part of the context"),
            value_argument("score", FP32, "How likely it is"),
            value_argument("start", INT32, "Its first character in the context"),
            value_argument("end", INT32, "The character behind its last"),
        )
        self.arguments = {a.name: a for a in arguments}
        self.notes = (f"contexts are read in windows of {window} tokens",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        contexts = columns["context"]
        windows = self._reader.windows(columns["question"], contexts)
        best = [Answer(0, 0, 0.0)] * len(contexts)
        owners = [row for row, mine in enumerate(windows) for _ in mine]
        for number, answer in self._found([window for mine in windows for window in mine]):
            row = owners[number]
            if answer.score > best[row].score:
                best[row] = answer
        return {
            "answer": elements(
                [text[a.start : a.end].encode() for text, a in zip(contexts, best, strict=True)]
            ),
            "score": np.array([a.score for a in best], np.float32),
            "start": np.array([a.start for a in best], np.int32),
            "end": np.array([a.end for a in best], np.int32),
        }

    def _found(self, windows: list[Encoding]) -> Iterator[tuple[int, Answer]]:
        """The best answer of each window that holds some of a context."""
        for rows, found, mask in self._network.runs(windows):
            starts, ends = floats(found.start_logits), floats(found.end_logits)
            for row, start, end in zip(rows, starts, ends, strict=True):
                window = windows[row]
                first = self._network.column(0, len(window.ids), mask.shape[1])
                last = first + len(window.ids)
                answer = self._best(window, start[first:last], end[first:last])
                if answer is not None:
                    yield row, answer

    def _best(self, window: Encoding, start: Array, end: Array) -> Answer | None:
        context = np.array([sequence == 1 for sequence in window.sequence_ids])
        if not context.any():
            return None
        # What says that there is no answer keeps its share of the likelihood.
        allowed = context | (np.array(window.ids) == self._network.tokenizer.cls_token_id)
        chances = [softmax(np.where(allowed, part, -10000.0)) * context for part in (start, end)]
        spans = np.triu(np.outer(*chances))
        spans = np.tril(spans, MAX_ANSWER_TOKENS - 1)
        first, last = np.unravel_index(int(spans.argmax()), spans.shape)
        return Answer(
            _characters(window, int(first))[0], _characters(window, int(last))[1],
            float(spans[first, last]),
        )  # fmt: skip


def _characters(window: Encoding, token: int) -> tuple[int, int]:
    """From where to where the word of a token goes; of a token that is in no word, the token."""
    word = window.token_to_word(token)
    found = None if word is None else window.word_to_chars(word, 1)
    return found or window.offsets[token]
