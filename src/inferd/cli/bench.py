"""`inferd bench`: put load on a running server and say what its clients would have seen.

It decides what to send and prints what came of it; the load itself is in `traffic/`.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferd.cli.group import Group
from inferd.cli.table import print_table
from inferd.errors import InferdError

if TYPE_CHECKING:  # none of it is needed for --help
    from inferd.cli.openai_client import OpenAIServer
    from inferd.cli.traffic.prompts import Prompt
    from inferd.cli.traffic.run import Told
    from inferd.cli.traffic.trace import Trace

COUNT = click.IntRange(min=1)
NATURAL = click.IntRange(min=0)
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.group(cls=Group)
def bench() -> None:
    """Measure a running server."""


@bench.command(
    short_help="Load the language model at URL.", context_settings={"show_default": True}
)
@click.argument("url")
@click.option("--model", default="", help="Which model; needed where the server has several.")
@click.option(
    "--concurrency",
    type=COUNT,
    metavar="N",
    help="Closed loop: N clients, each asks again when it is answered.  [default: 8]",
)
@click.option(
    "--rate",
    type=POSITIVE,
    metavar="R",
    help="Open loop: R requests a second on average, answered or not.",
)
@click.option("--requests", type=COUNT, default=64, help="How many to send.")
@click.option("--warmup", type=NATURAL, default=2, help="How many to send first and not to count.")
@click.option("--input-len", type=COUNT, default=128, help="Tokens of a prompt.")
@click.option(
    "--shared-len",
    type=NATURAL,
    default=0,
    help="How many of them, the first, all prompts have in common.",
)
@click.option(
    "--output-len",
    type=COUNT,
    default=64,
    help="Tokens of an answer, whatever the model says (ignore_eos).",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take prompts from FILE, one a line, as text or JSON.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How tokens are chosen; 0 is greedy.",
)
@click.option("--seed", default=0, help="Makes prompts and arrivals; the same seed, the same load.")
@click.option(
    "--timeout",
    "timeout_s",
    type=POSITIVE,
    default=600.0,
    help="Seconds after which a request has failed.",
)
@click.option("--api-key", envvar="INFERD_API_KEY", show_envvar=True, help="A bearer token.")
@click.option(
    "--json",
    "json_file",
    type=click.File("w", lazy=True),
    metavar="FILE",
    help="Write the figures to FILE as well; - is standard output, and no table.",
)
@click.pass_context
def llm(
    context: click.Context, /, url: str, api_key: str | None, json_file: Any, **options: Any
) -> None:
    """Load the language model at URL through /v1/completions, streaming, and print what a client
    sees: time to the first token, between tokens, to the end, and how much gets done.

    Nothing is sent twice: a request that fails is counted, and the exit status is 1.
    """
    from inferd.cli.openai_client import OpenAIServer
    from inferd.cli.traffic.report import TIME_HEADER, summarize, time_rows, total_rows

    if options["rate"] and options["concurrency"]:
        raise click.UsageError("--rate is an open loop and --concurrency a closed one; give one")
    if not options["rate"]:
        options["concurrency"] = options["concurrency"] or 8
    server = OpenAIServer(url, api_key or "")
    options["model"] = server.choose_model(options["model"])
    prompts = _prompts(server, options)
    figures = {
        "url": url,
        "settings": {key: _plain(value) for key, value in options.items()},
        **summarize(_send(server, prompts, options)),
    }
    if json_file is not None:
        json_file.write(json.dumps(figures, indent=2) + "\n")
    if json_file is None or json_file.name != "-":
        print_table(("what", "figure"), total_rows(figures))
        if figures["requests"]["completed"]:
            print_table(TIME_HEADER, time_rows(figures))
    for error, count in figures["errors"].items():
        click.echo(f"{count} failed: {error}", err=True)
    context.exit(1 if figures["errors"] else 0)


def _prompts(server: "OpenAIServer", options: dict[str, Any]) -> "list[Prompt]":
    """Those of the warm-up first."""
    from inferd.cli.traffic import prompts

    count = options["warmup"] + options["requests"]
    if options["prompts"] is not None:
        return prompts.of_file(options["prompts"], count)
    length, shared, seed = options["input_len"], options["shared_len"], options["seed"]
    try:
        body = {"model": options["model"], "prompt": prompts.SAMPLE, "add_special_tokens": False}
        known = server.call("POST", "/tokenize", body)["tokens"]
    except (InferdError, LookupError, TypeError):
        click.echo("the server has no /tokenize: a prompt is as many words, not tokens", err=True)
        return prompts.of_words(count, length, shared, seed)
    return prompts.of_tokens(known, count, length, shared, seed)


def _body(options: dict[str, Any], prompt: "Prompt") -> bytes:
    return json.dumps(
        {
            "model": options["model"],
            "prompt": prompt,
            "max_tokens": options["output_len"],
            "ignore_eos": True,
            "temperature": options["temperature"],
            "seed": options["seed"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


def _send(
    server: "OpenAIServer", prompts: Sequence["Prompt"], options: dict[str, Any]
) -> "list[Trace]":
    """Warm up, then the load, with a bar on a terminal."""
    import asyncio

    import uvloop

    from inferd.cli.traffic.connection import Target
    from inferd.cli.traffic.run import Load

    bodies = [_body(options, prompt) for prompt in prompts]
    warmup = options["warmup"]
    target = Target(server.url, f"{server.base}/v1/completions", server.headers)

    async def run(told: "Told | None") -> "list[Trace]":
        load = Load(target, options["timeout_s"], told)
        try:
            await load.closed(bodies[:warmup], options["concurrency"] or 1)
            if options["rate"]:
                return await load.open(bodies[warmup:], options["rate"], options["seed"])
            return await load.closed(bodies[warmup:], options["concurrency"])
        finally:
            await load.close()

    loop_factory = uvloop.new_event_loop
    with _bar(len(bodies)) as told, asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run(told))


@contextlib.contextmanager
def _bar(total: int) -> Iterator["Told | None"]:
    """A bar for the requests that have ended, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn())
    # A few times a second: the bar takes its time from the cores that are being measured.
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task("", total=total)
        yield lambda trace: progress.advance(task)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
