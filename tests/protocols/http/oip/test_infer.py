"""The ordinary path of inference, where the express lane's tests do not go."""

from pathlib import Path

import numpy as np
import pytest

from fakes import on_loop
from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.http.oip.infer import InferExchange
from inferd.protocols.http.request import HttpRequest
from inferd.types.datatype import BYTES
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Tensor
from models import identity
from protocols.http.harness import Wire, request
from protocols.http.oip.lanes import Lanes


@on_loop
async def test_outputs_that_cannot_be_written_are_an_error_and_not_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Lanes(identity(), tmp_path) as lanes:
        wrong = Tensor("y", BYTES, np.array([3, None], object))  # as no backend gives it

        def start(connection: HttpConnection, asked: HttpRequest) -> None:
            exchange = InferExchange(lanes.infer, connection, asked)
            exchange.answer(InferenceResponse("m", "1", [wrong]))

        wire = Wire(route=lambda head: start)
        wire.feed(request())
        (answer,) = wire.answers()
        assert answer.status == 500
        assert b"internal error: " in answer.body
        assert caplog.records[-1].exc_info
