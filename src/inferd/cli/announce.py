"""From what the server announces to what the banner shows: short texts for tensors, and a curl line
that works with the first model that can be asked with one. It refuses to print (`banner.py`).
"""

import json
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from inferd.cli.banner import BannerHints, BannerRow, print_banner

if TYPE_CHECKING:  # both import numpy
    from inferd.server import Announcement
    from inferd.types.tensor import TensorSpec

# More numbers than this are no line that one reads; such a model is asked for its metadata.
MAX_ELEMENTS: Final = 64

# JSON spells each kind of value differently, and 16-bit floats not at all.
_ZERO: Final[dict[str, object]] = {"bool": False, "int": 0, "float": 0.0, "bytes": "text"}
_NOT_IN_JSON: Final = frozenset({"FP16", "BF16"})


def announce(announcement: "Announcement") -> None:
    """Tell the user that the server has started."""
    rows = [
        BannerRow(
            name=status.name,
            version=str(status.version or ""),
            state=status.state.name,
            inputs="text" if status.name in announcement.llms else tensors_text(inputs),
            outputs="text" if status.name in announcement.llms else tensors_text(outputs),
            reason=status.reason,
        )
        for status, inputs, outputs in announcement.models
    ]
    curl = curl_line(announcement) if announcement.url else ""
    hints = BannerHints(curl, announcement.grpc, metrics=announcement.metrics)
    print_banner(announcement.url, rows, hints)


def tensors_text(specs: Sequence["TensorSpec"]) -> str:
    """Specs in a few characters: `x FP32[-1,4], y INT64[-1]`."""
    return ", ".join(
        f"{spec.name} {spec.datatype.name}[{','.join(map(str, spec.shape))}]" for spec in specs
    )


def curl_line(announcement: "Announcement") -> str:
    """A request for the first ready model that one line can ask; nothing when none is ready."""
    ready = [(s.name, inputs) for s, inputs, _ in announcement.models if s.state.name == "READY"]
    for name, inputs in ready:
        if name in announcement.llms:
            return _chat_line(announcement.url, name)
        body = example_request(inputs)
        if body is not None:
            text = shlex.quote(json.dumps(body))
            return f"curl -s {_model_url(announcement.url, name)}/infer -d {text}"
    return f"curl -s {_model_url(announcement.url, ready[0][0])}" if ready else ""


def _chat_line(url: str, name: str) -> str:
    message = {"role": "user", "content": "Hello!"}
    body = {"model": name, "messages": [message], "max_tokens": 64, "stream": True}
    kind = shlex.quote("Content-Type: application/json")
    return f"curl -sN {url}/v1/chat/completions -H {kind} -d {shlex.quote(json.dumps(body))}"


def example_request(inputs: Sequence["TensorSpec"]) -> dict[str, Any] | None:
    """A request of zeros, 1 for each free dimension; None where it would be long or not JSON."""
    tensors = []
    for spec in inputs:
        shape = [1 if size < 0 else size for size in spec.shape]
        count = math.prod(shape)
        if spec.datatype.name in _NOT_IN_JSON or count > MAX_ELEMENTS:
            return None
        data = [_ZERO[spec.datatype.kind]] * count
        name = spec.datatype.name
        tensors.append({"name": spec.name, "shape": shape, "datatype": name, "data": data})
    return {"inputs": tensors}


def _model_url(url: str, name: str) -> str:
    return f"{url}/v2/models/{quote(name, safe='')}"
