"""The readable page of the API, made from its OpenAPI document: no script, no internet."""

from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #d8dee4}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f3f5f7;padding:.8rem;overflow:auto}
.op{margin:1rem 0}.m{display:inline-block;min-width:3.6rem;font-weight:600}
.get{color:#0a6640}.post{color:#0b4f9e}.d{margin:.1rem 0 .4rem 3.9rem;color:#444c56}
summary{cursor:pointer;margin-left:3.9rem;color:#57606a}
@media(prefers-color-scheme:dark){body{background:#16191d;color:#e6e8ea}pre{background:#22272e}
.d,summary{color:#adbac7}.get{color:#57c98a}.post{color:#6cb0ff}h2{border-color:#373e47}}
"""


def docs_page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: operations by tag, with their bodies' schemas."""
    info = document["info"]
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", [""])[0]
            by_tag.setdefault(tag, []).append(_operation(path, method, operation))
    sections = "".join(
        f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in by_tag.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        "<p><a href=/>try the models</a> · <a href=/openapi.json>openapi.json</a> · "
        "<a href=/metrics>metrics</a> · "
        f"<a href=/v2>server metadata</a></p>{sections}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    example = operation.get("x-example")
    details = (
        f"<details><summary>example</summary><pre>{escape(example)}</pre></details>"
        if example
        else ""
    )
    return (
        f"<div class=op><span class='m {method}'>{method.upper()}</span>"
        f"<code>{escape(path)}</code><div class=d>{escape(operation['summary'])}</div>"
        f"{details}</div>"
    )
