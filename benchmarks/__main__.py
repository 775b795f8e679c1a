"""`python -m benchmarks`: inferd and its peers on the same models under the same load."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import date
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.h2load import require_h2load
from benchmarks.load import LoadError, require_wrk
from benchmarks.processes import end_servers_on_sigterm, raise_file_limit
from benchmarks.report import markdown
from benchmarks.servers import SERVERS
from benchmarks.suite import Options, Suite
from benchmarks.venvs import cache_folder, installed_versions
from benchmarks.workloads import ALL_NAMES, GROUPS, GRPC
from inferd.observability.machine import describe_machine

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure, print the table, keep table and raw data."""
    arguments = parse()
    console = Console()
    raise_file_limit()
    end_servers_on_sigterm()
    try:
        generators = require_wrk()
        if {"grpc", *GRPC} & set(arguments.workloads):
            generators += f"; {require_h2load()}"
        options = Options(
            servers=arguments.only,
            workloads=arguments.workloads,
            connections=tuple(int(count) for count in arguments.connections.split(",")),
            rounds=1 if arguments.quick else arguments.rounds,
            seconds=2.0 if arguments.quick else arguments.seconds,
        )
        inferd = Path(arguments.inferd_python)
        suite = Suite(options, cache_folder(), inferd, console)
        columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            suite.run(progress)
    except LoadError as error:
        console.print(f"error: {error}", markup=False)
        return 1
    versions = {name: installed_versions(python) for name, python in suite.pythons.items()}
    machine = machine_lines(generators, versions)
    text = markdown(suite.records, f"Benchmarks, {date.today()}", machine)
    console.print(Markdown(text))
    base = RESULTS / f"{date.today()}-{slug(describe_machine().cpu_model)}{arguments.suffix}"
    RESULTS.mkdir(exist_ok=True)
    base.with_suffix(".md").write_text(text)
    raw = {"machine": machine, "versions": versions, "records": [asdict(r) for r in suite.records]}
    base.with_suffix(".json").write_text(json.dumps(raw, indent=1))
    console.print(f"written: {base}.md, {base}.json", markup=False)
    return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=names_of("server", SERVERS),
        default=tuple(SERVERS),
        help="servers, by comma; default all",
    )
    parser.add_argument(
        "--workloads",
        type=names_of("workload", (*ALL_NAMES, *GROUPS)),
        default=ALL_NAMES,
        help=f"by comma; {', '.join(GROUPS)} is all of its kind",
    )
    parser.add_argument(
        "--connections", default="1,32,256", help="by comma, for workloads that do not say"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--inferd-python", default=sys.executable)
    parser.add_argument("--suffix", default="", help="added to the names of the result files")
    return parser.parse_args(arguments)


def names_of(what: str, known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names by comma; one that is not known is refused with those that are, by likeness."""
    names = tuple(known)

    def read(text: str) -> tuple[str, ...]:
        for name in (found := tuple(text.split(","))):
            if name not in names:
                near = get_close_matches(name, names, len(names), cutoff=0.0)
                raise argparse.ArgumentTypeError(f"no {what} {name!r}; known: {', '.join(near)}")
        return found

    return read


def machine_lines(generators: str, versions: dict[str, dict[str, str]]) -> list[str]:
    """Where and with what the figures were made."""
    machine = describe_machine()
    packages = {name: SERVERS[name].distribution for name in versions}
    tested = ", ".join(f"{name} {versions[name].get(p, '?')}" for name, p in packages.items())
    runtimes = {v["onnxruntime"] for v in versions.values() if "onnxruntime" in v}
    return [
        f"processor: {machine.cpu_model}, {machine.cores_available} cores, shared with the load "
        f"generator; {', '.join(machine.instruction_sets)}",
        f"servers: {tested}; ONNX Runtime {', '.join(sorted(runtimes))}; {generators}",
        f"command: python -m benchmarks {' '.join(sys.argv[1:])}".rstrip(),
    ]


def slug(text: str) -> str:
    """A name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
