"""Metrics of a model's own, which the server keeps and shows: all instances of a model move the
same one where they give it the same name and labels.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, Final

from inferd.errors import InferdError
from inferd.workers.asking import Asking
from inferd.workers.messages import Meter, Metered
from inferd.workers.triton.error import TritonModelException


class MetricKind(IntEnum):
    """What a metric counts."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


_NAMES: Final[dict[int, Any]] = {
    MetricKind.COUNTER: "counter", MetricKind.GAUGE: "gauge", MetricKind.HISTOGRAM: "histogram",
}  # fmt: skip
_ALLOWED: Final = {
    "increment": (MetricKind.COUNTER, MetricKind.GAUGE),
    "set": (MetricKind.GAUGE,),
    "observe": (MetricKind.HISTOGRAM,),
    "value": (MetricKind.COUNTER, MetricKind.GAUGE),
}


class MetricFamily:
    """Metrics of one name and kind, told apart by labels."""

    COUNTER: ClassVar = MetricKind.COUNTER
    GAUGE: ClassVar = MetricKind.GAUGE
    HISTOGRAM: ClassVar = MetricKind.HISTOGRAM

    _asking: ClassVar[Asking]

    def __init__(self, name: str, description: str, kind: int) -> None:
        self._kind = MetricKind(kind)
        self._make: Any = partial(
            Meter, family=name, kind=_NAMES[self._kind], description=description
        )
        _asked(self._asking, self._make)

    def Metric(
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> "Metric":
        """One metric of the family; `buckets` are the upper bounds of a histogram's, rising."""
        if labels is not None and not isinstance(labels, Mapping):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        if buckets is not None and not isinstance(buckets, Sequence):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        if buckets is not None and self._kind is not MetricKind.HISTOGRAM:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        if not buckets and self._kind is MetricKind.HISTOGRAM:
            raise TritonModelException("Failed to create metric. A histogram needs its buckets.")
        named = {str(name): str(value) for name, value in (labels or {}).items()}
        bounds = tuple(float(bound) for bound in buckets or ())
        meter = _asked(self._asking, partial(self._make, labels=named, buckets=bounds))
        return Metric(self, self._kind, meter, self._asking)


class Metric:
    """One metric; it is gone from the server when no instance has it any more."""

    def __init__(self, family: MetricFamily, kind: MetricKind, meter: int, asking: Asking) -> None:
        self._family = family
        self._kind = kind
        self._meter = meter
        self._asking = asking

    def __del__(self) -> None:
        asking = getattr(self, "_asking", None)
        if asking is not None:
            asking.tell(Metered(self._meter, "drop"))

    def increment(self, value: float = 1.0) -> None:
        """Add to it; a counter only rises."""
        self._check("increment")
        if self._kind is MetricKind.COUNTER and value < 0:
            raise TritonModelException("a COUNTER can only be incremented by values from 0 on")
        self._asking.tell(Metered(self._meter, "increment", float(value)))

    def set(self, value: float) -> None:
        """Make it so much; a gauge's only."""
        self._check("set")
        self._asking.tell(Metered(self._meter, "set", float(value)))

    def observe(self, value: float) -> None:
        """Count a value; a histogram's only."""
        self._check("observe")
        self._asking.tell(Metered(self._meter, "observe", float(value)))

    def value(self) -> float:
        """How much it is, over all instances that have it."""
        self._check("value")
        question = partial(_value_of, self._meter)
        try:
            return self._asking.wait(question).value
        except InferdError as error:
            raise TritonModelException(str(error)) from None

    def _check(self, what: str) -> None:
        if self._kind not in _ALLOWED[what]:
            raise TritonModelException(f"a {self._kind.name} has no {what}")


def _value_of(meter: int, ask: int) -> Metered:
    return Metered(meter, "value", ask=ask)


def _asked(asking: Asking, question: Any) -> int:
    """Ask for a family or a metric; the number under which the server has it."""
    numbers: list[int] = []

    def ask(number: int) -> Any:
        numbers.append(number)
        return question(number)

    try:
        asking.wait(ask)
    except InferdError as error:
        raise TritonModelException(str(error)) from None
    return numbers[0]
