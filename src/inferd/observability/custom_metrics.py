"""Metrics that models make themselves: families of one name and kind, told apart by labels. Pure.

In Prometheus' text format a family has the very name that its model gave it, a counter's too.

Whoever holds a Meter moves it; two of one name and labels are the same, and it is shown for as long
as anybody holds it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final, Literal

from inferd.errors import InvalidRequest

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")
RESERVED: Final = ("nv_", "inferd_", "vllm:")
"""How the server's own metrics begin."""


@dataclass(slots=True, eq=False)
class Meter:
    """One metric. Of a histogram `value` is the sum, `counts` how many values each bucket got that
    no one before it did, the last those beyond all bounds."""

    family: "Family"
    labels: Labels
    buckets: tuple[float, ...] = ()
    value: float = 0.0
    counts: list[int] = field(default_factory=list)
    holders: int = 0

    def increment(self, by: float) -> None:
        """Add to it; a counter does not fall."""
        if self.family.kind == "gauge" or by > 0:
            self.value += by

    def set(self, value: float) -> None:
        """Make it so much."""
        self.value = value

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.buckets, value)] += 1
        self.value += value


@dataclass(slots=True, eq=False)
class Family:
    """Metrics of one name."""

    name: str
    kind: Kind
    description: str
    meters: dict[Labels, Meter] = field(default_factory=dict)


class CustomMetrics:
    """All that there are."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def render(self) -> bytes:
        """All that are held, in Prometheus' text format."""
        lines: list[str] = []
        for family in self._families.values():
            if family.meters:
                help = family.description.replace("\\", r"\\").replace("\n", r"\n")
                lines.append(f"# HELP {family.name} {help}")
                lines.append(f"# TYPE {family.name} {family.kind}")
                for meter in family.meters.values():
                    lines += _samples(meter)
        return "".join(f"{line}\n" for line in lines).encode()

    def family(self, name: str, kind: Kind, description: str) -> Family:
        """The family of that name; raises InvalidRequest where it cannot be."""
        if not _NAME.match(name) or name.startswith(RESERVED):
            raise InvalidRequest(
                f"'{name}' cannot be a metric's name: it has letters, digits, _ and :, and does "
                f"not begin with {', '.join(RESERVED)}, as the server's own do"
            )
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(name, kind, description)
        elif family.kind != kind and not family.meters:
            family.kind, family.description = kind, description
        elif family.kind != kind:
            raise InvalidRequest(f"metric family '{name}' is a {family.kind}, not a {kind}")
        return family

    def hold(
        self, family: Family, labels: Mapping[str, str], buckets: Sequence[float] = ()
    ) -> Meter:
        """One metric of a family; raises InvalidRequest."""
        for name in labels:
            if not _LABEL.match(name) or name == "le":
                raise InvalidRequest(f"'{name}' cannot be a label of metric '{family.name}'")
        if any(low >= high for low, high in pairwise(buckets)):
            raise InvalidRequest(f"the buckets of metric '{family.name}' have to rise")
        if family.kind == "histogram" and not buckets:
            raise InvalidRequest(f"histogram '{family.name}' needs its buckets")
        key = tuple(sorted(labels.items()))
        meter = family.meters.get(key)
        if meter is None:
            meter = family.meters[key] = Meter(family, key, tuple(buckets))
            meter.counts = [0] * (len(buckets) + 1)
        elif meter.buckets != tuple(buckets):
            raise InvalidRequest(f"metric '{family.name}' has other buckets already")
        meter.holders += 1
        return meter

    def drop(self, meter: Meter) -> None:
        """One holder fewer."""
        meter.holders -= 1
        if not meter.holders and meter.family.meters.get(meter.labels) is meter:
            del meter.family.meters[meter.labels]


def _samples(meter: Meter) -> Iterator[str]:
    name = meter.family.name
    if meter.family.kind != "histogram":
        yield f"{name}{_labels(meter.labels)} {meter.value!r}"
        return
    bounds = [*map(repr, meter.buckets), "+Inf"]
    for bound, count in zip(bounds, accumulate(meter.counts), strict=True):
        yield f"{name}_bucket{_labels((*meter.labels, ('le', bound)))} {count}"
    yield f"{name}_sum{_labels(meter.labels)} {meter.value!r}"
    yield f"{name}_count{_labels(meter.labels)} {sum(meter.counts)}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
