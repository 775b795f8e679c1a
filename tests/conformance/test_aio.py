"""The asyncio client of tritonclient against the same server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

from conformance.models import ODD_NAME, one, pair, tensor
from lifecycle.onnx_models import STEPS_PER_MS
from lifecycle.process import ServerProcess

Client: TypeAlias = triton.InferenceServerClient


def ask(server: ServerProcess, work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run a coroutine with a client."""

    async def main() -> Any:
        async with Client(server.address) as client:
            return await work(client)

    return asyncio.run(main())


def test_health_and_metadata(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("add_sub", "1")
        assert not await client.is_model_ready("nope")
        assert (await client.get_server_metadata())["name"] == "inferd"
        assert (await client.get_model_metadata("add_sub"))["versions"] == ["1"]
        assert (await client.get_model_config("add_sub"))["max_batch_size"] == 8
        assert (await client.get_model_metadata(ODD_NAME))["name"] == ODD_NAME

    ask(server, work)


def test_statistics_and_index(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        stats = await client.get_inference_statistics("add_sub")
        assert stats["model_stats"][0]["name"] == "add_sub"
        index = await client.get_model_repository_index()
        assert {"name": "add_sub", "version": "1", "state": "READY", "reason": ""} in index

    ask(server, work)


def test_load_and_unload(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        await client.unload_model("switched")
        assert not await client.is_model_ready("switched")
        await client.load_model("switched")
        assert await client.is_model_ready("switched")

    ask(server, work)


def test_many_requests_at_once_get_their_own_answers(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        async def ask_one(number: int) -> None:
            sent = np.full((1, 4), number, np.float32)
            made = tensor("INPUT0", "FP32", sent, binary=number % 2 == 0)
            result = await client.infer("id_FP32", [made], request_id=str(number))
            assert result.get_response()["id"] == str(number)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent)

        await asyncio.gather(*[ask_one(number) for number in range(64)])

    ask(server, work)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(server: ServerProcess, algorithm: str) -> None:
    async def work(client: Client) -> None:
        sent = np.arange(4000, dtype=np.float32).reshape(2, 2000)
        result = await client.infer(
            "id_FP32",
            [tensor("INPUT0", "FP32", sent)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent)

    ask(server, work)


def test_errors_are_exceptions_with_a_status(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(InferenceServerException, match="unknown model: 'nope'") as error:
            await client.infer("nope", pair())
        assert error.value.status() == "404"
        with pytest.raises(InferenceServerException, match="expected 2 inputs but got 1"):
            await client.infer("add_sub", pair()[:1])

    ask(server, work)


def test_a_request_that_is_given_up_does_not_disturb_others(server: ServerProcess) -> None:
    async def work(client: Client) -> None:
        held = client.infer("held", one(200 * STEPS_PER_MS))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.05)
        result = await client.infer("add_sub", pair())
        assert result.as_numpy("OUTPUT0").shape == (1, 16)

    ask(server, work)
