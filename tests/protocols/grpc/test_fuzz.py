import logging
from collections.abc import Iterator

import pytest

from protocols.grpc.fuzz import ERRORS, run


@pytest.fixture
def errors() -> Iterator[None]:
    """Faults that are logged fail the test."""
    loggers = [logging.getLogger(name) for name in ("inferd", "asyncio")]
    for logger in loggers:
        logger.addHandler(ERRORS)
    yield
    for logger in loggers:
        logger.removeHandler(ERRORS)
    ERRORS.found.clear()


@pytest.mark.parametrize("hundred", range(3))
def test_messages_and_frames_that_are_damaged(errors: None, hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        run(seed)
