import re

import pytest

from e2e.harness import RunningServer


def test_the_page_brings_all_it_needs_itself(server: RunningServer) -> None:
    page = server.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|https?://", text)
    waiting, seen = re.findall(r"console/[a-z]+\.\w+\?v=\w+", text), set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        asset = server.get(f"/{path}")
        assert asset.status == 200
        assert "immutable" in asset.headers["cache-control"]
        assert asset.headers["x-content-type-options"] == "nosniff"
        found = re.findall(r'from "\./([a-z]+\.js\?v=\w*)"', asset.body.decode())
        assert all(not name.endswith("=") for name in found)
        waiting += [f"console/{name}" for name in found]
    assert len(seen) == 7


@pytest.mark.parametrize("version", ["", "?v=older"])
def test_a_file_of_another_version_is_not_kept(server: RunningServer, version: str) -> None:
    assert server.get(f"/console/app.js{version}").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nope.js", "index.html", "..%2f..%2fserver.py", "%2e%2e"])
def test_no_other_file_is_handed_out(server: RunningServer, name: str) -> None:
    assert "no such path" in server.get(f"/console/{name}").error


def test_the_page_is_read_only(server: RunningServer) -> None:
    assert server.post("/").status == 405
