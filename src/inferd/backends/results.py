"""Results of models that may return any type, in the type that they are described with. It refuses
to know what returned them.
"""

import numpy as np

from inferd.errors import BackendError
from inferd.types.tensor import Array, TensorSpec


def as_described(spec: TensorSpec, array: Array) -> Array:
    """The array, in the described type where that can hold it; a float may be rounded.

    Raises BackendError for another type: on the wire its bytes would be read as what they are not.
    """
    found, wanted = array.dtype, spec.datatype.dtype
    if found == wanted:
        return array
    rounded = found.kind == wanted.kind == "f"
    if wanted.hasobject or not (rounded or np.can_cast(found, wanted)):
        raise BackendError(
            f"the model returned {'text' if found.hasobject else found} in '{spec.name}', which "
            f"was {spec.datatype.name} when it was tried; have it always return one type"
        )
    return array.astype(wanted)
