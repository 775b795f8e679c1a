"""The arithmetic of the statistics extension."""

import time
from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.models import pair, tensor
from lifecycle.process import ServerProcess

Client: TypeAlias = triton.InferenceServerClient


@pytest.fixture(scope="module")
def counted(client: Client) -> dict[str, Any]:
    """Statistics after three requests of one row, two of four rows and one that is wrong."""
    for rows in (1, 4, 1, 4, 1):
        client.infer("counted", pair(rows))
    wrong = [tensor("INPUT0", "FP32", np.ones((1, 17), np.float32)), pair()[1]]
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        client.infer("counted", wrong)
    (entry,) = client.get_inference_statistics("counted", "1")["model_stats"]
    assert isinstance(entry, dict)
    return entry


def test_requests_rows_and_executions_are_counted(counted: dict[str, Any]) -> None:
    assert (counted["name"], counted["version"]) == ("counted", "1")
    assert counted["inference_count"] == 11
    assert counted["execution_count"] == 5
    stats = counted["inference_stats"]
    assert stats["success"]["count"] == 5
    assert stats["queue"]["count"] == 5
    assert stats["fail"]["count"] == 1
    for part in ("compute_input", "compute_infer", "compute_output"):
        assert stats[part]["count"] == 5
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}


def test_the_parts_of_a_request_add_up_to_no_more_than_the_whole(counted: dict[str, Any]) -> None:
    stats = counted["inference_stats"]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert stats["compute_infer"]["ns"] > 0
    assert sum(stats[part]["ns"] for part in parts) <= stats["success"]["ns"]


def test_executions_are_counted_by_batch_size(counted: dict[str, Any]) -> None:
    by_size = {entry["batch_size"]: entry for entry in counted["batch_stats"]}
    assert {size: e["compute_infer"]["count"] for size, e in by_size.items()} == {1: 3, 4: 2}
    total = sum(entry["compute_infer"]["ns"] for entry in by_size.values())
    assert total == counted["inference_stats"]["compute_infer"]["ns"]
    rows = sum(size * e["compute_infer"]["count"] for size, e in by_size.items())
    assert rows == counted["inference_count"]


def test_the_last_inference_is_in_milliseconds_since_the_epoch(counted: dict[str, Any]) -> None:
    assert 0 <= time.time() * 1000 - counted["last_inference"] < 120_000


def test_all_models_are_listed_without_a_name(client: Client) -> None:
    listed = {entry["name"] for entry in client.get_inference_statistics()["model_stats"]}
    assert {"add_sub", "counted", "id_BF16"} <= listed


def test_statistics_of_an_unknown_model_are_400(client: Client) -> None:
    with pytest.raises(
        InferenceServerException, match=r"requested model 'nope'.* is not available"
    ) as error:
        client.get_inference_statistics("nope")
    assert error.value.status() == "400"


def test_json_and_binary_requests_count_alike(server: ServerProcess, client: Client) -> None:
    before = server.statistics("id_FP64")
    sent = np.ones((2, 2), np.float64)
    client.infer("id_FP64", [tensor("INPUT0", "FP64", sent, True)])
    client.infer("id_FP64", [tensor("INPUT0", "FP64", sent, False)])
    after = server.statistics("id_FP64")
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
