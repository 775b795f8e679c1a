import io
import logging
from collections.abc import Iterator

import pytest

from inferd.observability.log_settings import LogSettings
from inferd.observability.logging import configure_logging, log_settings, set_log_settings

ours = logging.getLogger("inferd.test_log_settings")
LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, top = logging.getLogger(), logging.getLogger("inferd")
    handlers, level, settings = list(root.handlers), top.level, log_settings()
    stream = io.StringIO()
    configure_logging("text", "info", stream)
    yield stream
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
    set_log_settings(settings)
    top.setLevel(level)


def logged(stream: io.StringIO, logger: logging.Logger = ours) -> list[str]:
    stream.seek(0)
    stream.truncate()
    for level in LEVELS:
        logger.log(level, "said")
    return [line.split()[1] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("level", "settings", "least"),
    [
        ("debug", LogSettings(True, True, True, 1), logging.DEBUG),
        ("info", LogSettings(True, True, True, 0), logging.INFO),
        ("warning", LogSettings(False, True, True, 0), logging.WARNING),
        ("error", LogSettings(False, False, True, 0), logging.ERROR),
    ],
)
def test_a_level_is_all_from_a_severity_on(level: str, settings: LogSettings, least: int) -> None:
    assert LogSettings.of_level(level) == settings
    assert settings.least == least
    assert [at for at in LEVELS if settings.logs(at)] == [at for at in LEVELS if at >= least]


def test_nothing_on_is_above_every_level() -> None:
    assert LogSettings(False, False, False).least > logging.CRITICAL


def test_each_severity_is_switched_by_itself(stream: io.StringIO) -> None:
    assert logged(stream) == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    set_log_settings(LogSettings(info=False))
    assert logged(stream) == ["WARNING", "ERROR", "CRITICAL"]
    assert not ours.isEnabledFor(logging.INFO)
    set_log_settings(LogSettings(warning=False, verbose_level=2))
    assert logged(stream) == ["DEBUG", "INFO", "ERROR", "CRITICAL"]
    set_log_settings(LogSettings(error=False))
    assert logged(stream) == ["INFO", "WARNING"]


def test_other_libraries_are_heard_as_before(stream: io.StringIO) -> None:
    set_log_settings(LogSettings(False, False, False))
    assert logged(stream) == []
    assert logged(stream, logging.getLogger("inferdlike")) == ["WARNING", "ERROR", "CRITICAL"]


def test_configuring_again_begins_anew(stream: io.StringIO) -> None:
    set_log_settings(LogSettings(error=False))
    configure_logging("text", "warning", stream)
    assert log_settings() == LogSettings.of_level("warning")
    assert logged(stream) == ["WARNING", "ERROR", "CRITICAL"]
