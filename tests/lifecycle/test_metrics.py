"""The metrics page: Triton's names and inferd's own, and numbers that agree with what was sent."""

import pytest

from .conftest import Start
from .onnx_models import Repository, constant
from .process import ServerProcess, json_input
from .traffic import metrics, one

LABELS = '{model="m",version="1"}'


@pytest.fixture
def asked(repository: Repository, start: Start) -> ServerProcess:
    """A server that answered three requests of one row and one of four, and refused two."""
    repository.add("m", constant(1), config={"max_batch_size": 8})
    server = start()
    four = {"inputs": [json_input("INPUT0", "FP32", [4, 1], [1.0] * 4)]}
    wrong = {"inputs": [json_input("INPUT0", "FP32", [1, 2], [1.0] * 2)]}
    statuses = [server.infer("m", body).status for body in (one(), four, wrong, one(), one())]
    assert statuses == [200, 200, 400, 200, 200]
    assert server.infer("nope", one()).status == 404
    return server


def test_tritons_names_are_there(asked: ServerProcess) -> None:
    names = {line.partition("{")[0] for line in metrics(asked)}
    assert {
        "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count",
        "nv_inference_exec_count", "nv_inference_request_duration_us",
        "nv_inference_queue_duration_us", "nv_inference_compute_input_duration_us",
        "nv_inference_compute_infer_duration_us", "nv_inference_compute_output_duration_us",
        "nv_inference_pending_request_count", "nv_model_load_duration_secs",
        "nv_cpu_utilization", "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith("nv_") and name.endswith("_total")]


def test_counters_agree_with_what_was_sent(asked: ServerProcess) -> None:
    values = metrics(asked)
    assert values["nv_inference_request_success" + LABELS] == 4
    assert values["nv_inference_count" + LABELS] == 7
    assert values["nv_inference_exec_count" + LABELS] == 4
    assert values["nv_inference_pending_request_count" + LABELS] == 0
    assert values["inferd_in_flight" + LABELS] == 0
    assert values["inferd_queue_depth" + LABELS] == 0
    failures = {
        reason: values[f'nv_inference_request_failure{{model="m",reason="{reason}",version="1"}}']
        for reason in ("OTHER", "BACKEND", "REJECTED", "CANCELED")
    }
    assert failures == {"OTHER": 1, "BACKEND": 0, "REJECTED": 0, "CANCELED": 0}
    closed = [value for name, value in values.items() if name.startswith("inferd_batches_closed")
              and "_total" in name]  # fmt: skip
    assert sum(closed) == 4


@pytest.mark.parametrize(("model", "status"), [("m", 400), ("nope", 404)])
def test_answers_are_counted_by_status(asked: ServerProcess, model: str, status: int) -> None:
    line = f'inferd_http_responses_total{{status="{status}"}}'
    before = metrics(asked)
    assert asked.infer(model, {"inputs": []}).status == status
    after = metrics(asked)
    assert after[line] == before[line] + 1


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("inferd_request_duration_seconds", 4), ("inferd_queue_duration_seconds", 4),
        ("inferd_compute_duration_seconds", 4), ("inferd_batch_size", 4),
    ],
)  # fmt: skip
def test_histograms_count_what_was_sent(asked: ServerProcess, name: str, count: int) -> None:
    values = metrics(asked)
    buckets = [value for line, value in values.items() if line.startswith(name + "_bucket{")]
    assert len(buckets) > 5
    assert buckets == sorted(buckets)
    assert buckets[-1] == values[f"{name}_count" + LABELS] == count
    assert values[f"{name}_sum" + LABELS] > 0


def test_batch_sizes_add_up_to_the_rows(asked: ServerProcess) -> None:
    values = metrics(asked)
    assert values["inferd_batch_size_sum" + LABELS] == 7
    assert values['inferd_batch_size_bucket{le="1.0",model="m",version="1"}'] == 3


def test_durations_agree_between_the_counters_and_the_histograms(asked: ServerProcess) -> None:
    values = metrics(asked)
    total_us = values["nv_inference_request_duration_us" + LABELS]
    total_s = values["inferd_request_duration_seconds_sum" + LABELS]
    assert total_us == pytest.approx(total_s * 1e6, abs=1)


def test_statistics_and_metrics_agree(asked: ServerProcess) -> None:
    stats, values = asked.statistics("m"), metrics(asked)
    assert stats["inference_count"] == values["nv_inference_count" + LABELS]
    assert stats["execution_count"] == values["nv_inference_exec_count" + LABELS]
    success = stats["inference_stats"]["success"]
    assert success["count"] == values["nv_inference_request_success" + LABELS]
    assert success["ns"] // 1000 == values["nv_inference_request_duration_us" + LABELS]


def test_the_page_is_plain_text_that_prometheus_reads(asked: ServerProcess) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    answer = asked.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(
        answer.body.decode())}  # fmt: skip
    assert families["inferd_batch_size"].type == "histogram"
    assert all(family.documentation for family in families.values())


def test_resident_memory_is_the_process_s(asked: ServerProcess) -> None:
    said_mb = metrics(asked)["inferd_resident_memory_bytes"] / 2**20
    assert said_mb == pytest.approx(asked.resident_mb(), abs=10)
