import re
from html import unescape

from inferd.protocols.http.docs import docs_page
from inferd.protocols.http.openapi import openapi_document


def test_page_has_every_path_with_its_method_and_summary() -> None:
    document = openapi_document()
    page = unescape(docs_page(document))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f">{method.upper()}</span><code>{path}</code>" in page
            assert operation["summary"] in page


def test_page_needs_no_other_server() -> None:
    page = docs_page(openapi_document())
    assert re.findall(r"(?:https?:)?//[a-z]", page) == []
    assert "<script" not in page
    assert re.findall(r"<(?:link|img|iframe)\b|@import|url\(", page) == []
    assert all(target.startswith("/") for target in re.findall(r"href=([^ >]+)", page))


def test_what_a_document_says_is_shown_and_never_run() -> None:
    evil = "<script>alert('x')</script>"
    document = {
        "info": {"title": evil, "version": evil, "description": evil},
        "paths": {evil: {"get": {"tags": [evil], "summary": evil, "x-example": evil}}},
    }
    page = docs_page(document)
    assert "<script" not in page
    assert unescape(page).count(evil) == 8


def test_operations_stand_under_their_tags() -> None:
    page = docs_page(openapi_document())
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert len(headings) == len(set(headings))
    assert set(headings) == {
        "Inference", "Health", "Metadata", "Repository", "Statistics", "Metrics", "Chat",
        "Completions", "Models", "Tokens", "Texts", "Settings", "Shared memory",
    }  # fmt: skip
