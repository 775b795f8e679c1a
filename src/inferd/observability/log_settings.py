"""Which severities of inferd's own lines are logged: each can be switched by itself, as Triton's.

It refuses to know where lines go and what they look like (`logging.py`).
"""

import logging
from typing import Final

import msgspec

LOGGER_NAME: Final = "inferd"


class LogSettings(msgspec.Struct, frozen=True):
    """What is switched on; a verbose level above 0 has lines for debugging logged as well. `format`
    and `file`, empty for standard error, are those that the log was started with."""

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose_level: int = 0
    format: str = "ISO8601"
    file: str = ""

    @classmethod
    def of_level(cls, level: str) -> "LogSettings":
        """All from a severity on."""
        least = logging.getLevelNamesMapping()[level.upper()]
        return cls(
            least <= logging.INFO, least <= logging.WARNING, True, int(least <= logging.DEBUG)
        )

    def logs(self, level: int) -> bool:
        """Whether lines of a level are logged."""
        if level < logging.INFO:
            return self.verbose_level > 0
        if level < logging.WARNING:
            return self.info
        return self.warning if level < logging.ERROR else self.error

    @property
    def least(self) -> int:
        """The lowest level that is logged; above all of them when none is."""
        levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        return next((level for level in levels if self.logs(level)), logging.CRITICAL + 1)


class SeverityFilter(logging.Filter):
    """Holds back what is switched off; a handler's, since loggers ask no filter but their own."""

    def __init__(self) -> None:
        super().__init__(LOGGER_NAME)
        self.settings = LogSettings()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged; other libraries' always are."""
        return self.settings.logs(record.levelno) if super().filter(record) else True
