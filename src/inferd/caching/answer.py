"""An answer as it is kept: names, shapes and bytes, which nobody can change, and which are no part
of memory that anybody uses again. Pure.
"""

from typing import Any

import msgspec
import numpy as np

from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.elements import texts_of
from inferd.types.inference import InferenceResponse, Parameters
from inferd.types.tensor import Array, Tensor

OVERHEAD_BYTES = 512
"""What an entry of a cache takes beside its tensors' bytes, at most about."""


class KeptTensor(msgspec.Struct, frozen=True, array_like=True):
    """A tensor: the bytes of its elements, or each element where the datatype is BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.data) + len(self.name) + sum([len(text) + 48 for text in self.texts])


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The tensors of an answer, in its order, and its parameters."""

    tensors: tuple[KeptTensor, ...]
    parameters: dict[str, bool | int | float | str] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return OVERHEAD_BYTES + sum([tensor.size for tensor in self.tensors])


def kept(response: InferenceResponse) -> KeptAnswer:
    """A copy of an answer."""
    tensors = tuple(_kept(tensor) for tensor in response.outputs)
    return KeptAnswer(tensors, _plain(response.parameters))


def answered(answer: KeptAnswer, name: str, version: str, id: str) -> InferenceResponse:
    """The answer of a model to another request, in arrays that can only be read.

    Raises ValueError for one whose bytes are not what its shapes say.
    """
    tensors = [Tensor(t.name, DATATYPES[t.datatype], _array(t)) for t in answer.tensors]
    return InferenceResponse(name, version, tensors, id, answer.parameters)


def encode(answer: KeptAnswer) -> bytes:
    """As MessagePack."""
    return msgspec.msgpack.encode(answer)


def decode(data: bytes) -> KeptAnswer:
    """From MessagePack; raises ValueError for anything that `encode` does not give."""
    answer = msgspec.msgpack.decode(data, type=KeptAnswer)
    for tensor in answer.tensors:
        if tensor.datatype not in DATATYPES:
            raise ValueError(f"there is no datatype '{tensor.datatype}'")
        _array(tensor)
    return answer


def _kept(tensor: Tensor) -> KeptTensor:
    array = tensor.array
    if tensor.datatype is BYTES:
        texts = tuple(texts_of(array))
        return KeptTensor(tensor.name, tensor.datatype.name, array.shape, texts=texts)
    return KeptTensor(tensor.name, tensor.datatype.name, array.shape, array.tobytes())


def _array(tensor: KeptTensor) -> Array:
    datatype = DATATYPES[tensor.datatype]
    array: Array
    if datatype is BYTES:
        array = np.empty(len(tensor.texts), object)
        array[:] = tensor.texts
        array = array.reshape(tensor.shape)
        array.flags.writeable = False
        return array
    array = np.frombuffer(tensor.data, datatype.dtype)
    return array.reshape(tensor.shape)


def _plain(parameters: Parameters | None) -> dict[str, Any] | None:
    return dict(parameters) if parameters else None
