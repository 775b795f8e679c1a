"""Requests to a server in this process, one at a time."""

import asyncio
import contextlib
from typing import Any

import numpy as np
import pytest
import torch

import inferd
from inferd.errors import BackendError, InvalidRequest, ModelNotFound, RequestTimeout, Unsupported
from lifecycle.onnx_models import STEPS_PER_MS

ONES = np.ones((1, 16), np.float32)
PAIR = {"INPUT0": np.full((1, 16), 3, np.float32), "INPUT1": ONES}


def test_a_request_is_answered_by_name_with_what_it_asked_for(server: inferd.Server) -> None:
    result = server.model("add_sub").infer(PAIR, outputs=["OUTPUT1"], request_id="mine")
    assert list(result) == ["OUTPUT1"]
    np.testing.assert_array_equal(result["OUTPUT1"], np.full((1, 16), 2, np.float32))
    assert (result.model_name, result.model_version, result.id) == ("add_sub", "1", "mine")
    assert result.datatypes == {"OUTPUT1": "FP32"}


def test_an_awaited_request_leaves_the_caller_s_loop_alone(server: inferd.Server) -> None:
    async def ask() -> list[float]:
        model = server.model("add_sub", 1)
        results = await asyncio.gather(*(model.ainfer(PAIR | {"INPUT1": ONES * n})
                                         for n in range(20)))  # fmt: skip
        return [result["OUTPUT0"][0, 0] for result in results]

    for _ in range(2):  # on a loop of its own each time
        assert asyncio.run(ask()) == [3.0 + n for n in range(20)]


# -- what may be given, and what of it is copied -------------------------------------------------


@pytest.mark.parametrize("contiguous", [True, False])
def test_an_array_reaches_the_model_and_comes_back_without_a_copy(
    server: inferd.Server, contiguous: bool
) -> None:
    array = np.arange(16, dtype=np.float32).reshape(4, 4)
    sent = array if contiguous else array.T
    result = server.model("same").infer({"INPUT0": sent})
    assert result["OUTPUT0"] is sent


def test_a_tensor_of_torch_is_read_where_it_lies(server: inferd.Server) -> None:
    sent = torch.arange(8.0).reshape(2, 4)
    result = server.model("same").infer({"INPUT0": sent})
    assert result["OUTPUT0"].ctypes.data == sent.data_ptr()
    back = torch.from_dlpack(result["OUTPUT0"])
    assert back.data_ptr() == sent.data_ptr()
    made = server.model("id_FP32").infer({"INPUT0": sent})["OUTPUT0"]
    assert torch.from_dlpack(made).data_ptr() == made.ctypes.data
    assert torch.equal(torch.from_dlpack(made), sent)


class Exporter:
    """What speaks DLPack and is nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **asked: Any) -> Any:
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_an_array_behind_dlpack_is_read_where_it_lies(server: inferd.Server) -> None:
    sent = np.arange(8, dtype=np.float32).reshape(2, 4)
    result = server.model("same").infer({"INPUT0": Exporter(sent)})
    assert result["OUTPUT0"].ctypes.data == sent.ctypes.data
    assert np.from_dlpack(result["OUTPUT0"]).ctypes.data == sent.ctypes.data


def test_an_array_that_is_not_contiguous_is_understood_by_a_framework(
    server: inferd.Server,
) -> None:
    sent = np.arange(12, dtype=np.float32).reshape(3, 4).T
    result = server.model("id_FP32").infer({"INPUT0": sent})
    np.testing.assert_array_equal(result["OUTPUT0"], sent)


def test_bfloat16_comes_from_torch_and_as_bits(server: inferd.Server) -> None:
    sent = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    bits = sent.view(torch.uint16).numpy()
    for given in (sent, bits):
        result = server.model("id_BF16").infer({"INPUT0": given})
        assert result.datatypes == {"OUTPUT0": "BF16"}
        np.testing.assert_array_equal(result["OUTPUT0"], bits)


@pytest.mark.parametrize(
    "given",
    [
        [["a", "ü"]],
        np.array([["a", "ü"]]),
        np.array([[b"a", "ü"]], dtype=object),
        np.array([[b"a", "ü".encode()]], dtype=object),
    ],
)
def test_texts_are_bytes(server: inferd.Server, given: Any) -> None:
    result = server.model("id_BYTES").infer({"INPUT0": given})
    assert result["OUTPUT0"].tolist() == [[b"a", "ü".encode()]]
    assert result.datatypes == {"OUTPUT0": "BYTES"}


def test_lists_of_numbers_are_what_the_model_takes(server: inferd.Server) -> None:
    result = server.model("lookup").infer({"INPUT0": [[3], [4]]})
    np.testing.assert_array_equal(result["OUTPUT0"], np.array([[3], [4]], np.float32))
    with pytest.raises(InvalidRequest, match=r"input 'INPUT0': the model takes INT64.*float64"):
        server.model("lookup").infer({"INPUT0": [[3.5]]})


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "options", "phrase"),
    [
        ({"INPUT0": ONES}, {}, "expected 2 inputs but got 1"),
        (PAIR, {"outputs": ["NO"]}, "unexpected inference output 'NO'"),
        (PAIR, {"outputs": "OUTPUT0"}, r"write \['OUTPUT0'\]"),
        (PAIR, {"priority": -1}, "'priority' must be"),
        (PAIR, {"timeout": 0}, "in seconds, more than 0"),
        (PAIR, {"parameters": {"triton_x": 1}}, "are reserved"),
        (PAIR | {"INPUT0": [["a"] * 16]}, {}, "data-type is 'BYTES'"),
        (PAIR | {"INPUT0": np.ones((1, 16), complex)}, {}, "no datatype has elements of complex"),
        (PAIR | {"INPUT0": torch.ones(1, 16, requires_grad=True)}, {}, r"'INPUT0'.*\.detach\(\)"),
        (PAIR | {"INPUT0": [[1], [1, 2]]}, {}, "'INPUT0': is no tensor"),
    ],
)
def test_a_wrong_request_is_an_error_where_it_was_made(
    server: inferd.Server, inputs: dict[str, Any], options: Any, phrase: str
) -> None:
    with pytest.raises(InvalidRequest, match=phrase):
        server.model("add_sub").infer(inputs, **options)
    with pytest.raises(InvalidRequest, match=phrase):
        asyncio.run(server.model("add_sub").ainfer(inputs, **options))


def test_other_errors_have_their_classes(server: inferd.Server) -> None:
    with pytest.raises(ModelNotFound, match="'nope' is not found"):
        server.model("nope").infer(PAIR)
    with pytest.raises(ModelNotFound, match="version 7"):
        server.model("add_sub", 7).infer(PAIR)
    with pytest.raises((BackendError, InvalidRequest), match="onnx runtime error"):
        server.model("lookup").infer({"INPUT0": [[10]]})
    with pytest.raises(TypeError, match="unknown option 'output'"):
        server.model("add_sub").infer(PAIR, output=["OUTPUT0"])  # type: ignore[call-arg]


def test_a_request_that_takes_too_long_ends(server: inferd.Server) -> None:
    long = {"INPUT0": np.full((1, 1), 300 * STEPS_PER_MS, np.float32)}
    with pytest.raises(RequestTimeout):
        server.model("left").infer(long, timeout=0.02)


def test_an_awaited_request_that_is_left_is_cancelled(server: inferd.Server) -> None:
    model = server.model("left")
    long = {"INPUT0": np.full((1, 1), 300 * STEPS_PER_MS, np.float32)}

    async def leave() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await model.ainfer(long)

    before = _failures(model)
    asyncio.run(leave())
    assert _failures(model) == before + 1


def _failures(model: Any) -> int:
    count: int = model.statistics()["model_stats"][0]["inference_stats"]["fail"]["count"]
    return count


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_comes_part_by_part_on_both_sides(server: inferd.Server) -> None:
    model = server.model("Counter")
    name = model.metadata()["outputs"][0]["name"]
    parts = [int(part[name].item()) for part in model.stream({"count": [100]})]
    assert parts == list(range(100))

    async def read() -> list[int]:
        return [int(part[name].item()) async for part in model.astream({"count": [100]})]

    assert asyncio.run(read()) == parts
    with pytest.raises(Unsupported, match="stream"):
        model.infer({"count": [3]})


def test_a_stream_that_is_left_ends(server: inferd.Server) -> None:
    model = server.model("Counter")
    stream = model.stream({"count": [10_000_000]})
    next(stream)
    stream.close()
    assert len(list(model.stream({"count": [2]}))) == 2  # its one worker is free again


def test_a_model_that_does_not_stream_is_a_stream_of_one(server: inferd.Server) -> None:
    (result,) = server.model("add_sub").stream(PAIR)
    assert result["OUTPUT0"][0, 0] == 4
    with pytest.raises(ModelNotFound):
        next(server.model("nope").stream(PAIR))
