"""Texts of a request as rows for a model: told apart from what is none, sent in requests that batch
with everybody's, and put together again. All of them are answered, or one error is.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from inferd.protocols.http.openai.errors import FieldError
from inferd.serving.data_plane import DataPlane
from inferd.serving.text_model import TextModel
from inferd.types.datatype import BYTES
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import Array, Tensor

MAX_TEXTS = 2048
"""In one request; OpenAI's limit."""

MAX_IN_FLIGHT = 64
"""Requests for one model that one request of a client has queued at the same time."""

TOKENS, TRUNCATED = "tokens", "truncated"
"""Outputs that say how many tokens of a text were read, and whether it was longer."""


def parse_texts(value: Any, field: str) -> list[str]:
    """A text, or a list of texts, as a list; raises FieldError."""
    if value is None:
        raise FieldError(f"{field} is required and missing", field)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise FieldError(f"{field} must be a text or a list of texts", field)
    if not texts:
        raise FieldError(f"{field} must not be empty", field)
    if isinstance(texts[0], int | list):
        raise FieldError(
            f"{field} has token ids, which mean something else to every model; send text (with "
            "LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            field,
        )
    check_count(texts, field)
    for number, text in enumerate(texts):
        check_text(text, field if texts is not value else f"{field}[{number}]", field)
    return texts


def check_count(texts: Sequence[object], field: str) -> None:
    """Raises FieldError for more texts than one request may have."""
    if len(texts) > MAX_TEXTS:
        raise FieldError(f"{field} has {len(texts)} texts; send at most {MAX_TEXTS}", field)


def check_text(text: object, place: str, field: str) -> None:
    """Raises FieldError for what is no text that could be read."""
    if not isinstance(text, str):
        raise FieldError(f"{place} must be a text", field)
    if not text:
        raise FieldError(f"{place} is an empty text; leave it out", field)


def check_truncation(fields: Any) -> None:
    """Raises FieldError for a length that is not the model's own."""
    if fields.truncate_prompt_tokens not in (None, -1):
        raise FieldError(
            "truncate_prompt_tokens must be -1 or left out: a model reads as much as it was set to",
            "truncate_prompt_tokens",
        )


async def ask(
    plane: DataPlane, model: TextModel, texts: Sequence[str], pairs: Sequence[str] | None = None,
    outputs: Sequence[str] = (),
) -> dict[str, Array]:  # fmt: skip
    """The model's answers [N, ...] by output: the one that answers, `outputs`, and of `tokens` and
    `truncated` those that it has. Raises as DataPlane.infer."""
    names = list(dict.fromkeys((model.output, *outputs)))
    names += [name for name in (TOKENS, TRUNCATED) if model.has(name)]
    columns = {model.text: texts} | ({model.pair: pairs} if pairs is not None else {})
    size = model.served.description.max_batch_size
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def part(start: int) -> list[Array]:
        tensors = [
            _tensor(model, name, column[start : start + (size or 1)])
            for name, column in columns.items()
        ]
        request = InferenceRequest(
            model.served.name, str(model.served.version), tensors,
            [RequestedOutput(name) for name in names],
        )  # fmt: skip
        async with slots:
            answer = await plane.infer(request)
        return [tensor.array if size else tensor.array[None] for tensor in answer.outputs]

    starts = range(0, len(texts), size or 1)
    if len(starts) == 1:
        parts = [await part(0)]
    else:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part(start)) for start in starts]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        parts = [task.result() for task in tasks]
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(names, joined, strict=True))


def _tensor(model: TextModel, name: str, texts: Sequence[str]) -> Tensor:
    array = np.empty(len(texts), np.object_)
    array[:] = [text.encode() for text in texts]
    spec = next(spec for spec in model.served.inputs if spec.name == name)
    if model.served.description.max_batch_size:
        array = array.reshape(len(texts), *spec.shape[1:])
    return Tensor(name, BYTES, array)


def usage(found: dict[str, Array]) -> dict[str, int]:
    """How many tokens were read, special ones too; 0 of a model that does not say."""
    count = int(found[TOKENS].sum()) if TOKENS in found else 0
    return {"prompt_tokens": count, "total_tokens": count}
