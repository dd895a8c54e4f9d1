"""LitServe: litserve_server.py. BENCH_PORT is the port, BENCH_MODEL names the model, BENCH_BATCH the largest batch.

A batch waits 1 ms.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import litserve
import peer_models

BATCH = int(os.environ["BENCH_BATCH"])
IS_STREAM = os.environ["BENCH_MODEL"] == "stream"


class ModelAPI(litserve.LitAPI):  # type: ignore[misc]
    """The model as a LitServe API, with LitServe's own encoding of requests and responses."""

    def setup(self, device: str) -> None:
        """Load the model in a worker."""
        self._model = peer_models.load()

    def predict(self, x: Any) -> Any:
        """Predict one row."""
        return self._model.predict(x)


class BatchAPI(ModelAPI):
    """The same API with batches."""

    def predict(self, x: Any) -> Any:
        """Predict several rows."""
        return self._model.predict_batch(x)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return the batch as a list."""
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the answers of a batch."""
        return output


class StreamAPI(ModelAPI):
    """The same API for a stream."""

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield the items."""
        yield from self._model.predict(x)

    def encode_response(self, output: Any) -> Any:  # LitServe gives FastAPI the type as that of the response
        """Yield one line of JSON for each item."""
        for item in output:
            yield json.dumps(item) + "\n"


if __name__ == "__main__":
    if IS_STREAM:
        api = StreamAPI(stream=True)
    else:
        api = ModelAPI() if BATCH == 1 else BatchAPI(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
