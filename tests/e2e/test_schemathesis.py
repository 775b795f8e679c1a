from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from e2e.harness import RunningServer
from e2e.wire import assert_serves, tensor

AnyCase = Case[Any]
AnyOperation = APIOperation[Any, Any, Any, Any]

GOOD_INPUTS: dict[str, list[dict[str, Any]]] = {
    "mlp": [tensor("x", "FP32", [1, 16], [0.5] * 16)],
    "identity_bytes": [tensor("x", "BYTES", [1, 4], ["a", "b", "c", "d"])],
    "free_int64": [tensor("x", "INT64", [2, 3], [[1, 2, 3], [4, 5, 6]])],
    "gather": [tensor("ids", "INT64", [1, 2], [3, 4])],
    "fixed": [tensor("x", "FP32", [2, 3], [0.5] * 6)],
    "add": [tensor(name, "FP32", [1, 4], [1, 2, 3, 4]) for name in ("a", "b")],
}

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

CONFIG: dict[str, Any] = {
    "checks": {
        # 501 and 503 are documented answers, not failures of the server.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "501", "503"]},
    },
}


@pytest.fixture(scope="module")
def fuzzed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: what is loaded may change."""
    log = tmp_path_factory.mktemp("fuzzed") / "server.log"
    mode = ("--model-control-mode", "explicit", "--load-model", "*")
    running = RunningServer(log, repository, *mode)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def served_schema(fuzzed: RunningServer) -> BaseSchema:
    """The document that the server hands out, with values that get past the first check."""
    config = SchemathesisConfig.from_dict(CONFIG)
    loaded = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json", config=config)

    @loaded.hook
    def map_case(context: Any, case: AnyCase) -> AnyCase:
        if isinstance(case.body, dict):
            case.body.pop("log_error", None)  # what goes wrong is looked for in the log
        return nearer(case)

    return loaded


def nearer(case: AnyCase) -> AnyCase:
    """A case with values that get past the first checks, by what was generated in their place."""
    values = case.path_parameters
    if not isinstance(values, dict) or "model" not in values:
        return case
    choice = len(str(values)) + len(str(case.body))
    models = list(GOOD_INPUTS)
    if choice % 8:
        values["model"] = models[choice % len(models)]
    if "version" in values and choice % 3:
        values["version"] = "1"
    body: Any = case.body
    inputs = GOOD_INPUTS.get(values["model"])
    if isinstance(body, dict) and "/generate" in case.operation.path and inputs and choice % 2:
        body.clear()
        body |= {wire["name"]: wire["data"] for wire in inputs}
    if isinstance(body, dict) and isinstance(body.get("inputs"), list) and inputs:
        if choice % 2:
            body["inputs"] = inputs
            if choice % 4 == 1:
                body.pop("outputs", None)
        else:
            for wire in body["inputs"]:
                if isinstance(wire, dict):
                    wire["name"] = inputs[0]["name"]
    return case


def test_every_answer_is_as_documented(
    served_schema: BaseSchema, subtests: pytest.Subtests
) -> None:
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    operations = [ok(result) for result in served_schema.get_all_operations()]
    operations = [operation for operation in operations if not of_another_model(operation.path)]
    assert len(operations) >= 15
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with subtests.test(operation.label, mode=mode.value):
                run_cases(operation, mode, statuses[operation.path])
    inference = statuses["/v2/models/{model}/infer"]
    assert inference[200] >= 5
    assert inference[400] >= 10
    for verb in ("generate", "generate_stream"):
        generated = statuses[f"/v2/models/{{model}}/{verb}"]
        assert generated[200] >= 2
        assert generated[400] >= 2
    calls = sum((statuses[f"/models/{name}"] for name in GOOD_INPUTS), Counter[int]())
    assert calls[200] >= 10
    assert calls[400] >= 10


def of_another_model(path: str) -> bool:
    """Whether a path is that of one model, and not of those that stand for all."""
    return path.startswith("/models/") and "{" not in path and path[8:] not in GOOD_INPUTS


def ok(result: Any) -> AnyOperation:
    """An operation whose description is sound."""
    operation: AnyOperation = result.ok()
    return operation


def run_cases(operation: AnyOperation, mode: GenerationMode, statuses: Counter[int]) -> None:
    examples = 24 if "infer" in operation.path else 4

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # what shrinking would add is time
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: AnyCase) -> None:
        answer = case.call_and_validate(checks=CHECKS, timeout=5)
        statuses[answer.status_code] += 1

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with a plain GET


def test_server_is_well_afterwards(fuzzed: RunningServer) -> None:
    assert fuzzed.post("/v2/repository/models/mlp/load").status == 200
    assert_serves(fuzzed)
