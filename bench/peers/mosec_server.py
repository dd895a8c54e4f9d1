"""mosec: mosec_server.py --port 8501. BENCH_MODEL names the model, BENCH_BATCH the largest batch.

A batch waits 1 ms.
"""

import json
import os
from typing import Any

import peer_models
from mosec import Server, SSEWorker, Worker

BATCH = int(os.environ["BENCH_BATCH"])
MODEL = os.environ["BENCH_MODEL"]


class ModelWorker(Worker):  # type: ignore[misc]
    """The model as a mosec worker."""

    def __init__(self) -> None:
        super().__init__()
        self._model = peer_models.load()

    def forward(self, data: Any) -> Any:
        """Predict one row, or several rows with batches on."""
        return self._model.predict(data) if BATCH == 1 else self._model.predict_batch(data)


class BytesWorker(ModelWorker):
    """The same for a body that is no JSON."""

    def deserialize(self, data: bytes) -> Any:
        """Return the body."""
        return data


class StreamWorker(SSEWorker):  # type: ignore[misc]
    """The same for a stream, as server-sent events."""

    def __init__(self) -> None:
        super().__init__()
        self._model = peer_models.load()

    def forward(self, data: Any) -> None:
        """Send each item."""
        for item in self._model.predict(data):
            self.send_stream_event(json.dumps(item), index=0)


if __name__ == "__main__":
    server = Server()
    worker = {"tensor": BytesWorker, "stream": StreamWorker}.get(MODEL, ModelWorker)
    server.append_worker(worker, num=2, max_batch_size=BATCH, max_wait_time=1)
    server.run()
