"""Ray Serve: one deployment with `serve.batch`, on a local Ray of its own."""

from typing import Any

import ray
from ray import serve
from served import PORT, SETTINGS, ServedModel
from starlette.requests import Request


@serve.deployment(
    num_replicas=SETTINGS["replicas"],
    max_ongoing_requests=SETTINGS["max_ongoing_requests"],
)
class Inference:
    """Answers `{"data": [...]}` with the model's output row."""

    def __init__(self) -> None:
        self._model = ServedModel()

    @serve.batch(
        max_batch_size=SETTINGS["max_batch_size"],
        batch_wait_timeout_s=SETTINGS["batch_wait_timeout_s"],
    )
    async def predict(self, rows: list[list[float]]) -> list[list[float]]:
        """Answers a batch."""
        outputs: list[list[float]] = self._model.run(rows).tolist()
        return outputs

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers one HTTP request."""
        body = await request.json()
        return {"data": await self.predict(body["data"])}


if __name__ == "__main__":
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Inference.bind(), blocking=True)
