import json

import msgspec
from click.testing import CliRunner

from inferd.backends import registry
from inferd.cli.doctor import BACKENDS, OPEN_FILES_WANTED, Backend, advise, installed_version
from inferd.cli.main import inferd
from inferd.observability.machine import Machine, describe_machine


def limited_to(open_files: int | None) -> Machine:
    return msgspec.structs.replace(describe_machine(), open_files_limit=open_files)


def test_doctor_prints_what_it_finds_in_both_formats() -> None:
    text = CliRunner().invoke(inferd, ["doctor"])
    assert text.exit_code == 0
    for word in ("inferd", "Python", "processor", "cores", "memory", "open files", "GPU"):
        assert word in text.stdout
    document = json.loads(CliRunner().invoke(inferd, ["doctor", "--format", "json"]).stdout)
    assert document["machine"]["cores_available"] >= 1
    assert [backend["name"] for backend in document["backends"]] == [b.name for b in BACKENDS]


def test_a_package_is_found_without_its_import() -> None:
    assert installed_version("msgspec") == msgspec.__version__
    assert installed_version("yaml") not in (None, "unknown version")  # comes from pyyaml
    assert installed_version("no_such_module_here") is None


def test_advice_says_what_to_type() -> None:
    missing = [Backend("onnxruntime", "onnxruntime", "onnx"), Backend("torch", "torch", "torch")]
    [install, files] = advise(limited_to(1024), missing)
    assert "not installed: onnxruntime, torch;" in install
    assert "pip install 'inferd[onnx,torch]'" in install
    assert f"ulimit -n {OPEN_FILES_WANTED}" in files
    assert advise(limited_to(OPEN_FILES_WANTED), []) == []
    assert advise(limited_to(None), []) == []


def test_each_backend_has_its_extra() -> None:
    """Of those in the registry, apart from those that need nothing or what another brings."""
    told = {backend.name: backend.extra for backend in BACKENDS}
    assert set(told) == {*registry.BACKENDS, registry.LLM} - {"onnx", "python"}
    for name, extra in told.items():
        assert registry.EXTRAS.get(name, name) == extra
