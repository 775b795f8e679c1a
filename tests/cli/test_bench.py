import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripted_server import MODELS, ScriptedServer, events, reply, scripted

from e2e.harness import RunningServer
from inferd.cli.main import inferd as command
from inferd.cli.traffic import prompts
from inferd.cli.traffic.connection import Target
from inferd.cli.traffic.report import percentile, spread, summarize, time_rows, total_rows
from inferd.cli.traffic.run import Load
from inferd.cli.traffic.trace import Trace
from inferd.errors import InferdError

TOKEN = b'{"choices": [{"index": 0, "text": "a", "finish_reason": null}], "usage": null}'
USAGE = (
    b'{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, '
    b'"prompt_tokens_details": {"cached_tokens": 4}}}'
)
GOOD = events(TOKEN, TOKEN, USAGE, b"[DONE]")


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["bench", "llm", *map(str, arguments)])


def send(server: ScriptedServer, timeout_s: float = 20.0, count: int = 1) -> list[Trace]:
    """What a load of `count` requests sees of a scripted server."""

    async def run() -> list[Trace]:
        load = Load(Target(server.url, "/v1/completions", {}), timeout_s)
        try:
            return await load.closed([b"{}"] * count, 1)
        finally:
            await load.close()

    return asyncio.run(run())


# -- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 99, 5.0), ([1.0, 2.0], 50, 1.5), ([1.0, 2.0, 3.0, 4.0, 5.0], 90, 4.6)],
)
def test_a_percentile_lies_between_two_values(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_a_spread_of_nothing_is_nothing() -> None:
    assert spread([]) == {}
    assert spread([2.0, 1.0]) == {"mean": 1.5, "p50": 1.5, "p90": 1.9, "p99": 1.99, "max": 2.0}


def test_figures_are_of_what_succeeded_and_begin_when_a_request_was_due() -> None:
    good = Trace(
        due_s=1.0, first_s=1.5, last_s=2.5, end_s=3.0, gaps_s=[0.25, 0.75], events=3,
        prompt_tokens=10, cached_tokens=4, output_tokens=5,
    )  # fmt: skip
    uncounted = Trace(due_s=2.0, first_s=4.0, last_s=4.0, end_s=5.0, events=1)
    figures = summarize([good, uncounted, Trace(due_s=2.0, end_s=9.0, error="no")])
    assert figures["duration_s"] == 4.0
    assert figures["requests"] == {"completed": 2, "failed": 1}
    assert figures["errors"] == {"no": 1}
    assert figures["tokens"] == {"prompt": 10, "cached": 4, "output": 6}
    assert figures["output_tokens_per_s"] == 1.5
    assert figures["total_tokens_per_s"] == 4.0
    assert [figures["ttft_ms"]["p50"], figures["ttft_ms"]["max"]] == [1250.0, 2000.0]
    assert figures["itl_ms"]["mean"] == 500.0
    assert figures["tpot_ms"]["mean"] == 250.0  # 1 s for the 4 tokens after the first
    assert figures["e2e_ms"]["mean"] == 2500.0
    assert [row[0] for row in time_rows(figures)] == [
        "first token", "between tokens", "a token after the first", "whole answer",
    ]  # fmt: skip
    assert total_rows(figures)[0] == ["requests", "2 in 4.00 s, 1 failed"]
    assert total_rows(figures)[2] == ["prompt tokens", "10, 4 of them cached"]


def test_figures_of_nothing_are_zero() -> None:
    figures = summarize([Trace(due_s=1.0, end_s=2.0, error="no")])
    assert (figures["duration_s"], figures["requests_per_s"], time_rows(figures)) == (0.0, 0.0, [])


# -- prompts -----------------------------------------------------------------------------------


def test_prompts_have_their_length_share_a_prefix_and_depend_on_the_seed_alone() -> None:
    made = prompts.of_tokens(range(100, 200), 20, 16, 6, seed=1)
    assert made == prompts.of_tokens(range(100, 200), 20, 16, 6, seed=1)
    assert made != prompts.of_tokens(range(100, 200), 20, 16, 6, seed=2)
    assert {len(prompt) for prompt in made} == {16}
    assert len({tuple(prompt[:6]) for prompt in made}) == 1
    assert len({tuple(prompt[6:]) for prompt in made}) == 20
    assert len(str(prompts.of_words(1, 12)[0]).split()) == 12
    assert prompts.of_tokens([1], 1, 3, 9) == [[1, 1, 1]]


def test_prompts_of_a_file_are_text_or_json_and_begin_again(tmp_path: Path) -> None:
    file = tmp_path / "prompts"
    file.write_text('plain text\n\n"in \\"JSON\\""\n{"prompt": "object", "id": 3}\n')
    assert prompts.of_file(file, 4) == ["plain text", 'in "JSON"', "object", "plain text"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "has no prompts; write one a line"),
        ("fine\n{oops\n", "prompts:2: not JSON"),
        ('{"text": 1}\n', "prompts:1: has no text"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_of_prompts_is_told_by_its_line(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "prompts"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InferdError, match=message):
        prompts.of_file(file, 1)


# -- one connection ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        events(TOKEN, TOKEN, USAGE, b"[DONE]", end=b"\r\n\r\n"),
        reply(b": ping\n\n" + GOOD.partition(b"\r\n\r\n")[2]),
        b"HTTP/1.1 200 OK\r\n\r\n" + GOOD.partition(b"\r\n\r\n")[2],  # until the connection ends
    ],
    ids=["plain", "CRLF", "comment", "no length"],
)
def test_events_are_counted_and_usage_is_read(answer: bytes) -> None:
    with scripted({"/v1/completions": answer}) as server:
        [trace] = send(server)
    assert trace.error == ""
    assert (trace.events, len(trace.gaps_s)) == (2, 1)
    assert (trace.prompt_tokens, trace.cached_tokens, trace.tokens) == (7, 4, 5)
    assert trace.due_s < trace.first_s <= trace.last_s <= trace.end_s


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(b'{"error": {"message": "queue full"}}', "429 Too Many"), "status 429: queue full"),
        (reply(b"oops", "500 Oops"), "status 500: oops"),
        (events(TOKEN, b'{"error": {"message": "it ended"}}', b"[DONE]"), "it ended"),
        (events(USAGE, b"[DONE]"), "the answer had no tokens"),
        (GOOD[:-20], "the connection was closed before the answer was whole"),
        (b"SSH-2.0\r\n", "the answer is not HTTP"),
    ],
)
def test_what_goes_wrong_is_said(answer: bytes, error: str) -> None:
    with scripted({"/v1/completions": answer}) as server:
        traces = send(server, count=2)  # the next one gets a connection of its own
    assert [trace.error.startswith(error) for trace in traces] == [True, True], traces


def test_a_server_that_is_gone_fails_each_request() -> None:
    with scripted({}) as server:
        pass
    [trace] = send(server)
    assert trace.error.startswith("cannot connect")


def test_an_answer_that_takes_too_long_has_failed() -> None:
    never = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(never)
        await reader.read()  # until the client has left
        writer.close()

    async def run() -> list[Trace]:
        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            load = Load(Target(f"127.0.0.1:{port}", "/", {}), 0.05)
            traces = await load.closed([b"{}"], 1)
            await load.close()
            return traces

    [trace] = asyncio.run(run())
    assert trace.error == "no whole answer within 0.05 s"


# -- the command -------------------------------------------------------------------------------


def test_closed_loop_against_a_server(llm_server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    load = ("--requests", "6", "--concurrency", "3", "--input-len", "40", "--output-len", "9")
    result = bench(llm_server.url, *load, "--json", file)
    assert result.exit_code == 0, result.output
    assert "requests         6 in " in result.stdout
    assert "first token " in result.stdout
    figures = json.loads(file.read_text())
    assert figures["tokens"]["prompt"] == 6 * 40
    assert figures["tokens"]["output"] == 6 * 9
    assert figures["settings"]["concurrency"] == 3
    assert 0 < figures["ttft_ms"]["p50"] <= figures["e2e_ms"]["p50"]


def test_open_loop_with_a_shared_prefix(llm_server: RunningServer) -> None:
    load = ("--requests", "8", "--rate", "200", "--input-len", "80", "--shared-len", "64")
    result = bench(llm_server.url, *load, "--output-len", "4", "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["requests"] == {"completed": 8, "failed": 0}
    assert figures["tokens"]["cached"] == 8 * 64


def test_prompts_from_a_file(llm_server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "prompts"
    file.write_text("one two three\n")
    result = bench(llm_server.url, "--prompts", file, "--requests", "2", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tokens"]["output"] == 2 * 64


def test_requests_that_fail_are_counted_and_the_status_says_so(llm_server: RunningServer) -> None:
    result = bench(llm_server.url, "--requests", "3", "--input-len", "5000")
    assert result.exit_code == 1
    assert "3 failed: status 400: This model's maximum context length is" in result.stderr


def test_a_server_without_tokenize_gets_words() -> None:
    with scripted({"/v1/models": MODELS, "/v1/completions": GOOD}) as server:
        result = bench(server.url, "--requests", "1", "--warmup", "0", "--input-len", "5")
    assert result.exit_code == 0, result.output
    assert "no /tokenize" in result.stderr
    body = json.loads(server.asked[-1][2])
    assert len(body.pop("prompt").split()) == 5
    assert body == {
        "model": "m", "max_tokens": 64, "ignore_eos": True, "temperature": 0.0, "seed": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1:1"], "no server answers at 127.0.0.1:1; start one with: inferd serve MODEL"),
        (["127.0.0.1:1", "--rate", "1", "--concurrency", "1"], "give one"),
        (["ftp://x"], "write http://HOST:PORT"),
    ],
)
def test_an_error_says_what_to_do(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
