"""The log of a process, written by its server, which knows where it goes and what it looks like."""

import logging
import traceback
from collections.abc import Callable

import msgspec

from inferd.processes.frames import crossing


class Logged(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A line of the log of another process."""

    logger: str
    level: int
    message: str
    trace: str


class LogSender(logging.Handler):
    """Sends lines to the server."""

    def __init__(self, send: Callable[[Logged], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            message = crossing(record.getMessage())
            self._send(Logged(record.name, record.levelno, message, crossing(trace.rstrip())))
        except Exception:  # a log line must never be the error
            self.handleError(record)


def write_log(line: Logged) -> None:
    """Write a line that was sent."""
    fields = {
        "name": line.logger, "levelno": line.level, "levelname": logging.getLevelName(line.level),
        "msg": line.message, "stack_info": line.trace or None,
    }  # fmt: skip
    logging.getLogger(line.logger).handle(logging.makeLogRecord(fields))
