import numpy as np

from inferd.types.tensor import Array
from inferd.workers.culprits import MAX_KNOWN, Culprits


def request(number: int) -> list[Array]:
    return [np.full((2, 3), number, np.float32)]


def test_a_request_that_ended_two_workers_alone_is_condemned() -> None:
    culprits = Culprits()
    assert not culprits.condemned("predict", request(1))
    assert not culprits.accuse("predict", request(1))
    assert not culprits.condemned("predict", request(1))
    assert culprits.accuse("predict", request(1))
    assert culprits.condemned("predict", request(1))
    assert not culprits.condemned("explain", request(1))
    assert not culprits.condemned("predict", request(2))


def test_a_suspect_that_does_it_again_alone_is_condemned_and_another_is_not() -> None:
    culprits = Culprits()
    for number in range(3):
        culprits.suspect("predict", request(number))
    culprits.acquit("predict", request(0))
    assert culprits.accuse("predict", request(1))
    assert not culprits.accuse("predict", request(0))
    assert culprits.condemned("predict", request(1))
    assert not culprits.condemned("predict", request(2))


def test_what_is_told_apart() -> None:
    texts = np.array([b"ab", b"c"], object)
    alike: list[list[Array]] = [
        [texts], [np.array([b"a", b"bc"], object)], [texts.reshape(2, 1)],
        [np.zeros(2, np.float32)], [np.zeros(2, np.int32)], [np.zeros((2, 1), np.float32)],
    ]  # fmt: skip
    culprits = Culprits()
    for arrays in alike:
        assert not culprits.accuse("predict", arrays)
    for arrays in alike:
        assert culprits.accuse("predict", arrays)


def test_only_so_many_are_suspects() -> None:
    culprits = Culprits()
    for number in range(MAX_KNOWN + 1):
        culprits.suspect("predict", request(number))
    assert not culprits.accuse("predict", request(0))
    assert culprits.accuse("predict", request(1))


def test_only_so_many_are_known() -> None:
    culprits = Culprits()
    culprits.accuse("predict", request(-1))
    for number in range(MAX_KNOWN):
        culprits.accuse("predict", request(number))
    assert not culprits.accuse("predict", request(-1))
    assert culprits.accuse("predict", request(MAX_KNOWN - 1))
