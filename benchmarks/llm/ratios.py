"""What is to be shown beside the peers: ratios of medians out of one run.

Pure: records in, rows out.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Ratio:
    """The figure of `by` over that of the best of `engine`'s `forms`: at least `wanted`, or at most
    where `less` is better. Where theirs is another, it is `other_figure`."""

    task: str
    figure: str
    ours: str
    engine: str
    forms: tuple[str, ...]
    wanted: float
    less: bool = False
    other_figure: str = ""
    by: str = "inferd"


SPEED = "output_tokens_per_second"
DECODE = "decode_tokens_per_second"
FIRST = "first_token_s"
AGAIN = "first_token_again_s"
GAP = "gap_p99_ms"

VLLM = ("vllm", ("bfloat16", "float32"))
RATIOS = (
    Ratio("one", DECODE, "int8", *VLLM, 1.9),
    Ratio("one", DECODE, "int8", "openvino", ("int8",), 1.15),
    Ratio("one", DECODE, "int8", "llamacpp", ("Q8_0",), 1.15),
    Ratio("one", DECODE, "int4", "llamacpp", ("Q4_0",), 1.4),
    Ratio("one", DECODE, "int4", "openvino", ("int4",), 1.0),
    Ratio("one", DECODE, "bfloat16", *VLLM, 1.1),
    Ratio("many", SPEED, "int8", *VLLM, 2.5),
    Ratio("many", SPEED, "int8", "openvino", ("int8",), 2.0),
    Ratio("many", SPEED, "int8", "openvino", ("int4",), 1.5),
    Ratio("many", SPEED, "int8", "llamacpp", ("Q8_0", "Q4_0"), 5.0),
    Ratio("many", SPEED, "int4", "inferd", ("int8",), 0.9),
    Ratio("many", SPEED, "bfloat16", *VLLM, 1.1),
    Ratio("first", FIRST, "int8", *VLLM, 0.55, less=True),
    Ratio("first", FIRST, "int8", "llamacpp", ("Q8_0", "Q4_0"), 0.3, less=True),
    Ratio("first", AGAIN, "int8", "inferd", ("int8",), 0.1, less=True, other_figure=FIRST),
    Ratio("many", SPEED, "int8", "inferd", ("int8",), 0.95, by="inferd_http"),
    Ratio("mixed", GAP, "int8", *VLLM, 1 / 3, less=True),
)


def median(
    records: Sequence[Record], task: str, engine: str, form: str, figure: str
) -> float | None:
    """Over the rounds; None where it was not measured."""
    values = [
        record[figure]
        for record in records
        if (record["task"]["name"], record["engine"], record["form"]) == (task, engine, form)
        and figure in record
    ]
    return statistics.median(values) if values else None


@dataclass(frozen=True)
class Row:
    """A ratio as it came out."""

    ratio: Ratio
    ours: float
    theirs: float
    form: str

    @property
    def value(self) -> float:
        return self.ours / self.theirs

    @property
    def reached(self) -> bool:
        wanted = self.ratio.wanted
        return self.value <= wanted if self.ratio.less else self.value >= wanted


def rows(records: Sequence[Record]) -> list[Row]:
    """Every ratio of which both sides were measured."""
    found = []
    for ratio in RATIOS:
        ours = median(records, ratio.task, ratio.by, ratio.ours, ratio.figure)
        figure = ratio.other_figure or ratio.figure
        theirs = {
            form: value
            for form in ratio.forms
            if (value := median(records, ratio.task, ratio.engine, form, figure)) is not None
        }
        if ours is None or not theirs:
            continue
        best = (min if ratio.less else max)(theirs, key=lambda form: theirs[form])
        found.append(Row(ratio, ours, theirs[best], best))
    return found
