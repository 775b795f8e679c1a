"""Warnings of models that are read side by side."""

import threading
import warnings

from inferd.backends.python_warnings import kept_warnings, without_warnings


def test_what_is_shown_afterwards_is_what_was_shown_before() -> None:
    before = list(warnings.filters)
    inside, may_end = threading.Event(), threading.Event()

    def first() -> None:
        with without_warnings():
            inside.set()
            may_end.wait(10)

    def second() -> None:
        with without_warnings():
            pass

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()  # inside, or waiting to be, when the first leaves
    may_end.set()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_kept_ones_are_kept_each_time() -> None:
    with kept_warnings() as caught:
        for _ in range(2):
            warnings.warn("old", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["old", "old"]
