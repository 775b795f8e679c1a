"""`inferd models`: see and change which models a running server has, over HTTP.

It speaks Triton's repository extension (/v2/repository) with the standard library alone, and
refuses to know anything of a model that the server did not say.
"""

import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote

import click

from inferd.cli.address import split_url
from inferd.cli.group import Group
from inferd.cli.table import format_option, print_json, print_table
from inferd.errors import InferdError

CONNECT_TIMEOUT_S: Final = 10.0
LIST_TIMEOUT_S: Final = 30.0

url_option = click.option(
    "--url",
    default="http://127.0.0.1:8000",
    envvar="INFERD_URL",
    show_default=True,
    show_envvar=True,
    help="Where the server answers.",
)


@click.group(cls=Group)
def models() -> None:
    """See, load and unload the models of a running server."""


@models.command("list")
@url_option
@format_option
def list_models(url: str, format: str) -> None:
    """Print each model, its version, its state, and why it is not ready."""
    index = call(url, "/v2/repository/index", timeout_s=LIST_TIMEOUT_S)
    if not isinstance(index, list) or not all(isinstance(entry, dict) for entry in index):
        raise InferdError(f"{url} did not answer with a list of models; is it inferd?")
    if format == "json":
        print_json(index)
        return
    columns = ("name", "version", "state", "reason")
    print_table(columns, [[str(entry.get(key) or "") for key in columns] for entry in index])


@models.command()
@click.argument("name")
@url_option
def load(name: str, url: str) -> None:
    """Load model NAME (or load it again) and wait until it is ready."""
    start = time.monotonic()
    call(url, _path_of(name, "load"))
    click.echo(f"{name} is ready after {time.monotonic() - start:.1f} s")


@models.command()
@click.argument("name")
@url_option
def unload(name: str, url: str) -> None:
    """Unload model NAME; requests that it has are finished first."""
    call(url, _path_of(name, "unload"))
    click.echo(f"{name} is unloaded")


def call(url: str, path: str, *, timeout_s: float | None = None) -> Any:
    """POST to the server and return what its JSON says; without a limit, wait for it."""
    where = split_url(url)
    kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=CONNECT_TIMEOUT_S)
    try:
        connection.connect()
        connection.sock.settimeout(timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", where.path.rstrip("/") + path, b"{}", headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except ConnectionRefusedError:
        message = f"no server answers at {url}; start one with: inferd serve PATH"
        raise InferdError(message) from None
    except (OSError, HTTPException, UnicodeError) as error:
        raise InferdError(f"no answer from {url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return _understand(url, status, body)


def _path_of(name: str, action: str) -> str:
    # An argument that is not UTF-8 goes out as the bytes that were typed.
    return f"/v2/repository/models/{quote(name, safe='', errors='surrogateescape')}/{action}"


def _understand(url: str, status: int, body: bytes) -> Any:
    try:
        value = json.loads(body) if body.strip() else None
    except ValueError:
        value = body[:200].decode(errors="replace")
        if status < 400:
            raise InferdError(f"{url} did not answer in JSON; is it inferd?") from None
    if status < 400:
        return value
    message = value.get("error", value) if isinstance(value, dict) else value
    raise InferdError(str(message or f"{url} answered with status {status}"))
