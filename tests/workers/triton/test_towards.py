"""What models ask of their server, as it is told of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inferd.errors import InferdError, InvalidRequest
from inferd.workers.asking import Asking
from inferd.workers.messages import Answer, Ask, Event, Forget, Manage
from inferd.workers.triton.error import TritonModelException
from inferd.workers.triton.request import InferenceRequest
from inferd.workers.triton.tensor import Tensor
from inferd.workers.triton.towards import Towards


class Server:
    """Takes what is asked, and answers a Manage at once."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.raises: InferdError | None = None
        self.asking = Asking(self.hear)
        self.towards = Towards(self.asking)

    def hear(self, event: Event) -> None:
        if self.raises is not None:
            raise self.raises
        self.heard.append(event)
        if isinstance(event, Manage):
            self.asking.answered(Answer(event.ask, {}, value=1.0))

    def stream(self) -> Any:
        request = InferenceRequest(
            model_name="m", requested_output_names=["y"],
            inputs=[Tensor("x", np.zeros(1, np.float32))],
        )  # fmt: skip
        return self.towards.exec(request, True)


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_model_is_loaded_with_a_configuration_and_files(server: Server) -> None:
    files = {"file:1/model.onnx": b"one", "file:2/a/b": "two"}
    server.towards.load_model("m", "{}", files)
    (asked,) = server.heard
    assert (asked.action, asked.model, asked.config) == ("load", "m", "{}")
    assert asked.files == {"1/model.onnx": b"one", "2/a/b": b"two"}
    with pytest.raises(TritonModelException, match="'file:<version>/<name>', not 'config'"):
        server.towards.load_model("m", files={"config": b"{}"})


def test_a_model_is_unloaded_with_its_dependents(server: Server) -> None:
    server.towards.unload_model("m")
    server.towards.unload_model("m", unload_dependents=True)
    assert [asked.dependents for asked in server.heard] == [False, True]


def let_go(answers: Any) -> None:
    del answers


@pytest.mark.parametrize("leave", [lambda answers: answers.cancel(), let_go])
def test_a_stream_that_nobody_has_begun_to_read_is_given_up(
    server: Server, leave: Callable[[Any], None]
) -> None:
    leave(server.stream())
    ask, forgotten = server.heard
    assert isinstance(ask, Ask)
    assert forgotten == Forget(ask.ask)


def test_a_stream_that_is_given_up_has_no_more_answers(server: Server) -> None:
    answers = server.stream()
    (ask,) = server.heard
    server.asking.answered(Answer(ask.ask, {}, last=False))
    assert not next(answers).has_error()
    answers.cancel()
    assert [*answers] == []


def test_nobody_waits_for_a_question_that_does_not_cross(server: Server) -> None:
    server.raises = InvalidRequest("numbers must be of 64 bits or less")
    with pytest.raises(InvalidRequest):
        server.stream()
    assert server.asking._takers == {}
