"""`inferd doctor`: what inferd finds on this machine, what is missing, and how to get it.

It looks for packages without importing them, and judges what `observability/machine.py` found.
"""

import platform
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import click
import msgspec

from inferd import __version__
from inferd.cli.table import format_option, print_json, print_table
from inferd.observability.machine import Machine, describe_machine

OPEN_FILES_WANTED: Final = 65536


class Backend(NamedTuple):
    """A backend, the module that it needs, and the extra of inferd's that installs it."""

    name: str
    module: str
    extra: str


BACKENDS: Final = (
    Backend("onnxruntime", "onnxruntime", "onnx"),
    Backend("openvino", "openvino", "openvino"),
    Backend("torch", "torch", "torch"),
    Backend("tensorflow", "tensorflow", "tensorflow"),
    Backend("sklearn", "sklearn", "sklearn"),
    Backend("xgboost", "xgboost", "xgboost"),
    Backend("lightgbm", "lightgbm", "lightgbm"),
    Backend("catboost", "catboost", "catboost"),
    Backend("mlflow", "mlflow", "mlflow"),
    Backend("transformers", "transformers", "transformers"),
    Backend("llm", "numba", "llm"),
)


@click.command(short_help="Print what inferd finds here, and what is missing.")
@format_option
def doctor(format: str) -> None:
    """Print what inferd finds here: machine, limits, GPUs, backends, and what is missing."""
    machine = describe_machine()
    backends = [(backend, installed_version(backend.module)) for backend in BACKENDS]
    advice = advise(machine, [backend for backend, found in backends if found is None])
    if format == "json":
        print_json(_document(machine, backends, advice))
        return
    print_table(("what", "found"), [*_software(backends), *_machine(machine)])
    for line in advice:
        click.echo(f"advice: {line}")
    if not advice:
        click.echo("nothing is missing")


def installed_version(module: str) -> str | None:
    """The version of the package that a module comes from; None where the module is not there."""
    if find_spec(module) is None:
        return None
    try:
        return version(module)
    except PackageNotFoundError:  # onnxruntime also comes as onnxruntime-gpu, and so on
        names = packages_distributions().get(module, [])
        return version(names[0]) if names else "unknown version"


def advise(machine: Machine, missing: list[Backend]) -> list[str]:
    """What the user could do, most useful first."""
    advice = []
    if missing:
        names = ", ".join(backend.name for backend in missing)
        extras = ",".join(backend.extra for backend in missing)
        advice.append(
            f"not installed: {names}; get those whose models you serve with: "
            f"pip install 'inferd[{extras}]'"
        )
    limit = machine.open_files_limit
    if limit is not None and limit < OPEN_FILES_WANTED:
        advice.append(
            f"only {limit} open files allowed, each connection takes one; raise it with: "
            f"ulimit -n {OPEN_FILES_WANTED} (systemd: LimitNOFILE={OPEN_FILES_WANTED})"
        )
    return advice


def _software(backends: list[tuple[Backend, str | None]]) -> list[tuple[str, str]]:
    rows = [("inferd", __version__), ("Python", platform.python_version())]
    return rows + [(f"backend {backend.name}", found or "missing") for backend, found in backends]


def _machine(machine: Machine) -> list[tuple[str, str]]:
    quota = machine.cores_by_cgroup
    limit = machine.open_files_limit
    gpus = [(f"GPU {i}", f"{g.name}, {_size(g.memory_bytes)}, driver {g.driver}")
            for i, g in enumerate(machine.gpus)]  # fmt: skip
    return [
        ("system", f"{machine.system}, {machine.architecture}"),
        ("processor", machine.cpu_model),
        ("instruction sets", " ".join(machine.instruction_sets) or "none that matter"),
        (
            "cores",
            f"{machine.cores_available} available (machine {machine.cores_total}, affinity "
            f"{machine.cores_by_affinity}, cgroup {'no limit' if quota is None else f'{quota:g}'})",
        ),
        ("memory", f"{_size(machine.memory_total_bytes)}, "
                   f"{_size(machine.memory_available_bytes)} available"),
        ("memory limit of cgroup", _size(machine.memory_limit_bytes, "no limit")),
        ("open files", "no limit" if limit is None else str(limit)),
        *(gpus or [("GPU", "none found by nvidia-smi")]),
    ]  # fmt: skip


def _size(size_bytes: int | None, unknown: str = "unknown") -> str:
    return unknown if size_bytes is None else f"{size_bytes / (1 << 30):.1f} GiB"


def _document(
    machine: Machine, backends: list[tuple[Backend, str | None]], advice: list[str]
) -> dict[str, Any]:
    return {
        "inferd": __version__,
        "python": platform.python_version(),
        "backends": [
            {"name": backend.name, "version": found, "extra": backend.extra}
            for backend, found in backends
        ],
        "machine": msgspec.to_builtins(machine),
        "advice": advice,
    }
