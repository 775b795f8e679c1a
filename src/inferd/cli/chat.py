"""`inferd chat`: talk with a language model in a terminal, or pipe questions to it, one a line.

It holds the conversation and what is typed; who answers is a Talker's (`talker.py`).
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from inferd.cli.group import Failure, no_color
from inferd.errors import InferdError

if TYPE_CHECKING:
    from inferd.cli.talker import Progress, Talker

HELP: Final = """\
/reset          forget what was said
/system TEXT    say who the model shall be; without TEXT, show it
/help           these lines
/exit           leave, as does Ctrl-D; Ctrl-C stops an answer"""
COMMANDS: Final = ("exit", "help", "reset", "system")

_ADDRESS: Final = re.compile(r"[\w.-]+:\d+(/.*)?|\w+://.*")
_SAMPLING: Final[tuple[str, ...]] = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "seed",
)
_ENGINE: Final[tuple[str, ...]] = ("dtype", "quantization", "max_model_len", "threads")


@click.command(short_help="Talk with the model at MODEL_OR_URL.")
@click.argument("model_or_url")
@click.option("--system", default="", metavar="TEXT", help="Says first who the model shall be.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(min=0), help="How daring; 0 is never.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="Choose among the likeliest tokens that together have this share.",
)
@click.option("--top-k", type=click.IntRange(min=0), help="Choose among so many; 0 is all.")
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(min=0, min_open=True),
    help="Above 1, what was said is less likely to be said again.",
)
@click.option("--seed", type=int, help="The same seed, the same answer.")
@click.option("--model", default="", help="URL: which model, where the server has several.")
@click.option(
    "--api-key",
    envvar="INFERD_API_KEY",
    default="",
    show_envvar=True,
    help="URL: sent as a bearer token.",
)
@click.option("--dtype", help="Folder: type of the weights.")
@click.option("--quantization", help="Folder: make the weights smaller, int8 or int4.")
@click.option("--max-model-len", type=click.IntRange(min=1), help="Folder: longest conversation.")
@click.option("--threads", type=click.IntRange(min=0), help="Folder: cores to use; 0 is all.")
def chat(model_or_url: str, system: str, model: str, api_key: str, **options: Any) -> None:
    """Talk with a model: one in a folder, which is loaded here, or one that a server has.

    What is not said is as the model's own configuration has it. From a pipe, each line is a
    question, and the first error ends with status 2.
    """
    given = {name: value for name, value in options.items() if value is not None}
    sampling = {name: given[name] for name in _SAMPLING if name in given}
    engine = {name: given[name] for name in _ENGINE if name in given}
    with _talker(model_or_url, model, api_key, sampling, engine) as talker:
        Conversation(talker, system).run(sys.stdin.isatty())


class Conversation:
    """What was said so far, and the loop that adds to it."""

    def __init__(self, talker: "Talker", system: str = "") -> None:
        self.system = system
        self.messages: list[dict[str, str]] = []
        self._talker = talker

    def run(self, interactive: bool) -> None:
        """Take lines until the last. On a terminal an error does not end it."""
        if interactive:
            click.echo(f"{self._talker.name}; /help says what can be typed", err=True)
        for line in _typed() if interactive else sys.stdin:
            try:
                if not self.take(line.strip()):
                    return
            except InferdError as error:
                if not interactive:
                    raise
                Failure(f"{error}\nthat message was not kept; /reset forgets the others too").show()
            except KeyboardInterrupt:
                if not interactive:
                    raise

    def take(self, line: str) -> bool:
        """Obey or answer a line; whether to go on. Raises InferdError, and KeyboardInterrupt when
        an answer was stopped; what came of it is kept."""
        if line.startswith("/"):
            return self._obey(*line[1:].split(maxsplit=1))
        if line:
            self._answer(line)
        return True

    def _obey(self, name: str = "", argument: str = "", /) -> bool:
        if name == "reset":
            self.messages.clear()
        elif name == "system":
            self.system = argument or self.system
            if not argument:
                click.echo(self.system or "nothing was said", err=True)
        elif name == "help":
            click.echo(HELP, err=True)
        elif name != "exit":
            from inferd.config.strict import suggest

            click.echo(f"no such command '/{name}', {suggest(name, COMMANDS)}", err=True)
        return name != "exit"

    def _answer(self, question: str) -> None:
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = [*self.messages, {"role": "user", "content": question}]
        said: list[str] = []
        try:
            with closing(self._talker.ask([*system, *asked])) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    said.append(piece)
                    click.echo(_visible(piece), nl=False)
        except InferdError:
            if said:
                click.echo()
            raise
        except KeyboardInterrupt:
            self._keep(asked, said)
            click.echo(" [stopped]")
            raise
        self._keep(asked, said)
        click.echo()

    def _keep(self, asked: list[dict[str, str]], said: list[str]) -> None:
        self.messages = [*asked, {"role": "assistant", "content": "".join(said)}]


@contextlib.contextmanager
def _talker(
    target: str, model: str, api_key: str, sampling: dict[str, Any], engine: dict[str, Any]
) -> Iterator["Talker"]:
    """Who answers, for a folder or an address."""
    from inferd.cli.openai_client import OpenAIServer
    from inferd.cli.talker import FolderTalker, ServerTalker

    if Path(target).is_dir():
        with _bar(target) as progress:
            talker = FolderTalker(Path(target), sampling, engine, progress)
        with talker:
            yield talker
    elif _ADDRESS.fullmatch(target):
        if engine:
            option = min(engine).replace("_", "-")
            raise InferdError(f"--{option} is for a model that is loaded here; tell the server")
        server = OpenAIServer(target, api_key)
        yield ServerTalker(server, server.choose_model(model), sampling)
    else:
        raise InferdError(
            f"'{target}' is neither the folder of a model nor an address; give a folder with a "
            "config.json, or http://HOST:PORT of a server"
        )


@contextlib.contextmanager
def _bar(name: str) -> Iterator["Progress | None"]:
    """A bar for the bytes that are loaded, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from inferd.cli.progress import LoadBar

    with closing(LoadBar(sys.stderr)) as bar:
        yield lambda done, total: bar.update(name, done, total)


def _typed() -> Iterator[str]:
    """Lines from a terminal, with what readline offers, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() uses it once it is there
    prompt = "> " if no_color() else click.style("> ", bold=True)
    while True:
        try:
            yield input(prompt)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\n(Ctrl-D or /exit leaves)")


def _visible(text: str) -> str:
    """The text without what could drive a terminal; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
