"""Token classification: the named parts of a text, grouped as transformers' pipeline groups them.

Source: TokenClassificationPipeline, aggregation strategies `none` and `simple`.
"""

from typing import Any

import numpy as np
from tokenizers import Encoding

from inferd.backends.encoders.folder import EncoderSettings
from inferd.backends.encoders.network import Network, floats
from inferd.backends.encoders.tasks.base import (
    Columns,
    EncoderTask,
    json_argument,
    json_elements,
    spec,
    text_argument,
)
from inferd.backends.encoders.tasks.classification import softmax
from inferd.backends.encoders.texts import TextReader
from inferd.types.datatype import BYTES
from inferd.types.tensor import Array

OUTSIDE = "O"
"""The label of a token that belongs to nothing."""

_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "entity_group": {"type": "string"}, "entity": {"type": "string"},
            "score": {"type": "number"}, "word": {"type": "string"},
            "start": {"type": "integer"}, "end": {"type": "integer"},
        },
    },
}  # fmt: skip

Found = dict[str, Any]


class Entities(EncoderTask):
    """An EncoderTask: `text` to `entities`, a JSON list."""

    description = "The named parts of a text"

    def __init__(self, network: Network, settings: EncoderSettings) -> None:
        self._network = network
        self._reader = TextReader(
            network.tokenizer, network.max_length, settings.truncation, offsets=True
        )
        self._groups = settings.aggregation == "simple"
        config = network.config
        self._labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        self.inputs = (spec("text", BYTES),)
        self.outputs = (spec("entities", BYTES),)
        found = json_argument("entities", _SCHEMA, "What is named, from where to where")
        self.arguments = {a.name: a for a in (text_argument("text", "A text"), found)}
        self.notes = (f"aggregation {settings.aggregation}",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        texts = columns["text"]
        encodings = self._reader.read(texts)
        answers: list[list[Found]] = [[] for _ in texts]
        for rows, found, mask in self._network.runs(encodings):
            scores = softmax(floats(found.logits))
            for row, mine in zip(rows, scores, strict=True):
                start = self._network.column(0, len(encodings[row].ids), mask.shape[1])
                tokens = self._tokens(texts[row], encodings[row], mine[start:])
                answers[row] = self._answer(tokens)
        return {"entities": json_elements(answers)}

    def _tokens(self, text: str, encoding: Encoding, scores: Array) -> list[Found]:
        """Every token that is not special, with its likeliest label."""
        unknown = self._network.tokenizer.unk_token_id
        tokens = []
        for index, special in enumerate(encoding.special_tokens_mask):
            if special:
                continue
            best = int(np.argmax(scores[index]))
            start, end = encoding.offsets[index]
            word = encoding.tokens[index]
            if encoding.ids[index] == unknown:
                word = text[start:end]
            tokens.append(
                {
                    "entity": self._labels[best],
                    "score": float(scores[index][best]),
                    "index": index,
                    "word": word,
                    "start": start,
                    "end": end,
                }
            )
        return tokens

    def _answer(self, tokens: list[Found]) -> list[Found]:
        if not self._groups:
            return [token for token in tokens if token["entity"] != OUTSIDE]
        joined = [self._joined(group) for group in grouped(tokens)]
        return [entity for entity in joined if entity["entity_group"] != OUTSIDE]

    def _joined(self, group: list[Found]) -> Found:
        word = self._network.tokenizer.convert_tokens_to_string([token["word"] for token in group])
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([token["score"] for token in group])),
            "word": word,
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def grouped(tokens: list[Found]) -> list[list[Found]]:
    """Neighbours with the same tag, each beginning where a label says `B-`."""
    groups: list[list[Found]] = []
    for token in tokens:
        begins, tag = _tag(token["entity"])
        if groups and not begins and _tag(groups[-1][-1]["entity"])[1] == tag:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _tag(label: str) -> tuple[bool, str]:
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label
