"""Asks the model from the process that it is loaded by, without sockets."""

from app import Digits
from sklearn.datasets import load_digits

import inferd


def main() -> None:
    """Load the model, ask it, and print what it reads beside what is right."""
    images, digits = load_digits(return_X_y=True)
    with inferd.Server(Digits) as server:
        (model,) = server.models()
        (output,) = model.metadata()["outputs"]
        read = model.infer({"image": images[1500:1510].astype("float32")})[output["name"]]
    print("read ", *read)
    print("right", *digits[1500:1510])


if __name__ == "__main__":
    main()
