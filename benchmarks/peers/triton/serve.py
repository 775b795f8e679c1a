"""Triton's own server, as the package nvidia-pytriton carries it: over gRPC alone, with one model
of its Python backend, by the name given; or, where BENCH_REPOSITORY names one, with a whole
repository of such models, over HTTP as well.

The package is installed for its binaries alone. Its backend looks for the process that runs models
(the stub, one for each version of Python) beside itself, and the stub for the library of its
Python: so what the server reads is put together here, within the environment that runs this file.
"""

import json
import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

CONFIG = """
backend: "python"
max_batch_size: {max_batch_size}
input {{ name: "x", data_type: TYPE_FP32, dims: {dims} }}
output {{ name: "y", data_type: TYPE_FP32, dims: {dims} }}
instance_group {{ kind: KIND_CPU, count: {instances} }}
{batching}
"""


def config(settings: dict[str, int]) -> str:
    """The model's configuration: rows of 16 floats, batched or one a request."""
    size = settings["max_batch_size"]
    return CONFIG.format(
        max_batch_size=size,
        dims=[16] if size else [1, 16],
        instances=settings["instances"],
        batching="dynamic_batching {}" if settings["dynamic_batching"] else "",
    )


def installed() -> Path:
    """The folder of the server, found without running the package."""
    found = find_spec("pytriton")
    if found is None or not found.submodule_search_locations:
        sys.exit("nvidia-pytriton is not installed")
    return Path(found.submodule_search_locations[0]) / "tritonserver"


def lay_out_backends(carried: Path, folder: Path) -> None:
    """Puts the Python backend and its stub together, anew."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = carried / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.rmtree(folder, ignore_errors=True)
    backend = folder / "python"
    backend.mkdir(parents=True)
    for file in (*(carried / "backends" / "python").iterdir(), stub):
        (backend / file.name).symlink_to(file)  # in place each finds the libraries beside it


def lay_out_model(models: Path, name: str) -> None:
    """Writes the repository of one model, anew."""
    shutil.rmtree(models, ignore_errors=True)
    model = models / name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(config(json.loads(os.environ["BENCH_SETTINGS"])))
    shutil.copyfile("model.py", model / "1" / "model.py")


if __name__ == "__main__":
    carried, folder = installed(), Path(sys.prefix) / "triton"
    lay_out_backends(carried, folder / "backends")
    program = str(carried / "bin" / "tritonserver")
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    flags = {
        "backend-directory": folder / "backends",
        "allow-metrics": "false",
        "grpc-address": "127.0.0.1",
        "grpc-port": os.environ["BENCH_GRPC_PORT"],
        "exit-timeout-secs": 5,
    }
    if repository := os.environ.get("BENCH_REPOSITORY"):
        flags |= {
            "model-repository": repository,
            "http-address": "127.0.0.1",
            "http-port": os.environ["BENCH_PORT"],
        }
    else:
        lay_out_model(folder / "models", sys.argv[1])
        flags |= {"model-repository": folder / "models", "allow-http": "false"}
    os.execv(program, [program, *(f"--{name}={value}" for name, value in flags.items())])
