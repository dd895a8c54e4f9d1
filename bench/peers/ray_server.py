"""Ray Serve: ray_server.py. BENCH_PORT is the port, BENCH_BATCH the largest batch; a batch waits 1 ms."""

import os
from typing import Any

import ray
from iris import Iris
from ray import serve
from starlette.requests import Request

BATCH = int(os.environ["BENCH_BATCH"])


@serve.deployment(num_replicas=2, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class IrisDeployment:
    """The iris model as a Ray Serve deployment."""

    def __init__(self) -> None:
        self._iris = Iris()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)  # type: ignore[untyped-decorator]
    async def predict(self, rows: list[Any]) -> list[Any]:
        """Predict several rows."""
        return list(self._iris.predict_batch(rows))

    async def __call__(self, request: Request) -> Any:
        """Answer one request."""
        row = await request.json()
        return await self.predict(row) if BATCH > 1 else self._iris.predict(row)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deployment: Any = IrisDeployment
    serve.run(deployment.bind(), route_prefix="/predict", blocking=True)
