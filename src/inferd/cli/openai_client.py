"""A server that speaks the OpenAI API, asked with the standard library: inferd or any other.

It refuses to know what an answer is for, and to measure (`traffic/`).
"""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final

from inferd.cli.address import split_url
from inferd.errors import InferdError

CONNECT_TIMEOUT_S: Final = 10.0
CALL_TIMEOUT_S: Final = 30.0


class OpenAIServer:
    """One server; each request has a connection of its own, so that leaving it aborts it.

    `url` may end in /v1, as other clients want it. Raises InferdError for what is no URL.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.where = split_url(url)
        self.url = url
        self.base = self.where.path.rstrip("/").removesuffix("/v1")
        self.headers = {"Content-Type": "application/json"}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def choose_model(self, wanted: str = "") -> str:
        """The model of that name, or the server's only one; raises InferdError that lists them."""
        answer = self.call("GET", "/v1/models")
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise InferdError(f"{self.url} does not list its models; does it speak the OpenAI API?")
        names = [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry]
        if wanted in names or (not wanted and len(names) == 1):
            return wanted or names[0]
        if not names:
            raise InferdError(f"{self.url} has no language model that is ready")
        problem = f"has no model '{wanted}'" if wanted else "has several models"
        raise InferdError(f"{self.url} {problem}; choose with --model: {', '.join(names)}")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request and what its JSON says; raises InferdError with the server's message."""
        connection, answer = self._send(method, path, body, CALL_TIMEOUT_S)
        try:
            return _json(answer.read(), self.url)
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def stream(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        """POST, and each event of the answer as it comes. Leaving the iteration ends the request.

        Raises InferdError with the server's message, before the first event or between two.
        """
        # A model may think for long, so there is no limit; Ctrl-C ends it.
        connection, answer = self._send("POST", path, body, None)
        try:
            for line in answer:
                field, _, data = line.strip().partition(b":")
                if field != b"data":
                    continue
                if data.strip() == b"[DONE]":
                    return
                event = _json(data, self.url)
                if not isinstance(event, dict) or event.get("error"):
                    raise InferdError(error_text(event))
                yield event
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: object, timeout_s: float | None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """A connection and the head of a good answer."""
        kind = HTTPSConnection if self.where.scheme == "https" else HTTPConnection
        host = self.where.hostname or ""
        connection = kind(host, self.where.port, timeout=CONNECT_TIMEOUT_S)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            connection.request(method, self.base + path, data, self.headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise InferdError(_refusal(self.url, path, answer.status, answer.read()))
        except ConnectionRefusedError:
            connection.close()
            message = f"no server answers at {self.url}; start one with: inferd serve MODEL"
            raise InferdError(message) from None
        except (OSError, HTTPException, UnicodeError) as error:
            connection.close()
            raise self._lost(error) from error
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def _lost(self, error: Exception) -> InferdError:
        return InferdError(f"no answer from {self.url}: {error or type(error).__name__}")


def error_text(value: Any) -> str:
    """The message in an error's body, whichever shape it has."""
    error = value.get("error", value) if isinstance(value, dict) else value
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)


def _refusal(url: str, path: str, status: int, body: bytes) -> str:
    try:
        said = error_text(json.loads(body))
    except ValueError:
        said = body[:200].decode(errors="replace").strip()
    if status == 404 and path == "/v1/models":
        return f"{url} has no OpenAI API (status 404 for {path}); is a language model served there?"
    return said or f"{url} answered {path} with status {status}"


def _json(data: bytes, url: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise InferdError(f"{url} did not answer in JSON; does it speak the OpenAI API?") from None
