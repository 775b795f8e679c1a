import pytest

from protocols.http2.fuzz import run


@pytest.mark.parametrize("hundred", range(5))
def test_conversations_that_are_damaged(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        run(seed)
