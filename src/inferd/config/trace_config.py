"""What --trace-config says, in Triton's words: where traces go, and the settings that are in force
at start in the names that the trace extension has for them. Pure; it refuses to know their values.
"""

from collections.abc import Iterable
from typing import NamedTuple

from inferd.config.strict import suggest
from inferd.errors import ConfigError

SETTINGS = {
    "level": "trace_level", "rate": "trace_rate", "count": "trace_count", "mode": "trace_mode",
}  # fmt: skip
"""Settings of every mode, to the extension's names."""

TRITON_SETTINGS = {"file": "", "log-frequency": "log_frequency"}

_LEVELS = {
    **dict.fromkeys(("off", "false"), "OFF"),
    **dict.fromkeys(("timestamps", "true", "on", "min", "max"), "TIMESTAMPS"),
    "tensors": "TENSORS",
}
"""Words that tritonserver takes for levels, to the extension's."""

_FIELD = "trace_config"


class TraceConfig(NamedTuple):
    """The file, empty for none, and settings, each a list of values; `ignored` is what was said in
    vain: `setting: why`."""

    file: str
    settings: dict[str, list[str]]
    ignored: tuple[str, ...]


def read_trace_config(entries: Iterable[str]) -> TraceConfig:
    """From `MODE,SETTING=VALUE`, or `SETTING=VALUE` for every mode; raises ConfigError."""
    file, settings, ignored = "", dict[str, list[str]](), list[str]()
    for entry in entries:
        name, equals, value = entry.partition("=")
        mode, comma, setting = name.partition(",")
        known = TRITON_SETTINGS if comma else SETTINGS
        setting = setting if comma else mode
        if not equals:
            raise ConfigError(f"'{entry}': expected SETTING=VALUE or triton,SETTING=VALUE",
                              field=_FIELD)  # fmt: skip
        if comma and mode == "opentelemetry":
            ignored.append(f"{entry}: traces are written to a file, not exported")
        elif comma and mode != "triton":
            raise ConfigError(f"'{entry}': unknown mode, {suggest(mode, ('triton',))}",
                              field=_FIELD)  # fmt: skip
        elif setting not in known:
            raise ConfigError(f"'{entry}': unknown setting, {suggest(setting, known)}",
                              field=_FIELD)  # fmt: skip
        elif setting == "file":
            file = value
        else:
            settings.setdefault(known[setting], []).append(_as_extension(setting, value))
    if settings.get("trace_mode") == ["opentelemetry"]:
        ignored.append("mode=opentelemetry: nothing is traced; traces are written to a file only")
        settings = {}
    return TraceConfig(file, settings, tuple(ignored))


def _as_extension(setting: str, value: str) -> str:
    if setting == "level":
        return _LEVELS.get(value.lower(), value)
    return value.lower() if setting == "mode" else value
