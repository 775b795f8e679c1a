"""ARCHITECTURE.md, the folders and the import rules say the same."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "inferd"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/|[\w.-]+(/[\w.-]+)+|[\w-]+\.(py|md|toml|txt|lua)")


def rooms() -> set[str]:
    files = (path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)
    return {path.relative_to(SOURCE).parts[0] for path in files}


def paths_named() -> set[str]:
    quoted = re.findall(r"`([^`\n]+)`", _BLOCK.sub("", PAGE))
    return {text for text in quoted if _PATH.fullmatch(text)}


def contracts() -> dict[str, dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    linter = settings["tool"]["importlinter"]
    assert linter["root_package"] == "inferd"
    return {contract["id"]: contract for contract in linter["contracts"]}


def layers() -> list[str]:
    return list(contracts()["rooms"]["layers"])


def test_every_path_named_exists() -> None:
    paths = paths_named()
    assert "protocols/http/connection.py" in paths  # the search itself works
    missing = [p for p in paths if not (SOURCE / p).exists() and not (ROOT / p).exists()]
    assert sorted(missing) == []


def test_every_room_is_named() -> None:
    assert sorted(room for room in rooms() if f"`{room}/`" not in PAGE) == []


def test_every_room_has_its_place_in_the_import_order() -> None:
    placed = {name for layer in layers() for name in layer.split(" | ")}
    assert rooms() <= placed


def test_the_page_shows_the_import_order_that_is_checked() -> None:
    assert [block.split("\n")[:-1] for block in _BLOCK.findall(PAGE)] == [layers()]


def test_protocols_are_kept_from_backends() -> None:
    planes = contracts()["planes"]
    assert planes["type"] == "forbidden"
    assert planes["source_modules"] == ["inferd.protocols"]
    forbidden = set(planes["forbidden_modules"])
    assert {"inferd.backends", "inferd.engine", "inferd.workers"} <= forbidden
    shown = re.search(r"protocols see only\s(.*?), and nothing of", PAGE, re.DOTALL)
    assert shown
    seen = set(re.findall(r"`serving/(\w+)\.py`", shown[1]))
    there = {path.stem for path in (SOURCE / "serving").glob("*.py")} - {"__init__"}
    assert {name for name in there if f"inferd.serving.{name}" not in forbidden} == seen
