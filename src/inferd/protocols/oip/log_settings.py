"""Log settings in the words of Triton's logging extension. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from inferd.errors import InvalidRequest, Unsupported
from inferd.observability.log_settings import LogSettings

LOG_FORMATS = ("default", "ISO8601")
"""Triton's; inferd's own, text and JSON, have times of ISO 8601, too."""

MAX_VERBOSE_LEVEL = 2**32 - 1

SEVERITIES = {"log_info": "info", "log_warning": "warning", "log_error": "error"}


def log_settings(settings: LogSettings) -> dict[str, bool | int | str]:
    """Every setting in force."""
    return {
        "log_file": settings.file,
        **{name: getattr(settings, field) for name, field in SEVERITIES.items()},
        "log_verbose_level": settings.verbose_level,
        "log_format": settings.format,
    }


def changed_log_settings(settings: LogSettings, wire: Mapping[str, Any]) -> LogSettings:
    """The settings with what a client wants changed; raises InvalidRequest, Unsupported."""
    changes: dict[str, bool | int] = {}
    for name, value in wire.items():
        if value is None:  # it stays, as in Triton
            continue
        if name in SEVERITIES:
            if not isinstance(value, bool):
                raise InvalidRequest(f"log setting '{name}' takes true or false")
            changes[SEVERITIES[name]] = value
        elif name == "log_verbose_level":
            if type(value) is not int or not 0 <= value <= MAX_VERBOSE_LEVEL:
                raise InvalidRequest(
                    f"log setting '{name}' takes a whole number from 0 to {MAX_VERBOSE_LEVEL}"
                )
            changes["verbose_level"] = value
        elif name == "log_format":
            _check_format(value, settings.format)
        elif name == "log_file":
            if value != settings.file:
                raise InvalidRequest(
                    "log setting 'log_file' cannot be changed; start the server with --log-file"
                )
        else:
            known = ", ".join(log_settings(settings))
            raise InvalidRequest(f"log setting '{name}' is unknown; there are: {known}")
    return msgspec.structs.replace(settings, **changes)


def _check_format(value: Any, now: str) -> None:
    if value not in LOG_FORMATS:
        raise InvalidRequest(f"log setting 'log_format' takes '{now}'")
    if value != now:
        raise Unsupported(
            f"log setting 'log_format' cannot be '{value}': the log was started with '{now}'; "
            f"start the server with --log-format {value}"
        )
