from inferd.workers.restarts import (
    FIRST_DELAY_S,
    GOOD_LIFE_S,
    HOPELESS,
    LONGEST_DELAY_S,
    Restarts,
)


def lives(restarts: Restarts, *lengths_s: float, running: bool = False) -> list[float]:
    """Delays behind lives of these lengths."""
    delays, now_s = [], 0.0
    for length_s in lengths_s:
        restarts.born(now_s)
        now_s += length_s
        delays.append(restarts.ended(now_s, running))
    return delays


def test_the_first_restart_is_at_once_and_the_next_wait_ever_longer() -> None:
    delays = lives(Restarts(), *[1.0] * 12)
    assert delays[:4] == [0.0, FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert delays[-1] == LONGEST_DELAY_S


def test_a_good_life_makes_up_for_what_was_before() -> None:
    restarts = Restarts()
    assert lives(restarts, 1.0, 1.0, GOOD_LIFE_S, 1.0) == [0.0, FIRST_DELAY_S, 0.0, FIRST_DELAY_S]
    assert not restarts.hopeless


def test_a_worker_that_ends_with_nothing_to_do_is_tolerated_for_a_while() -> None:
    restarts = Restarts()
    lives(restarts, 1.0, 1.0)
    assert not restarts.hopeless
    lives(restarts, 1.0)
    assert restarts.hopeless


def test_a_worker_that_ends_of_its_requests_is_started_again_soon_and_long() -> None:
    restarts = Restarts()
    delays = lives(restarts, *[1.0] * (HOPELESS - 1), running=True)
    assert max(delays) == FIRST_DELAY_S
    assert not restarts.hopeless
    lives(restarts, 1.0, running=True)
    assert restarts.hopeless


def test_a_worker_that_cannot_load_is_hopeless_at_once() -> None:
    restarts = Restarts()
    assert restarts.ended(0.0, False) == 0.0
    assert restarts.hopeless
    assert restarts.ended(1.0, False) > 0


def test_a_worker_that_answers_before_it_ends_gives_hope() -> None:
    restarts = Restarts()
    for _ in range(30):
        restarts.born(0.0)
        restarts.answered()
        assert restarts.ended(1.0, True) == 0.0
        assert not restarts.hopeless
