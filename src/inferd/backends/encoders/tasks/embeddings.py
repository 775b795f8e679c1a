"""Embeddings: a vector for each text, as sentence-transformers makes them."""

import numpy as np

from inferd.backends.encoders.folder import EncoderFolder, EncoderSettings
from inferd.backends.encoders.head import SentenceHead, matryoshka
from inferd.backends.encoders.network import Network, floats
from inferd.backends.encoders.tasks.base import (
    TOKENS,
    TRUNCATED,
    Columns,
    EncoderTask,
    spec,
    text_argument,
    vector_argument,
)
from inferd.backends.encoders.texts import TextReader
from inferd.types.datatype import BOOL, BYTES, FP32, INT32
from inferd.types.tensor import Array


class Embeddings(EncoderTask):
    """An EncoderTask: `text` to `embedding` [N, D]."""

    description = "A vector for a text"

    def __init__(self, network: Network, folder: EncoderFolder, settings: EncoderSettings) -> None:
        self._network = network
        self._reader = TextReader(network.tokenizer, network.max_length, settings.truncation)
        self._prompt = folder.prompt
        self._head = SentenceHead(folder, settings, network.device)
        ((_, found, mask),) = network.runs(self._reader.read(["a"]))
        size = self._head(found.last_hidden_state, mask).shape[1]
        sizes = matryoshka(network.config, size)
        more = {} if sizes is None else {"matryoshka_dimensions": list(sizes)}
        self.inputs = (spec("text", BYTES),)
        self.outputs = (
            spec("embedding", FP32, size), spec("tokens", INT32), spec("truncated", BOOL)
        )  # fmt: skip
        vector = vector_argument("embedding", size, "The text's vector", **more)
        text = text_argument("text", "A text")
        self.arguments = {a.name: a for a in (text, vector, TOKENS, TRUNCATED)}
        length = "length 1" if self._head.normalizes else "any length"
        self.notes = (f"pooling {' and '.join(self._head.modes)}, vectors of {length}",)

    def run(self, columns: Columns) -> dict[str, Array]:
        """See EncoderTask."""
        encodings = self._reader.read([self._prompt + text for text in columns["text"]])
        vectors = np.empty((len(encodings), self.outputs[0].shape[1]), np.float32)
        for rows, found, mask in self._network.runs(encodings):
            vectors[rows] = floats(self._head(found.last_hidden_state, mask))
        return {
            "embedding": vectors,
            "tokens": np.array([len(encoding.ids) for encoding in encodings], np.int32),
            "truncated": np.array([bool(encoding.overflowing) for encoding in encodings]),
        }
