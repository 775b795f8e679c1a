import importlib

import pytest

from inferd.engine.text.extra import needs_extra
from inferd.errors import ConfigError


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'inferd\[llm\]'"), needs_extra("nothing"):
        importlib.import_module("no_such_package_anywhere")


def test_a_package_that_is_there() -> None:
    with needs_extra("json"):
        importlib.import_module("json")
