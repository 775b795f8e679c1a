"""The server's log, under the model's name."""

import logging
from enum import IntEnum
from typing import ClassVar, Final


class LogLevel(IntEnum):
    """Triton's severities."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


_LEVELS: Final = {
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.VERBOSE: logging.DEBUG,
}


class Logger:
    """pb_utils.Logger: all of it belongs to the class."""

    LogLevel: ClassVar = LogLevel
    INFO: ClassVar = LogLevel.INFO
    WARNING: ClassVar = LogLevel.WARNING
    ERROR: ClassVar = LogLevel.ERROR
    VERBOSE: ClassVar = LogLevel.VERBOSE

    log_to: ClassVar[logging.Logger] = logging.getLogger("inferd.model")

    @classmethod
    def log(cls, message: str, level: int = LogLevel.INFO) -> None:
        """Log at a level."""
        cls.log_to.log(_LEVELS[LogLevel(level)], "%s", message)

    @classmethod
    def log_info(cls, message: str) -> None:
        """Log what is worth knowing."""
        cls.log(message, LogLevel.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        """Log what may be wrong."""
        cls.log(message, LogLevel.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        """Log what is wrong."""
        cls.log(message, LogLevel.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        """Log what only who looks for a fault wants to see."""
        cls.log(message, LogLevel.VERBOSE)
