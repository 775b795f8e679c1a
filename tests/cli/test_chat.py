import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripted_server import MODELS, events, scripted

from e2e.harness import RunningServer, environment
from inferd.cli.chat import Conversation
from inferd.cli.main import inferd as command
from inferd.cli.talker import FolderTalker, Message
from inferd.errors import InferdError

QUESTION = "What does `str.join` do?"
WAIT_S = 20.0
GREEDY = ("--temperature", "0", "--max-tokens", "20")


class Parrot:
    """A Talker that says what was said last, letter by letter, and remembers what it was asked."""

    name = "parrot"

    def __init__(self, fail: BaseException | None = None) -> None:
        self.asked: list[list[Message]] = []
        self.fail = fail
        self.left = 0

    def ask(self, messages: Sequence[Message]) -> Iterator[str]:
        self.asked.append(list(messages))
        try:
            yield from messages[-1]["content"]
            if self.fail is not None:
                raise self.fail
        finally:
            self.left += 1


def chat(*arguments: str | Path, typed: str = "") -> Result:
    return CliRunner().invoke(command, ["chat", *map(str, arguments)], input=typed)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def test_a_conversation_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot()
    conversation = Conversation(parrot, "Be kind.")
    for line in ("one", "", "two", "/system Be short.", "three", "/reset", "four"):
        assert conversation.take(line)
    assert not conversation.take("/exit")
    kind, short = ({"role": "system", "content": text} for text in ("Be kind.", "Be short."))
    first, second = [user("one"), assistant("one")], [user("two"), assistant("two")]
    assert parrot.asked == [
        [kind, user("one")],
        [kind, *first, user("two")],
        [short, *first, *second, user("three")],
        [short, user("four")],
    ]
    assert capsys.readouterr().out == "one\ntwo\nthree\nfour\n"


def test_commands_say_what_they_know(capsys: pytest.CaptureFixture[str]) -> None:
    conversation = Conversation(Parrot())
    for line in ("/system", "/system Be kind.", "/system", "/help", "/res", "/"):
        assert conversation.take(line)
    said = capsys.readouterr().err
    assert said.startswith("nothing was said\nBe kind.\n/reset")
    assert "no such command '/res', did you mean reset?" in said
    assert "no such command '/', known are: exit, help, reset, system" in said


def test_what_a_model_says_cannot_drive_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Conversation(Parrot()).take("a\x1b[31m\n\tb\x07")
    assert capsys.readouterr().out == "a [31m\n\tb \n"


def test_a_message_that_failed_is_not_kept() -> None:
    parrot = Parrot(InferdError("too long"))
    conversation = Conversation(parrot)
    with pytest.raises(InferdError, match="too long"):
        conversation.take("one")
    assert (conversation.messages, parrot.left) == ([], 1)


def test_what_came_of_a_stopped_answer_is_kept() -> None:
    conversation = Conversation(Parrot(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        conversation.take("one")
    assert conversation.messages == [user("one"), assistant("one")]


def test_folder_and_server_say_the_same(tiny_llama: Path, llm_server: RunningServer) -> None:
    typed = f"{QUESTION}\nAnd `len`?\n/reset\n{QUESTION}\n"
    here = chat(tiny_llama, *GREEDY, typed=typed)
    there = chat(llm_server.url, *GREEDY, typed=typed)
    assert (here.exit_code, there.exit_code) == (0, 0), here.output + there.output
    assert here.stdout == there.stdout
    once = chat(tiny_llama, *GREEDY, typed=QUESTION).stdout
    assert len(once.split()) > 4
    assert here.stdout.startswith(once)
    assert here.stdout.endswith(once)


def test_a_seed_gives_the_same_answer_again(tiny_llama: Path) -> None:
    arguments = (
        "--temperature",
        "1",
        "--seed",
        "7",
        "--max-tokens",
        "20",
        "--quantization",
        "int8",
    )
    first, second = (chat(tiny_llama, *arguments, typed=QUESTION).stdout for _ in range(2))
    assert first == second


def test_the_server_is_told_what_was_asked_for() -> None:
    said = events(b'{"choices": [{"delta": {"content": "Hi"}}]}', b'{"choices": []}', b"[DONE]")
    with scripted({"/v1/models": MODELS, "/v1/chat/completions": said}) as server:
        result = chat(server.url, "--system", "Be kind.", "--top-k", "5", typed="Hello\n")
    assert (result.exit_code, result.stdout) == (0, "Hi\n")
    _, _, body = server.asked[-1]
    assert body == (
        b'{"model": "m", "stream": true, "top_k": 5, "messages": [{"role": "system", "content": '
        b'"Be kind."}, {"role": "user", "content": "Hello"}]}'
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' is neither the folder of a model nor an address"),
        (["127.0.0.1:1"], "no server answers at 127.0.0.1:1; start one with: inferd serve MODEL"),
        (["127.0.0.1:1", "--max-model-len", "8"], "--max-model-len is for a model that is loaded"),
    ],
)
def test_an_error_says_what_to_do(arguments: list[str], message: str) -> None:
    result = chat(*arguments, typed="Hello\n")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    result = chat(tmp_path, typed="Hello\n")
    assert result.exit_code == 2
    assert "config.json: there is no such file; is this a model's folder?" in result.stderr


def test_from_a_pipe_the_first_error_ends_it(tiny_llama: Path) -> None:
    result = chat(tiny_llama, *GREEDY, "--max-model-len", "32", typed=f"{'a ' * 50}\n{QUESTION}\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "maximum context length is 32 tokens" in result.stderr


def test_control_c_ends_the_answer_and_the_next_question_is_answered(tiny_llama: Path) -> None:
    with FolderTalker(tiny_llama, {"temperature": 0.0, "max_tokens": 500}, {}) as talker:
        expected = list(talker.ask([user(QUESTION)]))
        pieces = talker.ask([user(QUESTION)])
        assert "".join(expected).startswith(next(pieces))
        # Ctrl-C while it waits for the next piece: the signal comes from the loop that it runs.
        talker.loop.call_soon(signal.raise_signal, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            list(pieces)
        assert "".join(talker.ask([user(QUESTION)])) == "".join(expected)


def test_on_a_terminal_control_c_does_not_leave_and_errors_do_not_either(tiny_llama: Path) -> None:
    with on_terminal(str(tiny_llama), *GREEDY, "--max-model-len", "64") as terminal:
        terminal.wait_for("/help says what can be typed")
        terminal.wait_for("> ")
        for _ in range(100):
            # One that comes between the prompt and the wait for a key is only seen at the next.
            terminal.process.send_signal(signal.SIGINT)
            if terminal.shows("(Ctrl-D or /exit leaves)", within_s=0.2):
                break
        terminal.type("a " * 100)
        terminal.wait_for("maximum context length is 64 tokens")
        terminal.wait_for("/reset forgets the others too")
        terminal.type("/system Be brief.")
        terminal.type("/system")
        terminal.wait_for("\nBe brief.")
        terminal.type(QUESTION)
        terminal.wait_for("str.join")
        terminal.type("/exit")
        assert terminal.process.wait(20) == 0


class Terminal:
    """A program's terminal: what it shows is read until it shows what is waited for."""

    def __init__(self, process: "subprocess.Popen[bytes]", file: int) -> None:
        self.process = process
        self._file = file
        self._seen = ""

    def type(self, line: str) -> None:
        """As if it were typed."""
        os.write(self._file, line.encode() + b"\n")

    def wait_for(self, text: str) -> None:
        """Read until `text` is shown, and forget it and what came before."""
        assert self.shows(text, WAIT_S), f"{text!r} was not shown, only: {self._seen!r}"
        self._seen = self._seen.partition(text)[2]

    def shows(self, text: str, within_s: float) -> bool:
        """Whether `text` is shown before nothing more comes for a time."""
        while text not in self._seen:
            ready, _, _ = select.select([self._file], [], [], within_s)
            if not ready:
                return False
            self._seen += os.read(self._file, 4096).decode(errors="replace")
        return True


@contextmanager
def on_terminal(*arguments: str) -> Iterator[Terminal]:
    """`inferd chat` with a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "inferd", "chat", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment(), "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
