import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from inferd.observability.logging import (
    JsonFormatter,
    TextFormatter,
    configure_logging,
    log_settings,
    set_log_settings,
)

logger = logging.getLogger("inferd.test_logging")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("inferd")
    before, settings = (list(root.handlers), ours.level), log_settings()
    yield io.StringIO()
    for handler in [h for h in root.handlers if h not in before[0]]:
        root.removeHandler(handler)
    set_log_settings(settings)
    ours.setLevel(before[1])


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_text_line_has_time_level_logger_message_and_extras(stream: io.StringIO) -> None:
    configure_logging("text", "info", stream)
    logger.info("loaded %s", "iris", extra={"version": 3, "path": "/a b", "empty": ""})
    time, rest = stream.getvalue().rstrip("\n").split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo is not None
    assert rest == 'INFO inferd.test_logging loaded iris version=3 path="/a b" empty=""'


@pytest.mark.parametrize(
    ("format", "head"),
    [
        ("default", r"E\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ inferd\.test_logging:\d+\]"),
        ("ISO8601", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ E \d+ inferd\.test_logging:\d+\]"),
    ],
)
def test_a_line_may_have_the_head_that_tritons_have(
    format: str, head: str, stream: io.StringIO
) -> None:
    configure_logging(format, "info", stream)
    logger.error("failed", extra={"model": "m"})
    assert re.fullmatch(f"{head} failed model=m\n", stream.getvalue())


def test_a_json_line_is_one_object(stream: io.StringIO) -> None:
    configure_logging("json", "info", stream)
    logger.warning("slow", extra={"seconds": 1.5, "shape": (1, 4), "by": {"a": None}})
    [line] = json_lines(stream)
    assert datetime.fromisoformat(str(line.pop("ts"))).utcoffset() is not None
    assert line == {
        "level": "warning",
        "logger": "inferd.test_logging",
        "message": "slow",
        "seconds": 1.5,
        "shape": [1, 4],
        "by": {"a": None},
    }


def test_an_extra_never_hides_what_every_line_has(stream: io.StringIO) -> None:
    configure_logging("json", "info", stream)
    logger.info("m", extra={"ts": 1, "level": "fake", "logger": "fake"})
    [line] = json_lines(stream)
    assert (line["level"], line["logger"]) == ("info", "inferd.test_logging")
    assert (line["ts_"], line["level_"], line["logger_"]) == (1, "fake", "fake")


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_value_cannot_forge_a_line_or_drive_a_terminal(stream: io.StringIO, format: str) -> None:
    configure_logging(format, "info", stream)
    logger.info("name %s", "x\n2026 ERROR forged\x1b[31m", extra={"model": 'a"\r\nb\u2028c'})
    lines = stream.getvalue().split("\n") if format == "json" else stream.getvalue().splitlines()
    assert len([line for line in lines if line]) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_is_in_the_line_or_indented_under_it(stream: io.StringIO, format: str) -> None:
    configure_logging(format, "info", stream)
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logger.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    if format == "json":
        assert rest == []
        assert str(json.loads(first)["exception"]).endswith("ValueError: bad\nthing")
    else:
        assert "failed" in first
        assert all(line.startswith("    ") for line in rest)
        assert rest[-2:] == ["    ValueError: bad", "    thing"]


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    "value",
    [
        Unprintable(),
        "\ud800",
        10**5000,
        2**70,
        float("nan"),
        b"\xff",
        {("a", 1): Unprintable()},
        {1, 2},
        object,
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_is_too_odd(
    capsys: pytest.CaptureFixture[str], format: str, value: object
) -> None:
    # A logger beside the tree: pytest's own handler at the root does raise on such lines.
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logger = logging.Logger("inferd.odd")
    logger.addHandler(handler)
    logger.info("odd", extra={"value": value, "\ud800": 1})
    logger.info(value)
    circle: list[object] = []
    circle.append(circle)
    logger.info("%d", "not a number", extra={"circle": circle})
    try:
        raise UnprintableError(value)
    except UnprintableError:
        logger.exception("failed")
    stream.getvalue().encode()
    assert capsys.readouterr().err == ""  # where logging reports its own failures
    heads = [line for line in stream.getvalue().splitlines() if not line.startswith("    ")]
    assert len(heads) == 4
    if format == "json":
        assert len(json_lines(stream)) == 4


def test_level_is_for_our_loggers_and_others_are_heard_from_warning(stream: io.StringIO) -> None:
    configure_logging("json", "debug", stream)
    logger.debug("ours")
    logging.getLogger("library").info("too quiet")
    logging.getLogger("library").warning("heard")
    configure_logging("json", "error", stream)
    logger.warning("too quiet")
    logger.error("once")
    assert [line["message"] for line in json_lines(stream)] == ["ours", "heard", "once"]
