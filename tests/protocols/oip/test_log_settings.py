from typing import Any

import pytest

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.observability.log_settings import LogSettings
from inferd.protocols.oip.log_settings import changed_log_settings, log_settings


def test_all_settings_in_force_are_told() -> None:
    assert log_settings(LogSettings(warning=False, verbose_level=3)) == {
        "log_file": "",
        "log_info": True,
        "log_warning": False,
        "log_error": True,
        "log_verbose_level": 3,
        "log_format": "ISO8601",
    }


def test_how_and_where_it_was_started_to_log_is_told_and_can_be_sent_back() -> None:
    now = LogSettings(format="default", file="/var/log/x")
    told = log_settings(now)
    assert (told["log_format"], told["log_file"]) == ("default", "/var/log/x")
    assert changed_log_settings(now, told) == now
    with pytest.raises(Unsupported, match="start the server with --log-format ISO8601"):
        changed_log_settings(now, {"log_format": "ISO8601"})


def test_what_is_not_named_stays() -> None:
    now = LogSettings(info=False, verbose_level=1)
    assert changed_log_settings(now, {}) == now
    wire = {"log_error": False, "log_verbose_level": 0}
    assert changed_log_settings(now, wire) == LogSettings(info=False, error=False)


def test_what_has_no_value_stays() -> None:
    now = LogSettings(info=False, verbose_level=1)
    assert changed_log_settings(now, {"log_info": None, "log_verbose_level": None}) == now


def test_what_was_told_can_be_sent_back() -> None:
    now = LogSettings(info=False, verbose_level=7)
    assert changed_log_settings(LogSettings(), log_settings(now)) == now


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"),
    [
        ("log_infos", True, InvalidRequest, "'log_infos' is unknown; there are: log_file, log_in"),
        ("log_info", 1, InvalidRequest, "'log_info' takes true or false"),
        ("log_verbose_level", True, InvalidRequest, "'log_verbose_level' takes a whole number"),
        ("log_verbose_level", -1, InvalidRequest, "from 0 to 4294967295"),
        ("log_verbose_level", 2**32, InvalidRequest, "from 0 to 4294967295"),
        ("log_verbose_level", "1", InvalidRequest, "'log_verbose_level' takes a whole number"),
        ("log_format", "default", Unsupported, "'log_format' cannot be 'default'"),
        ("log_format", "xml", InvalidRequest, "'log_format' takes 'ISO8601'"),
        ("log_file", "/tmp/x", InvalidRequest, "'log_file' cannot be changed"),
    ],
)
def test_what_is_wrong_is_named_with_what_it_takes(
    name: str, value: Any, kind: type[InferdError], words: str
) -> None:
    with pytest.raises(kind) as error:
        changed_log_settings(LogSettings(), {name: value})
    assert words in str(error.value)
