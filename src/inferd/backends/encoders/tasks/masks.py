"""Fill-mask: the likeliest words for each mask in a text, as transformers' pipeline gives them."""

from typing import Any

import torch
from tokenizers import Encoding

from inferd.backends.encoders.folder import EncoderSettings
from inferd.backends.encoders.network import Network
from inferd.backends.encoders.tasks.base import (
    Columns,
    EncoderTask,
    json_argument,
    json_elements,
    spec,
    text_argument,
)
from inferd.backends.encoders.texts import TextReader
from inferd.errors import ConfigError, InvalidRequest, Unsupported
from inferd.types.datatype import BYTES
from inferd.types.tensor import Array

_CANDIDATES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "score": {"type": "number"}, "token": {"type": "integer"},
            "token_str": {"type": "string"}, "sequence": {"type": "string"},
        },
    },
}  # fmt: skip
_SCHEMA = {"anyOf": [_CANDIDATES, {"type": "array", "items": _CANDIDATES}]}


class Masks(EncoderTask):
    """An EncoderTask: `text` with masks to `candidates`, JSON: a list for the only mask, or a list
    of such lists for several."""

    description = "The likeliest words for the masks in a text"

    def __init__(self, network: Network, settings: EncoderSettings) -> None:
        self._network = network
        self._tokenizer = network.tokenizer
        if self._tokenizer.mask_token_id is None:
            raise Unsupported("the tokenizer has no mask token, so there is nothing to fill")
        if not 1 <= settings.top_k <= network.config.vocab_size:
            raise ConfigError(
                f"is {settings.top_k}; it must be from 1 to {network.config.vocab_size}",
                field="parameters.top_k",
            )
        self._top_k = settings.top_k
        self._reader = TextReader(network.tokenizer, network.max_length, settings.truncation)
        self.inputs = (spec("text", BYTES),)
        self.outputs = (spec("candidates", BYTES),)
        mask = self._tokenizer.mask_token
        text = text_argument("text", f"A text in which {mask} stands for what is wanted")
        found = json_argument("candidates", _SCHEMA, "The likeliest tokens for each mask")
        self.arguments = {a.name: a for a in (text, found)}
        self.notes = (f"the {self._top_k} likeliest for each {mask}",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        encodings = self._reader.read(columns["text"])
        places = [self._places(encoding) for encoding in encodings]
        answers: list[Any] = [None] * len(encodings)
        for rows, found, mask in self._network.runs(encodings):
            for number, row in enumerate(rows):
                length = len(encodings[row].ids)
                at = [self._network.column(p, length, mask.shape[1]) for p in places[row]]
                chances = found.logits[number, at].float().softmax(-1)
                answers[row] = self._candidates(encodings[row], places[row], chances)
        return {"candidates": json_elements(answers)}

    def _places(self, encoding: Encoding) -> list[int]:
        wanted = self._tokenizer.mask_token_id
        places = [place for place, token in enumerate(encoding.ids) if token == wanted]
        if not places:
            raise InvalidRequest(
                f"text has no {self._tokenizer.mask_token} in the {len(encoding.ids)} tokens that "
                "are read; put one where a word is wanted"
            )
        return places

    def _candidates(self, encoding: Encoding, places: list[int], chances: torch.Tensor) -> Any:
        values, tokens = chances.topk(self._top_k)
        alone = len(places) == 1
        lists = []
        for place, scores, ids in zip(places, values.tolist(), tokens.tolist(), strict=True):
            row = []
            for score, token in zip(scores, ids, strict=True):
                whole = [*encoding.ids[:place], token, *encoding.ids[place + 1 :]]
                # Other masks are special tokens, too, and are kept so that they can be seen.
                sequence = self._tokenizer.decode(whole, skip_special_tokens=alone)
                said = self._tokenizer.decode([token])
                row.append(
                    {"score": score, "token": token, "token_str": said, "sequence": sequence}
                )
            lists.append(row)
        return lists[0] if alone else lists
