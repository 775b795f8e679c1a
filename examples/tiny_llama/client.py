"""Asks the server as any program would: a chat over plain HTTP, the answer as it is written."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from examples.server import HOST

PATH = "/v1/chat/completions"
TIMEOUT_S = 60.0

Said = Callable[[str], None]
"""Called with each piece of the answer when it comes."""


class AskFailed(Exception):
    """The server refused, or did not answer to the end."""


@dataclass(slots=True)
class Answer:
    """A whole answer; `first_s` is the time to its first piece."""

    text: str = ""
    tokens: int = 0
    finish_reason: str = ""
    first_s: float = 0.0
    seconds: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """After the first one."""
        later_s = self.seconds - self.first_s
        return (self.tokens - 1) / later_s if self.tokens > 1 and later_s > 0 else 0.0


def chat_body(model: str, question: str) -> dict[str, Any]:
    """A request that streams; greedy, so that it can be asked again."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 256,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def ask(port: int, body: dict[str, Any], said: Said) -> Answer:
    """Ask, and tell what comes. Raises AskFailed."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    answer, start_s = Answer(), time.perf_counter()
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", PATH, json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise AskFailed(f"status {response.status}: {response.read().decode(errors='replace')}")
        for line in response:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                _take(json.loads(line[6:]), answer, said, start_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AskFailed(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    answer.seconds = time.perf_counter() - start_s
    return answer


def _take(event: dict[str, Any], answer: Answer, said: Said, start_s: float) -> None:
    if event.get("error"):
        raise AskFailed(str(event["error"]))
    if event.get("usage"):
        answer.tokens = event["usage"]["completion_tokens"]
    for choice in event["choices"]:
        answer.finish_reason = choice["finish_reason"] or answer.finish_reason
        if piece := choice["delta"].get("content"):
            answer.first_s = answer.first_s or time.perf_counter() - start_s
            answer.text += piece
            said(piece)
