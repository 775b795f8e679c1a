from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from inferd.backends.registry import BACKENDS, EXTRAS, create_backend
from inferd.errors import ConfigError
from inferd.repository.formats import PLATFORMS, filenames, is_folder_backend


@contextmanager
def backend(name: str, target: str, extra: str = "") -> Iterator[None]:
    """A further backend in the table."""
    BACKENDS[name] = target
    if extra:
        EXTRAS[name] = extra
    try:
        yield
    finally:
        del BACKENDS[name]
        EXTRAS.pop(name, None)


FOLDERS = {"transformers"}
"""Their models are whole folders, which have no name of their own in a repository."""


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - FOLDERS))
def test_a_backend_says_what_it_is_and_the_repository_knows_it(name: str) -> None:
    made = create_backend(name)
    assert made.name == name
    assert filenames(name) or is_folder_backend(name)
    assert PLATFORMS[made.platform] == name
    assert EXTRAS.get(name, name)


def test_an_unknown_backend_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'tensorrt'; known are:") as caught:
        create_backend("tensorrt")
    assert caught.value.field == "backend"
    assert "onnxruntime" in str(caught.value)


@pytest.mark.parametrize(("extra", "told"), [("later-cpu", "later-cpu"), ("", "later")])
def test_a_framework_that_is_not_installed_names_the_line_that_installs_it(
    extra: str, told: str
) -> None:
    with backend("later", "inferd_has_no_such_module:Backend", extra):  # noqa: SIM117
        with pytest.raises(ConfigError) as caught:
            create_backend("later")
    assert f"pip install 'inferd[{told}]'" in str(caught.value)
    assert "inferd_has_no_such_module" in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)
