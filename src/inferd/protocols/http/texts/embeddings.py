"""Embeddings: texts to vectors, in OpenAI's words."""

import base64
from typing import Any

import numpy as np

from inferd.protocols.http.openai.errors import FieldError
from inferd.protocols.http.texts.rows import ask, check_truncation, parse_texts, usage
from inferd.schemas.texts import EmbeddingRequest
from inferd.serving.data_plane import DataPlane
from inferd.serving.text_model import TextModel
from inferd.types.tensor import Array

MATRYOSHKA = "matryoshka_dimensions"
"""Where the schema of an output says to which sizes a vector may be cut; empty is any."""


async def embed(plane: DataPlane, fields: EmbeddingRequest) -> tuple[TextModel, dict[str, Array]]:
    """The model that was asked and what it said; raises FieldError for what cannot be asked."""
    if fields.encoding_format not in (None, "float", "base64"):
        raise FieldError(
            f"encoding_format must be float or base64, got '{fields.encoding_format}'",
            "encoding_format",
        )
    check_truncation(fields)
    texts = parse_texts(fields.input, "input")
    model = plane.text_model(fields.model, "embeddings")
    if fields.dimensions is not None:
        check_dimensions(model, fields.dimensions)
    return model, await ask(plane, model, texts)


def check_dimensions(model: TextModel, wanted: int) -> None:
    """Raises FieldError for a size that the model's vectors cannot be cut to."""
    answer = model.answer
    size = answer.shape[0] if answer.shape else -1
    sizes = answer.schema.get(MATRYOSHKA)
    if wanted == size or (sizes == [] and 1 <= wanted <= size) or wanted in (sizes or ()):
        return
    can = f"it gives {size}"
    if sizes is not None:
        can += f", and can be cut to {', '.join(map(str, sizes)) or f'1 to {size}'}"
    raise FieldError(
        f"dimensions is {wanted}, which model '{model.served.name}' does not give; {can}",
        "dimensions",
    )


def embedding_answer(
    fields: EmbeddingRequest, model: TextModel, found: dict[str, Array], id: str, created_s: int
) -> dict[str, Any]:
    """The body of the answer; for many texts it is work for a thread."""
    vectors = found[model.output].astype("<f4", copy=False)
    if fields.dimensions is not None:
        vectors = cut(vectors, fields.dimensions)
    whole = fields.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if whole else vector,
        }
        for index, vector in enumerate(np.ascontiguousarray(vectors))
    ]
    return {
        "id": f"embd-{id}", "object": "list", "created": created_s, "model": model.served.name,
        "data": data, "usage": usage(found),
    }  # fmt: skip


def cut(vectors: Array, size: int) -> Array:
    """The first `size` numbers of each vector [N, D], made a vector of length 1 again where there
    was something to cut."""
    if vectors.shape[1] == size:
        return vectors
    short = vectors[:, :size]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    found: Array = short / np.where(lengths == 0, 1, lengths)
    return found.astype("<f4", copy=False)
