"""What a server says of itself and of its models."""

from inferd.conformance.check import check, holds, same
from inferd.conformance.wire import Wire

AREA = "metadata"


@check(AREA)
def the_server_is_live_and_ready(wire: Wire) -> None:
    same("live", wire.client.is_server_live(), True)
    same("ready", wire.client.is_server_ready(), True)


@check(AREA)
def the_server_has_a_name_a_version_and_extensions(wire: Wire) -> None:
    said = wire.metadata()
    for field, kind in (("name", str), ("version", str), ("extensions", list)):
        holds(f"server metadata, {field}", isinstance(said.get(field), kind), kind.__name__, said)


@check(AREA, models=("add_sub",))
def a_model_says_its_tensors_with_the_batch_dimension(wire: Wire) -> None:
    said = wire.metadata("add_sub")
    same("name", said["name"], "add_sub")
    same("versions", said["versions"], ["1"])
    for side in ("inputs", "outputs"):
        shapes = {one["name"]: (one["datatype"], [int(d) for d in one["shape"]])
                  for one in said[side]}  # fmt: skip
        names = [f"{side[:-1].upper()}{index}" for index in range(2)]
        same(f"{side} of add_sub", shapes, dict.fromkeys(names, ("FP32", [-1, 16])))


@check(AREA, models=("vector",))
def a_model_without_batching_has_no_batch_dimension(wire: Wire) -> None:
    (said,) = wire.metadata("vector")["inputs"]
    same("shape of vector's input", [int(size) for size in said["shape"]], [4])


@check(AREA, models=("add_sub",))
def one_version_can_be_asked_for(wire: Wire) -> None:
    same("versions", wire.metadata("add_sub", "1")["versions"], ["1"])
    same("ready", wire.client.is_model_ready("add_sub", "1"), True)


@check(AREA)
def an_unknown_model_is_not_ready(wire: Wire) -> None:
    same("ready", wire.client.is_model_ready("no_such_model"), False)


@check(AREA, wires=("http",))
def metadata_of_an_unknown_model_is_404(wire: Wire) -> None:
    reply = wire.http("GET", "/v2/models/no_such_model")
    same("status", reply.status, 404)
    holds("body", isinstance(reply.json().get("error"), str), "an error that is text", reply.body)


@check(AREA, models=("add_sub",), extensions=("model_configuration",))
def the_configuration_has_triton_s_fields(wire: Wire) -> None:
    said = wire.config("add_sub")
    same("name", said["name"], "add_sub")
    same("max_batch_size", said["max_batch_size"], 8)
    tensors = [(one["name"], one["data_type"], [int(d) for d in one["dims"]])
               for one in said["input"]]  # fmt: skip
    same("input", tensors, [(f"INPUT{index}", "TYPE_FP32", [16]) for index in range(2)])


@check(AREA, models=("accumulator",), extensions=("model_configuration", "sequence"))
def the_configuration_says_how_sequences_are_batched(wire: Wire) -> None:
    batching = wire.config("accumulator")["sequence_batching"]
    holds("sequence_batching", "direct" in batching, "direct", batching)
    kinds = [one["control"][0]["kind"] for one in batching["control_input"]]
    same("control_input", kinds, [f"CONTROL_SEQUENCE_{kind}" for kind in
                                  ("START", "END", "READY", "CORRID")])  # fmt: skip


@check(AREA, models=("repeat",), extensions=("model_configuration",))
def the_configuration_says_that_a_model_is_decoupled(wire: Wire) -> None:
    policy = wire.config("repeat").get("model_transaction_policy")
    same("model_transaction_policy", policy, {"decoupled": True})


@check(AREA, models=("priorities",), extensions=("model_configuration",))
def the_configuration_says_priorities(wire: Wire) -> None:
    batching = wire.config("priorities")["dynamic_batching"]
    said = [int(batching[name]) for name in ("priority_levels", "default_priority_level")]
    same("priority_levels and default_priority_level", said, [2, 2])


@check(AREA, models=("chain",), extensions=("model_configuration",))
def the_configuration_of_an_ensemble_has_its_steps(wire: Wire) -> None:
    said = wire.config("chain")
    same("platform", said["platform"], "ensemble")
    steps = [step["model_name"] for step in said["ensemble_scheduling"]["step"]]
    same("steps", steps, ["add_sub", "add_sub"])


@check(AREA, extensions=("trace",))
def trace_settings_can_be_read(wire: Wire) -> None:
    said = wire.client.get_trace_settings()
    settings = said if wire.name == "http" else dict(said.settings)
    names = {"trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file"}
    holds("trace settings", names <= set(settings), repr(sorted(names)), sorted(settings))


@check(AREA, extensions=("logging",))
def log_settings_can_be_read(wire: Wire) -> None:
    said = wire.client.get_log_settings()
    settings = said if wire.name == "http" else dict(said.settings)
    names = {"log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"}
    holds("log settings", names <= set(settings), repr(sorted(names)), sorted(settings))
