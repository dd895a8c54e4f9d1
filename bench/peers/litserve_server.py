"""LitServe: litserve_server.py. BENCH_PORT is the port, BENCH_BATCH the largest batch; a batch waits 1 ms."""

import os
from typing import Any

import litserve
from iris import Iris

BATCH = int(os.environ["BENCH_BATCH"])


class IrisAPI(litserve.LitAPI):  # type: ignore[misc]
    """The iris model as a LitServe API, with LitServe's own encoding of requests and responses."""

    def setup(self, device: str) -> None:
        """Load the model in a worker."""
        self._iris = Iris()

    def predict(self, x: Any) -> Any:
        """Predict one row."""
        return self._iris.predict(x)


class IrisBatchAPI(IrisAPI):
    """The same API with batches."""

    def predict(self, x: Any) -> Any:
        """Predict several rows."""
        return self._iris.predict_batch(x)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return the batch as a list."""
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the answers of a batch."""
        return output


if __name__ == "__main__":
    api = IrisAPI() if BATCH == 1 else IrisBatchAPI(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
