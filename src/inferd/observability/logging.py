"""The log: where its lines go and what they look like, for people (text) or for machines (JSON).

A module logs with `logging.getLogger("inferd.<room>")` and passes what belongs to the line as
`extra={...}`. A formatter never raises and never lets a value start a line of its own, whatever the
caller logged. This module refuses to know what is logged.
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from inferd.observability.log_settings import LOGGER_NAME, LogSettings, SeverityFilter

# What every record has; the rest of a record is what the caller gave as `extra`.
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message", "asctime", "taskName",
}  # fmt: skip

# One for the process, as its loggers are.
_severities: Final = SeverityFilter()

# Control characters become visible, so that no value forges a line or drives a terminal.
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def configure_logging(format: str, level: str | LogSettings, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (standard error) as `text` or `json`, or with the heads of Triton's
    lines as `default` or `ISO8601`; call it again to change it.

    `level` is for inferd's own loggers; other libraries are heard from warnings on, same form.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter(_HEADS[format]))
    handler.addFilter(_severities)
    root.addHandler(handler)
    set_log_settings(level if isinstance(level, LogSettings) else LogSettings.of_level(level))


def log_settings() -> LogSettings:
    """What is logged now."""
    return _severities.settings


def set_log_settings(settings: LogSettings) -> None:
    """Switch severities of inferd's own loggers. A process of a worker's or an engine's that runs
    goes on sending what it was started to send, of which no more is logged than is switched on."""
    _severities.settings = settings
    logging.getLogger(LOGGER_NAME).setLevel(settings.least)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO inferd.server message key=value`, then a traceback if any.
    What comes before the message is `head`'s."""

    def __init__(self, head: Callable[[logging.LogRecord], str] | None = None) -> None:
        super().__init__()
        self._head = head or _own_head

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self._head(record)} {_message(record)}"
        pairs = [f"{key}={_quoted(value)}" for key, value in _extras(record).items()]
        # A traceback is indented: no line of it can pass for a line of the log.
        trace = [f"    {line}" for line in _exception(self, record).splitlines()]
        line = " ".join([head, *pairs])
        return _clean("\n".join(part.translate(_ESCAPES) for part in [line, *trace]))


class JsonFormatter(logging.Formatter):
    """One object a line: ts (ISO 8601, UTC), level, logger, message, the extras, exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if trace := _exception(self, record):
            line["exception"] = trace
        for key, value in _extras(record).items():
            line[f"{key}_" if key in line else key] = value
        try:
            return orjson.dumps(line, default=_text, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # Some value has no JSON (a huge number, half a surrogate pair, a circle): all as text.
            plain = {_clean(key): _clean(_text(value)) for key, value in line.items()}
            return orjson.dumps(plain).decode()


class _Handler(logging.StreamHandler[TextIO]):
    """Its own class so that a second `configure_logging` finds the handler of the first."""


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _own_head(record: logging.LogRecord) -> str:
    return f"{_timestamp(record)} {record.levelname} {record.name}"


def _triton_head(record: logging.LogRecord) -> str:
    """`I0131 12:00:00.000000 4711 inferd.server:75]`, in local time, as glog writes it."""
    moment = datetime.fromtimestamp(record.created)
    severity = f"{record.levelname[:1]}{moment:%m%d %H:%M:%S.%f}"
    return f"{severity} {record.process} {record.name}:{record.lineno}]"


def _iso8601_head(record: logging.LogRecord) -> str:
    """`2026-01-31T12:00:00Z I 4711 inferd.server:75]`, in UTC."""
    moment = datetime.fromtimestamp(record.created, UTC)
    severity = f"{moment:%Y-%m-%dT%H:%M:%SZ} {record.levelname[:1]}"
    return f"{severity} {record.process} {record.name}:{record.lineno}]"


_HEADS: Final = {"text": _own_head, "default": _triton_head, "ISO8601": _iso8601_head}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit the text: show both
        return f"{_text(record.msg)} {_text(record.args)}"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {str(key): value for key, value in record.__dict__.items() if key not in _STANDARD}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    trace = ""
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        try:
            trace = formatter.formatException(record.exc_info)
        except Exception:  # an exception can have a `__str__` that raises
            trace = record.exc_info[0].__name__
    return "\n".join(part for part in (trace, record.stack_info) if part)


def _quoted(value: object) -> str:
    """A value after `key=`: bare where it can be told apart from what follows, else in quotes."""
    text = _text(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(value: object) -> str:
    """`str(value)` of any value at all: a log line must never be the error."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _clean(text: str) -> str:
    """The text without what UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
