"""Requests that are wrong, and the phrases with which Triton says so."""

from typing import Any

import numpy as np

from inferd.conformance.check import check, holds, same, says
from inferd.conformance.wire import Wire

AREA = "validation"


def _fp32(wire: Wire, name: str, *shape: int) -> Any:
    return wire.tensor(name, np.ones(shape, np.float32))


@check(AREA)
def an_unknown_model_is_not_found(wire: Wire) -> None:
    asked = "infer on no_such_model"
    message = wire.refused(asked, "not found", "no_such_model", wire.one())
    says(asked, message, "Request for unknown model: 'no_such_model' is not found")


@check(AREA, models=("add_sub",))
def an_unknown_version_is_not_found(wire: Wire) -> None:
    asked = "infer on version 99 of add_sub"
    message = wire.refused(asked, "not found", "add_sub", wire.pair(), model_version="99")
    says(asked, message, "Request for unknown model: 'add_sub' version 99 is not found")


@check(AREA, models=("add_sub",))
def a_wrong_shape_is_named(wire: Wire) -> None:
    asked = "INPUT0 of shape [1,17] where [-1,16] is expected"
    inputs = [_fp32(wire, "INPUT0", 1, 17), _fp32(wire, "INPUT1", 1, 16)]
    message = wire.refused(asked, "invalid", "add_sub", inputs)
    says(asked, message, "unexpected shape for input 'INPUT0' for model 'add_sub'.",
         "Expected [-1,16], got [1,17]")  # fmt: skip


@check(AREA, models=("add_sub",))
def a_wrong_datatype_is_named(wire: Wire) -> None:
    asked = "INPUT0 of INT32 where FP32 is expected"
    inputs = [wire.tensor("INPUT0", np.ones((1, 16), np.int32)), _fp32(wire, "INPUT1", 1, 16)]
    message = wire.refused(asked, "invalid", "add_sub", inputs)
    says(asked, message, "inference input 'INPUT0' data-type is 'INT32', but model 'add_sub' "
         "expects 'FP32'")  # fmt: skip


@check(AREA, models=("add_sub",))
def a_missing_input_is_counted(wire: Wire) -> None:
    asked = "one input of two"
    message = wire.refused(asked, "invalid", "add_sub", wire.pair()[:1])
    says(asked, message, "expected 2 inputs but got 1 inputs for model 'add_sub'")


@check(AREA, models=("add_sub",))
def an_unknown_input_is_named(wire: Wire) -> None:
    asked = "an input OTHER beside those of add_sub"
    inputs = [*wire.pair(), _fp32(wire, "OTHER", 1, 16)]
    says(asked, wire.refused(asked, "invalid", "add_sub", inputs), "OTHER")


@check(AREA, models=("add_sub",))
def an_unknown_output_is_named(wire: Wire) -> None:
    asked = "an output OTHER"
    outputs = [wire.output("OTHER")]
    says(asked, wire.refused(asked, "invalid", "add_sub", wire.pair(), outputs=outputs), "OTHER")


@check(AREA, models=("add_sub",))
def more_rows_than_a_batch_has_are_refused(wire: Wire) -> None:
    asked = "9 rows where max_batch_size is 8"
    message = wire.refused(asked, "invalid", "add_sub", wire.pair(9))
    says(asked, message, "batch-size must be <= 8 for 'add_sub'")


@check(AREA, models=("add_sub",))
def inputs_of_different_rows_are_refused(wire: Wire) -> None:
    asked = "INPUT0 of 2 rows and INPUT1 of 1"
    inputs = [_fp32(wire, "INPUT0", 2, 16), _fp32(wire, "INPUT1", 1, 16)]
    wire.refused(asked, "invalid", "add_sub", inputs)


@check(AREA, models=("add_sub",))
def no_other_outputs_come_than_were_asked_for(wire: Wire) -> None:
    asked = [wire.output("OUTPUT1")]
    response = wire.infer("add_sub", wire.pair(), outputs=asked).get_response()
    found = response["outputs"] if wire.name == "http" else response.outputs
    names = [one["name"] if wire.name == "http" else one.name for one in found]
    same("names of the outputs", names, ["OUTPUT1"])


@check(AREA, models=("add_sub",))
def an_id_comes_back(wire: Wire) -> None:
    response = wire.infer("add_sub", wire.pair(), request_id="an id of mine").get_response()
    got = response["id"] if wire.name == "http" else response.id
    same("id", got, "an id of mine")


@check(AREA, models=("repeat",))
def a_decoupled_model_needs_a_stream(wire: Wire) -> None:
    asked = "infer, without a stream, on a decoupled model"
    inputs = [wire.tensor("INPUT0", np.array([1], np.int32))]
    wire.refused(asked, "unsupported", "repeat", inputs)


@check(AREA, models=("labelled",), extensions=("classification",))
def classes_are_asked_for_by_their_number(wire: Wire) -> None:
    sent = wire.tensor("INPUT0", np.array([[0.5, 3, 1, 2]], np.float32))
    result = wire.infer("labelled", [sent], outputs=[wire.output("OUTPUT0", classes=2)])
    got = [one.decode() for one in result.as_numpy("OUTPUT0").ravel()]
    same("the best two of [0.5, 3, 1, 2]", got, ["3.000000:1:dog", "2.000000:3:fish"])


@check(AREA, models=("identity_FP32",), wires=("http",), cases=[
    (b"{",), (b"[]",), (b"{}",), (b'{"inputs":7}',), (b'{"inputs":[{}]}',),
    (b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"FP33","data":[1]}]}',),
    (b'{"inputs":[{"name":"INPUT0","shape":[-1,1],"datatype":"FP32","data":[1]}]}',),
    (b'{"inputs":[{"name":"INPUT0","shape":[1,2],"datatype":"FP32","data":[1]}]}',),
])  # fmt: skip
def a_body_that_is_no_request_is_refused(wire: Wire, body: bytes) -> None:
    reply = wire.http("POST", "/v2/models/identity_FP32/infer", body)
    # 400, but for Triton, which says 500 of JSON that it cannot read.
    holds(f"status for {body!r}", reply.status in (400, 500), "400 or 500", reply.status)
    same("an error in JSON", list(reply.json()), ["error"])
    same("live", wire.client.is_server_live(), True)


@check(AREA, models=("add_sub",), extensions=("parameters",), wires=("http",))
def reserved_parameters_are_refused(wire: Wire) -> None:
    given = {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "data": [1.0] * 16}
    body = {"inputs": [given, given | {"name": "INPUT1"}], "parameters": {"triton_mine": 1}}
    same("status", wire.http("POST", "/v2/models/add_sub/infer", body).status, 400)
