"""The extra `llm`: what to say when one of its packages is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from inferd.errors import ConfigError


@contextmanager
def needs_extra(package: str) -> Iterator[None]:
    """Turn a failed import into a ConfigError that says how to install the package."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"language models need the package {package}, which is not installed ({error}); "
            "install it with: pip install 'inferd[llm]'"
        ) from error
