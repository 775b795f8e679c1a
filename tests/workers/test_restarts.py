from inferd.workers.restarts import FIRST_DELAY_S, GOOD_LIFE_S, LONGEST_DELAY_S, TOLERATED, Restarts


def lives(restarts: Restarts, *lengths_s: float) -> list[float]:
    """Delays behind lives of these lengths."""
    delays, now_s = [], 0.0
    for length_s in lengths_s:
        restarts.born(now_s)
        now_s += length_s
        delays.append(restarts.ended(now_s))
    return delays


def test_the_first_restart_is_at_once_and_the_next_wait_ever_longer() -> None:
    restarts = Restarts()
    delays = lives(restarts, *[1.0] * 12)
    assert delays[:4] == [0.0, FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert delays[-1] == LONGEST_DELAY_S
    assert restarts.hopeless


def test_a_good_life_makes_up_for_what_was_before() -> None:
    restarts = Restarts()
    assert lives(restarts, 1.0, 1.0, GOOD_LIFE_S, 1.0) == [0.0, FIRST_DELAY_S, 0.0, FIRST_DELAY_S]
    assert not restarts.hopeless


def test_short_lives_are_tolerated_for_a_while() -> None:
    restarts = Restarts()
    lives(restarts, *[1.0] * (TOLERATED - 1))
    assert not restarts.hopeless
    lives(restarts, 1.0)
    assert restarts.hopeless


def test_a_worker_that_cannot_load_is_hopeless_at_once() -> None:
    restarts = Restarts()
    assert restarts.ended(0.0) > 0
    assert restarts.hopeless
