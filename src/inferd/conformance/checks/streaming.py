"""Streams over gRPC: decoupled models with any number of responses, and models with one."""

import queue
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from inferd.conformance.check import Mismatch, check, same, says
from inferd.conformance.wire import TIMEOUT_S, Wire

AREA = "streaming"
NEEDS: dict[str, Any] = {"models": ("repeat",), "wires": ("grpc",)}

Part = tuple[Any, InferenceServerException | None]


class _Stream:
    """A ModelStreamInfer call, while the context is open."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._arrived: queue.SimpleQueue[Part] = queue.SimpleQueue()

    def __enter__(self) -> "_Stream":
        self._wire.client.start_stream(lambda result, error: self._arrived.put((result, error)))
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.client.stop_stream()

    def send(self, model: str, inputs: list[Any], **options: Any) -> None:
        self._wire.client.async_stream_infer(model, inputs, **options)

    def next(self) -> Part:
        try:
            return self._arrived.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise Mismatch("a stream", "a response", f"none in {TIMEOUT_S} s") from None

    def values(self, count: int) -> list[int]:
        """The numbers of so many responses; raises Mismatch for an error."""
        return [_value(self.next()) for _ in range(count)]


def _value(part: Part) -> int:
    result, error = part
    if error is not None:
        raise Mismatch("a stream", "a response", str(error))
    return int(result.as_numpy("OUTPUT0").ravel()[0])


def _numbers(wire: Wire, *values: int) -> list[Any]:
    return [wire.tensor("INPUT0", np.array(values, np.int32))]


def _is_final(part: Part) -> bool:
    result, error = part
    if error is not None:
        raise Mismatch("a stream", "a response", str(error))
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


@check(AREA, **NEEDS)
def a_decoupled_model_answers_many_times(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("repeat", _numbers(wire, 4, 2, 8, 6))
        same("responses", stream.values(4), [4, 2, 8, 6])


@check(AREA, **NEEDS)
def responses_have_the_id_of_their_request(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("repeat", _numbers(wire, 1, 2), request_id="mine")
        ids = [stream.next()[0].get_response().id for _ in range(2)]
    same("ids", ids, ["mine", "mine"])


@check(AREA, **NEEDS)
def an_empty_final_response_comes_if_it_is_asked_for(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("repeat", _numbers(wire, 5, 6), enable_empty_final_response=True)
        parts = [stream.next() for _ in range(3)]
    same("triton_final_response", [_is_final(part) for part in parts], [False, False, True])
    same("outputs of the last", len(parts[2][0].get_response().outputs), 0)


@check(AREA, **NEEDS)
def a_request_may_have_no_response_but_its_end(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("repeat", _numbers(wire), enable_empty_final_response=True)
        same("triton_final_response", _is_final(stream.next()), True)
        stream.send("repeat", _numbers(wire, 7))
        same("the next response", stream.values(1), [7])


@check(AREA, models=("add_sub",), wires=("grpc",))
def a_model_that_is_not_decoupled_answers_once(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("add_sub", wire.pair())
        stream.send("add_sub", wire.pair())
        same("responses", stream.values(2), [1, 1])


@check(AREA, models=("add_sub",), wires=("grpc",))
def an_error_leaves_the_stream_open(wire: Wire) -> None:
    with _Stream(wire) as stream:
        stream.send("add_sub", wire.pair()[:1])
        _, error = stream.next()
        says("one input of two", error, "expected 2 inputs but got 1 inputs for model 'add_sub'")
        stream.send("add_sub", wire.pair())
        same("the response behind it", stream.values(1), [1])


@check(AREA, models=("accumulator",), extensions=("sequence",), wires=("grpc",))
def a_sequence_goes_over_a_stream(wire: Wire) -> None:
    with _Stream(wire) as stream:
        for place in range(4):
            stream.send("accumulator", wire.one(1), sequence_id=5001, sequence_start=place == 0,
                        sequence_end=place == 3)  # fmt: skip
        same("sums", stream.values(4), [1, 2, 3, 4])
