import json
import shlex

import pytest

from inferd.cli.announce import announce, curl_line, example_request, tensors_text
from inferd.server import Announcement
from inferd.types.datatype import BOOL, BYTES, FP16, FP32, INT64
from inferd.types.model import ModelReadyState, ModelStatus
from inferd.types.tensor import TensorSpec

URL = "http://127.0.0.1:8000"
READY, UNAVAILABLE = ModelReadyState.READY, ModelReadyState.UNAVAILABLE
SMALL = (TensorSpec("it's", FP32, (-1, 2)), TensorSpec("mask", BOOL, (-1,)))
IMAGE = (TensorSpec("x", FP32, (-1, 3, 224, 224)),)


def started(*models: tuple[str, ModelReadyState, tuple[TensorSpec, ...]]) -> Announcement:
    return Announcement(
        URL, tuple((ModelStatus(name, 1, state), inputs, ()) for name, state, inputs in models)
    )


def test_the_curl_line_is_for_the_first_ready_model_that_one_line_can_ask() -> None:
    models = [("down", UNAVAILABLE, SMALL), ("image", READY, IMAGE), ("a b/c", READY, SMALL)]
    words = shlex.split(curl_line(started(*models)))
    assert words[:4] == ["curl", "-s", f"{URL}/v2/models/a%20b%2Fc/infer", "-d"]
    assert json.loads(words[4])["inputs"] == [
        {"name": "it's", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 0.0]},
        {"name": "mask", "shape": [1], "datatype": "BOOL", "data": [False]},
    ]


def test_without_such_a_model_it_asks_for_metadata_or_is_not_there() -> None:
    assert curl_line(started(("image", READY, IMAGE))) == f"curl -s {URL}/v2/models/image"
    assert curl_line(started(("down", UNAVAILABLE, SMALL))) == ""


@pytest.mark.parametrize(
    ("spec", "data"),
    [
        (TensorSpec("x", INT64, (2,)), [0, 0]),
        (TensorSpec("x", BYTES, (-1, 1)), ["text"]),
        (TensorSpec("x", FP32, ()), [0.0]),
        (TensorSpec("x", FP16, (1,)), None),
        (TensorSpec("x", FP32, (65,)), None),
    ],
)
def test_an_example_is_short_and_json(spec: TensorSpec, data: list[object] | None) -> None:
    request = example_request([spec])
    assert (request and request["inputs"][0]["data"]) == data


def test_the_banner_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    announce(started(("small", READY, SMALL)))
    out, err = capsys.readouterr()
    assert out == ""
    assert "small  1        READY  it's FP32[-1,2], mask BOOL[-1]" in err
    assert tensors_text(SMALL) in err


def test_a_language_model_is_asked_for_a_chat(capsys: pytest.CaptureFixture[str]) -> None:
    models = ((ModelStatus("my llama", 1, READY), (), ()),)
    announcement = Announcement(URL, models, frozenset({"my llama"}))
    words = shlex.split(curl_line(announcement))
    assert words[:3] == ["curl", "-sN", f"{URL}/v1/chat/completions"]
    assert words[3:5] == ["-H", "Content-Type: application/json"]
    body = json.loads(words[6])
    assert (body["model"], body["messages"][0]["role"]) == ("my llama", "user")
    announce(announcement)
    assert "my llama  1        READY  text    text" in capsys.readouterr().err
