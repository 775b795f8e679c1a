"""A ModelManager of a repository in a folder, and requests to its models."""

from pathlib import Path

import numpy as np

from fakes import turns
from inferd.batching.rate_limiter import RateLimiter
from inferd.errors import InferdError
from inferd.serving.answer_cache import Cache
from inferd.serving.model_manager import ModelManager
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.model import ModelReadyState
from inferd.types.tensor import Tensor


class Managed:
    """A manager of a repository, and requests to its models."""

    def __init__(
        self, folder: Path, limiter: RateLimiter | None = None, cache: Cache | None = None,
        gpus: int = 0,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.manager = ModelManager((folder,), 1, 2, limiter=limiter, cache=cache, gpus=gpus)

    async def __aenter__(self) -> "Managed":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.close()

    async def apply(self, retry: bool = True) -> None:
        """Bring the models to what the repository holds."""
        for source in (await self.manager.scan()).values():
            await self.manager.apply(source, retry)

    def request(self, name: str = "m", version: str = "") -> InferenceRequest:
        """A request of one row."""
        zeros = Tensor("x", FP32, np.zeros((1, 2), np.float32))
        return InferenceRequest(name, version, [zeros])

    async def ask(self, name: str = "m", version: str = "") -> float:
        """What a model adds to 0: it says which file answered."""
        answers: list[InferenceResponse | InferdError] = []
        served = self.manager.resolve(name, version)
        served.submit(self.request(name, version), answers.append)
        await served.batcher.drain()
        await turns(2)
        (answer,) = answers
        assert isinstance(answer, InferenceResponse), answer
        return float(answer.outputs[0].array[0, 0])

    def states(self) -> dict[tuple[str, int], tuple[ModelReadyState, str]]:
        return {(s.name, s.version): (s.state, s.reason) for s in self.manager.index()}
