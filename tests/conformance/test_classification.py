"""Triton's classification extension: the top K of an output as text."""

from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.models import Array, tensor
from lifecycle.process import ServerProcess, json_input

Client: TypeAlias = triton.InferenceServerClient

SCORES = np.array([[0.1, 0.6, 0.05, 0.25], [4, 3, 2, 1]], np.float32)


def classify(client: Client, model: str, sent: Array, count: int, **options: Any) -> Array:
    asked = [triton.InferRequestedOutput("OUTPUT0", class_count=count, **options)]
    result = client.infer(model, [tensor("INPUT0", "FP32", sent)], outputs=asked)
    output = result.get_output("OUTPUT0")
    assert output["datatype"] == "BYTES"
    found: Array = result.as_numpy("OUTPUT0")
    assert output["shape"] == list(found.shape)
    return found


def test_each_row_has_its_best_classes_with_labels(client: Client) -> None:
    assert classify(client, "labelled", SCORES, 2).tolist() == [
        [b"0.600000:1:dog", b"0.250000:3:fish"],
        [b"4.000000:0:cat", b"3.000000:1:dog"],
    ]


def test_without_labels_value_and_index_are_given(client: Client) -> None:
    found = classify(client, "id_FP32", SCORES, 1)
    assert found.tolist() == [[b"0.600000:1"], [b"4.000000:0"]]


def test_a_model_without_batching_gives_one_list(client: Client) -> None:
    found = classify(client, "labelled_vector", SCORES[1], 3)
    assert found.tolist() == [b"4.000000:0:cat", b"3.000000:1:dog", b"2.000000:2:bird"]
    assert classify(client, "vector", SCORES[1], 1).tolist() == [b"4.000000:0"]


def test_more_classes_than_there_are_gives_all(client: Client) -> None:
    assert classify(client, "labelled", SCORES, 9).shape == (2, 4)


def test_classes_can_come_in_json(client: Client) -> None:
    found = classify(client, "labelled", SCORES[:1], 1, binary_data=False)
    assert found.tolist() == [["0.600000:1:dog"]]


@pytest.mark.parametrize("datatype", ["INT32", "UINT8", "FP64", "INT64"])
def test_integers_are_written_with_six_decimals_too(client: Client, datatype: str) -> None:
    kind = {"INT32": np.int32, "UINT8": np.uint8, "FP64": np.float64, "INT64": np.int64}[datatype]
    asked = [triton.InferRequestedOutput("OUTPUT0", class_count=1)]
    sent = np.array([[3, 7, 5]], kind)
    result = client.infer(f"id_{datatype}", [tensor("INPUT0", datatype, sent)], outputs=asked)
    assert result.as_numpy("OUTPUT0").tolist() == [[b"7.000000:1"]]


def test_half_floats_are_classified_by_value(client: Client) -> None:
    asked = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    sent = np.array([[-3, 0.5, 2]], np.float32)
    result = client.infer("id_BF16", [tensor("INPUT0", "BF16", sent)], outputs=asked)
    assert result.as_numpy("OUTPUT0").tolist() == [[b"2.000000:2", b"0.500000:1"]]


def test_other_outputs_stay_as_they_are(client: Client) -> None:
    first = np.arange(16, dtype=np.float32).reshape(1, 16)
    inputs = [tensor("INPUT0", "FP32", first), tensor("INPUT1", "FP32", first)]
    asked = [
        triton.InferRequestedOutput("OUTPUT1"),
        triton.InferRequestedOutput("OUTPUT0", class_count=1),
    ]
    result = client.infer("add_sub", inputs, outputs=asked)
    assert result.as_numpy("OUTPUT0").tolist() == [[b"30.000000:15"]]
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first * 0)


def test_text_cannot_be_classified(client: Client) -> None:
    asked = [triton.InferRequestedOutput("OUTPUT0", class_count=1)]
    sent = np.array([[b"a"]], dtype=object)
    phrase = "class result not available for output due to unsupported type 'BYTES'"
    with pytest.raises(InferenceServerException, match=phrase) as error:
        client.infer("id_BYTES", [tensor("INPUT0", "BYTES", sent)], outputs=asked)
    assert error.value.status() == "400"


@pytest.mark.parametrize("count", [-1, 1.5, "3", True, None])
def test_a_count_that_is_no_positive_number_is_400(server: ServerProcess, count: Any) -> None:
    body = {
        "inputs": [json_input("INPUT0", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])],
        "outputs": [{"name": "OUTPUT0", "parameters": {"classification": count}}],
    }
    assert server.infer("labelled", body).status == 400


def test_nan_and_ties_do_not_break_it(client: Client) -> None:
    found = classify(client, "labelled", np.array([[np.nan, 1, 1, 0]], np.float32), 4)
    assert [value.split(b":")[1] for value in found[0]][-1:] == [b"0"]
    assert {value.split(b":")[1] for value in found[0]} == {b"0", b"1", b"2", b"3"}
