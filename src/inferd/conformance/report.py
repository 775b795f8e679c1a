"""What came of the checks, for people and as JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from inferd.conformance.check import Check
from inferd.conformance.checks import AREAS
from inferd.conformance.suite import Ended, Outcome, Server

CLEAR_LINE = "\r\x1b[K"
COLUMNS: tuple[Outcome, ...] = ("passed", "failed", "skipped")


class Progress:
    """One line on a terminal, of the check that runs; nothing elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shows = out.isatty()

    def began(self, check: Check, wire: str) -> None:
        """A check begins."""
        if self._shows:
            self._out.write(f"{CLEAR_LINE}{check.area}: {check.name} ({wire})"[:100])
            self._out.flush()

    def close(self) -> None:
        """Leave the line as it was."""
        if self._shows:
            self._out.write(CLEAR_LINE)
            self._out.flush()


def table(server: Server, ended: Sequence[Ended]) -> str:
    """Failures with what was asked, expected and got; what was skipped and why; totals by area."""
    lines = []
    for one in ended:
        if one.outcome == "failed":
            lines += [
                f"FAILED  {one.area}: {one.name} ({one.wire})", f"  asked     {one.asked}",
                f"  expected  {one.expected}", f"  got       {one.got}", "",
            ]  # fmt: skip
    skipped = Counter((one.area, one.reason) for one in ended if one.outcome == "skipped")
    for (area, reason), count in skipped.items():
        lines.append(f"SKIPPED {area}: {count} {'check' if count == 1 else 'checks'}, {reason}")
    if skipped:
        lines.append("")
    lines.append(f"{server.name} {server.version}".ljust(24) + "".join(f"{c:>9}" for c in COLUMNS))
    for area, counts in totals(ended).items():
        lines.append(area.ljust(24) + "".join(f"{counts[column]:>9}" for column in COLUMNS))
    whole = Counter(one.outcome for one in ended)
    lines.append("all".ljust(24) + "".join(f"{whole[column]:>9}" for column in COLUMNS))
    return "\n".join(lines)


def totals(ended: Sequence[Ended]) -> dict[str, Counter[Outcome]]:
    """How often which outcome, by area."""
    counts: dict[str, Counter[Outcome]] = {area: Counter() for area in AREAS}
    for one in ended:
        counts[one.area][one.outcome] += 1
    return {area: count for area, count in counts.items() if count}


def as_json(server: Server, ended: Sequence[Ended]) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "server": {"name": server.name, "version": server.version,
                       "extensions": sorted(server.extensions)},
            "totals": {area: {column: count[column] for column in COLUMNS}
                       for area, count in totals(ended).items()},
            "checks": [one._asdict() for one in ended],
        },
        indent=1,
    )  # fmt: skip
