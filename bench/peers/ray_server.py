"""Ray Serve: ray_server.py. BENCH_PORT is the port, BENCH_MODEL names the model, BENCH_BATCH the largest batch.

A batch waits 1 ms.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import peer_models
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

BATCH = int(os.environ["BENCH_BATCH"])
MODEL = os.environ["BENCH_MODEL"]


@serve.deployment(num_replicas=2, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class ModelDeployment:
    """The model as a Ray Serve deployment."""

    def __init__(self) -> None:
        self._model = peer_models.load()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)  # type: ignore[untyped-decorator]
    async def predict(self, rows: list[Any]) -> list[Any]:
        """Predict several rows."""
        return list(self._model.predict_batch(rows))

    async def __call__(self, request: Request) -> Any:
        """Answer one request."""
        if MODEL == "tensor":
            return self._model.predict(await request.body())
        row = await request.json()
        if MODEL == "stream":
            return StreamingResponse(self._lines(row))
        return await self.predict(row) if BATCH > 1 else self._model.predict(row)

    def _lines(self, rows: list[Any]) -> Iterator[str]:
        for item in self._model.predict(rows):
            yield json.dumps(item) + "\n"


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deployment: Any = ModelDeployment
    serve.run(deployment.bind(), route_prefix="/predict", blocking=True)
