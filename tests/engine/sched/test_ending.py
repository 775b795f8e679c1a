import pytest

from engine.sched.sequences import make
from inferd.engine.sched.ending import Ending, find_ending

EOS = frozenset({50, 51})


@pytest.mark.parametrize(
    ("params", "output", "ending"),
    [
        ({}, [1], None),
        ({}, [50], ("stop", None)),
        ({}, [51], ("stop", None)),
        ({"ignore_eos": True}, [50], None),
        ({"ignore_eos": True, "stop_token_ids": (50,)}, [50], ("stop", 50)),
        ({"stop_token_ids": (4, 5)}, [5], ("stop", 5)),
        ({"min_tokens": 2}, [50], None),
        ({"min_tokens": 2, "stop_token_ids": (5,)}, [5], None),
        ({"min_tokens": 2}, [1, 50], ("stop", None)),
        ({"max_tokens": 2}, [1], None),
        ({"max_tokens": 2}, [1, 1], ("length", None)),
        ({"max_tokens": 1}, [50], ("stop", None)),
        ({"max_tokens": 2, "min_tokens": 9}, [1, 1], ("length", None)),
        ({"max_tokens": 0}, [], ("length", None)),
        ({"max_tokens": 0, "stop_token_ids": (3,)}, [], ("length", None)),
        ({}, [1] * 7, ("length", None)),
        ({"ignore_eos": True}, [1] * 6, None),
    ],
)
def test_ending(params: dict[str, object], output: list[int], ending: Ending | None) -> None:
    sequence = make([1, 2, 3], **params)
    sequence.tokens += output
    assert find_ending(sequence, EOS, max_tokens=10) == ending
