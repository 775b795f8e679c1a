"""Which models of tensors answer questions about texts, and by which of their tensors: embeddings,
reranking, classification. A model is known by its signature alone, whatever runs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from inferd.serving.served_model import ServedModel
from inferd.types.datatype import BYTES
from inferd.types.signature import Argument

TextTask = Literal["embeddings", "reranking", "classification"]

_FLOATS = frozenset(("FP16", "FP32", "FP64"))
_VECTORS = ("embedding", "embeddings", "sentence_embedding")


@dataclass(frozen=True, slots=True)
class TextModel:
    """A served model as a task sees it: the names of the inputs that take texts, and of the output
    that answers.

    `text` is the query, and `pair` the document, of a reranker; of any other `pair` is empty.
    `labels` are those of a classifier.
    """

    served: ServedModel
    task: TextTask
    text: str
    pair: str
    output: str
    labels: tuple[str, ...] = ()

    def has(self, output: str) -> bool:
        """Whether the model also gives that output."""
        return any(spec.name == output for spec in self.served.outputs)

    @property
    def answer(self) -> Argument:
        """The output that answers, as the signature has it."""
        arguments = self.served.signature.outputs
        return next(argument for argument in arguments if argument.name == self.output)


def text_model(served: ServedModel, task: TextTask) -> TextModel | None:
    """The model as a task sees it; None for one that does not do it."""
    texts = [a for a in served.signature.inputs if _is_text(a)]
    needed = [a for a in served.signature.inputs if a.default is None]
    if not all(_is_text(argument) for argument in needed) or served.signature.streams:
        return None
    return _TASKS[task](served, [a.name for a in texts], [a.name for a in needed])


def _embedder(served: ServedModel, texts: list[str], needed: list[str]) -> TextModel | None:
    """One text to a vector, which is called an embedding or is the only output."""
    outputs = served.signature.outputs
    vectors = [a.name for a in outputs if _is_vector(a) and not _labels(served, a)]
    named = [name for name in vectors if name in _VECTORS]
    chosen = named or (vectors if len(outputs) == 1 else [])
    if not chosen or not texts or len(needed) > 1:
        return None
    return TextModel(served, "embeddings", (needed or texts)[0], "", chosen[0])


def _reranker(served: ServedModel, texts: list[str], needed: list[str]) -> TextModel | None:
    """Two texts to one number, which is called a score or is the only output."""
    outputs = served.signature.outputs
    numbers = [a.name for a in outputs if a.datatype in _FLOATS and a.shape in ((), (1,))]
    chosen = [name for name in numbers if name == "score" or len(outputs) == 1]
    if not chosen or len(texts) != 2:
        return None
    return TextModel(served, "reranking", texts[0], texts[1], chosen[0])


def _classifier(served: ServedModel, texts: list[str], needed: list[str]) -> TextModel | None:
    """One text to a score for each label."""
    for argument in served.signature.outputs:
        labels = _labels(served, argument)
        if labels and _is_vector(argument) and texts and len(needed) <= 1:
            text = (needed or texts)[0]
            return TextModel(served, "classification", text, "", argument.name, labels)
    return None


_TASKS: dict[TextTask, Callable[[ServedModel, list[str], list[str]], TextModel | None]] = {
    "embeddings": _embedder,
    "reranking": _reranker,
    "classification": _classifier,
}
TEXT_TASKS = tuple(_TASKS)


def _is_text(argument: Argument) -> bool:
    return (
        argument.datatype == BYTES.name
        and argument.form in ("value", "tensor")
        and argument.shape in ((), (1,))
    )


def _is_vector(argument: Argument) -> bool:
    shape = argument.shape
    return argument.datatype in _FLOATS and shape is not None and len(shape) == 1


def _labels(served: ServedModel, argument: Argument) -> tuple[str, ...]:
    """The labels of an output that has one for each of its numbers."""
    for spec in served.outputs:
        if spec.name == argument.name and argument.shape == (len(spec.labels),):
            return spec.labels
    return ()
