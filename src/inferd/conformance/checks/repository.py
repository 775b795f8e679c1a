"""Control of the repository: what is there, loading and unloading on demand."""

import json
import time
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from inferd.conformance.check import Mismatch, Skipped, check, holds, same, says
from inferd.conformance.wire import TIMEOUT_S, Wire

AREA = "repository control"
NEEDS: dict[str, Any] = {"models": ("managed",), "extensions": ("model_repository",)}


def _states(wire: Wire) -> dict[str, str]:
    return {
        str(line["version"]): line.get("state", "") for line in wire.index()
        if line["name"] == "managed" and line.get("version")
    }  # fmt: skip


def _load(wire: Wire, **options: Any) -> None:
    """Raises Skipped where models cannot be loaded on demand."""
    try:
        wire.client.load_model("managed", **options)
    except InferenceServerException as error:
        if "not allowed" in str(error):
            raise Skipped(
                "the server loads no models on demand: start it in explicit mode"
            ) from None
        raise


def _ask(wire: Wire, version: str = "") -> Any:
    inputs = [wire.tensor("INPUT0", np.ones((1, 4), np.float32))]
    return wire.infer("managed", inputs, model_version=version)


@check(AREA, **NEEDS)
def the_index_lists_versions_and_states(wire: Wire) -> None:
    same("versions of managed", _states(wire), dict.fromkeys("123", "READY"))


@check(AREA, **NEEDS)
def the_highest_version_answers_unless_another_is_asked_for(wire: Wire) -> None:
    for version, expected in (("", "3"), ("1", "1"), ("2", "2")):
        response = _ask(wire, version).get_response()
        got = response["model_version"] if wire.name == "http" else response.model_version
        same(f"the version that answers for {version or 'none'}", got, expected)


@check(AREA, **NEEDS)
def a_model_is_unloaded_and_loaded_again(wire: Wire) -> None:
    _load(wire)
    wire.client.unload_model("managed")
    _until(lambda: not wire.client.is_model_ready("managed"), "managed is not ready any more")
    try:
        _ask(wire)
    except InferenceServerException as error:
        says("infer on a model that is unloaded", error.message(), "managed")
    else:
        raise Mismatch("infer on a model that is unloaded", "an error", "an answer")
    _load(wire)
    same("ready", wire.client.is_model_ready("managed"), True)
    _ask(wire)


@check(AREA, **NEEDS)
def a_load_takes_another_configuration(wire: Wire) -> None:
    config = wire.config("managed")
    given = {name: config[name] for name in ("name", "backend", "platform", "input", "output")}
    policy = {"specific": {"versions": [2]}}
    _load(wire, config=json.dumps(given | {"max_batch_size": 3, "version_policy": policy}))
    try:
        same("max_batch_size", wire.config("managed")["max_batch_size"], 3)
        _until(lambda: [v for v, s in _states(wire).items() if s == "READY"] == ["2"],
               "version 2 alone is ready")  # fmt: skip
    finally:
        wire.client.unload_model("managed")  # a load alone may leave what has not changed on disk
        _until(lambda: not wire.client.is_model_ready("managed"), "managed is not ready any more")
        _load(wire)
    _until(lambda: _states(wire) == dict.fromkeys("123", "READY"), "all versions are ready again")


@check(AREA, extensions=("model_repository",))
def an_unknown_model_cannot_be_loaded(wire: Wire) -> None:
    try:
        wire.client.load_model("no_such_model")
    except InferenceServerException as error:
        if "not allowed" in str(error):
            raise Skipped("the server loads no models on demand") from None
        says("load of no_such_model", error.message(), "failed to load 'no_such_model'")
    else:
        raise Mismatch("load of no_such_model", "an error", "an answer")


@check(AREA, extensions=("model_repository",), wires=("http",))
def the_index_of_ready_models_has_no_others(wire: Wire) -> None:
    reply = wire.http("POST", "/v2/repository/index", {"ready": True})
    states = {line.get("state") for line in reply.json()}
    holds("states, with ready: true", states <= {"READY"}, "READY", states)


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Mismatch("the repository", what, f"not within {TIMEOUT_S} s")
        time.sleep(0.02)
