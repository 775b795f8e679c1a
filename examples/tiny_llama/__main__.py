"""Serve the tiny Llama with inferd and ask it about Python: `make demo-llm`.

Serves on until Ctrl-C, unless DEMO_ONCE=1. Ends with 1 when an answer failed or was not one.
"""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

from rich.console import Console

from examples.server import HOST, ServerFailed, choose_port, running, serve_on
from examples.tiny_llama.client import PATH, Answer, AskFailed, ask, chat_body

MODEL = Path(__file__).parent / "model"
NAME = MODEL.name
LOG = Path(".demo") / "llm-server.log"
QUESTIONS = (
    "What is the `with` statement?",
    "What does `str.join` do?",
    "Tell me about the `json` module.",
)
LEAST_WORDS = 8


def main() -> int:
    """The exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    try:
        return run(console, once=os.environ.get("DEMO_ONCE", "") not in ("", "0"))
    except (ServerFailed, AskFailed) as error:
        console.print("[red]failed[/]:", end=" ")
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def run(console: Console, once: bool) -> int:
    """The whole demo."""
    port = choose_port(8000)
    console.print(f"starting: inferd serve {_short(MODEL)} --http-port {port}")
    with running(MODEL, port, LOG) as process:
        console.print(f"ready at http://{HOST}:{port} (log: {LOG})")
        answers = [_ask(console, port, question) for question in QUESTIONS]
        wrong = [answer for answer in answers if not _is_answer(answer)]
        console.print("[red]not as it should be[/]" if wrong else "[green]all as it should be[/]")
        if once:
            return 1 if wrong else 0
        console.print("\ntry it:", curl_line(port), soft_wrap=True, markup=False)
        console.print(f"or:     inferd chat http://{HOST}:{port}")
        console.print("serving; Ctrl-C stops")
        serve_on(process, LOG)
    console.print("stopped")
    return 1 if wrong else 0


def curl_line(port: int) -> str:
    """A command that asks the first question and shows what comes as it comes."""
    body = chat_body(NAME, QUESTIONS[0])
    del body["stream_options"]
    head = shlex.quote("Content-Type: application/json")
    data = shlex.quote(json.dumps(body))
    return f"curl -sN http://{HOST}:{port}{PATH} -H {head} -d {data}"


def _ask(console: Console, port: int, question: str) -> Answer:
    console.print(f"\n[bold]{question}[/]")
    answer = ask(port, chat_body(NAME, question), _say)
    console.print(
        f"\n[dim]{answer.tokens} tokens, the first after {answer.first_s * 1e3:.1f} ms, "
        f"then {answer.tokens_per_s:,.0f} a second; {answer.finish_reason}[/]"
    )
    return answer


def _say(piece: str) -> None:
    print(piece, end="", flush=True)


def _is_answer(answer: Answer) -> bool:
    """Words, and an end that the model found itself."""
    return len(answer.text.split()) >= LEAST_WORDS and answer.finish_reason == "stop"


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
