"""The model's own tests: as a class, and through a server."""

from app import Digits
from sklearn.datasets import load_digits

import inferd.testing

images, digits = load_digits(return_X_y=True)


def test_it_reads_what_it_has_not_seen() -> None:
    model = Digits()
    model.load()
    assert (model.predict(images[1500:]) == digits[1500:]).mean() > 0.95


def test_it_is_served() -> None:
    with inferd.testing.serve(Digits) as server:
        assert server.predict(image=images[1500].tolist()) == digits[1500]
        assert server.predict(image=images[1500:1503].tolist()) == digits[1500:1503].tolist()
