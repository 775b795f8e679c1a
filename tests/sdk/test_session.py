from hypothesis import given
from hypothesis import strategies as st

from inferd.sdk.session import SessionStore


def test_a_session_keeps_its_state() -> None:
    store = SessionStore(4, 10.0)
    store.get("a", 0.0).state["n"] = 1
    assert store.get("a", 9.9).state == {"n": 1}
    assert store.get("b", 9.9).state == {}


def test_an_idle_session_is_forgotten_and_a_used_one_is_not() -> None:
    store = SessionStore(4, 10.0)
    store.get("a", 0.0).state["n"] = 1
    store.get("b", 0.0).state["n"] = 2
    store.get("a", 5.0)
    assert store.get("b", 10.0).state == {}
    assert store.get("a", 14.0).state == {"n": 1}


def test_the_least_recently_used_leaves_first() -> None:
    store = SessionStore(2, 10.0)
    for id in ("a", "b", "a", "c"):
        store.get(id, 0.0).state[id] = True
    assert store.get("a", 0.0).state == {"a": True}
    assert store.get("b", 0.0).state == {}


def test_no_session_is_kept_without_an_id() -> None:
    store = SessionStore(2, 10.0)
    store.get("", 0.0).state["n"] = 1
    assert store.get("", 0.0).state == {}
    assert len(store) == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5)), max_size=60))
def test_it_holds_exactly_the_latest_that_are_not_idle(uses: list[tuple[str, float]]) -> None:
    store, now, last = SessionStore(3, 6.0), 0.0, {}
    for id, step in uses:
        now += step
        known = sorted(last, key=lambda other: last[other])[-3:]
        kept = id in known and now - last[id] < 6.0
        session = store.get(id, now)
        assert bool(session.state) == kept
        session.state["used"] = True
        last.pop(id, None)
        last[id] = now
        assert len(store) <= 3
