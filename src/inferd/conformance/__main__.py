"""`python -m inferd.conformance URL`: check a server of the V2 protocol by its address.

The exit status is 0 when no check failed, 1 when one did, 2 when nothing could be checked.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inferd.conformance.repository import write_repository

MISSING = (
    "the checks are made with tritonclient, which is not installed; install it with: "
    "pip install 'inferd[conformance]'"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.write_repository is not None:
        return _write(asked.write_repository, asked.backend)
    if not asked.url:
        parser.error("name the server's URL, or --write-repository DIR for the models it needs")
    return _check(asked)


def _write(root: Path, backend: str) -> int:
    try:
        names = write_repository(root, "onnx" if backend == "onnx" else "python")
    except OSError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(f"{len(names)} models in {root}; serve them, in explicit mode with all of them loaded")
    return 0


def _check(asked: argparse.Namespace) -> int:
    try:
        from inferd.conformance.checks import AREAS
        from inferd.conformance.report import Progress, as_json, table
        from inferd.conformance.suite import Unreachable, chosen, look, run
        from inferd.conformance.wire import Target
    except ImportError as error:
        print(f"conformance: {MISSING} ({error})", file=sys.stderr)
        return 2
    unknown = sorted(set(asked.area) - set(AREAS))
    if unknown:
        print(
            f"conformance: no area {unknown[0]!r}; there are: {', '.join(AREAS)}", file=sys.stderr
        )
        return 2
    target = Target(asked.url, asked.grpc, asked.metrics, asked.pid)
    try:
        server = look(target)
    except Unreachable as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    progress = Progress(sys.stderr)
    checks = chosen(asked.area, asked.without)
    ended = list(run(target, server, checks, progress.began))
    progress.close()
    print(as_json(server, ended) if asked.json else table(server, ended))
    outcomes = {one.outcome for one in ended}
    return 1 if "failed" in outcomes else 0 if "passed" in outcomes else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferd.conformance",
        description="Check a server of the V2 protocol and Triton's extensions, by its address.",
    )
    parser.add_argument("url", nargs="?", default="", help="where it answers HTTP")
    parser.add_argument("--grpc", default="", metavar="HOST:PORT", help="where it answers gRPC")
    parser.add_argument("--metrics", default="", metavar="URL",
                        help="its metrics; unless said, /metrics, there or on 8002")  # fmt: skip
    parser.add_argument("--area", action="append", default=[], help="only this area (repeatable)")
    parser.add_argument("--without", action="append", default=[], metavar="TEXT",
                        help="leave out checks with this in their name (repeatable)")  # fmt: skip
    parser.add_argument("--pid", type=int, default=0,
                        help="its process on this machine: ended in the area 'drain'")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--write-repository", type=Path, metavar="DIR",
                        help="write the models that the checks ask, and end")  # fmt: skip
    parser.add_argument("--backend", choices=("onnx", "python"), default="onnx",
                        help="what models that only move numbers are written as")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
