"""mosec: mosec_server.py --port 8501. BENCH_BATCH is the largest batch; a batch waits 1 ms."""

import os
from typing import Any

from iris import Iris
from mosec import Server, Worker

BATCH = int(os.environ["BENCH_BATCH"])


class IrisWorker(Worker):  # type: ignore[misc]
    """The iris model as a mosec worker."""

    def __init__(self) -> None:
        super().__init__()
        self._iris = Iris()

    def forward(self, data: Any) -> Any:
        """Predict one row, or several rows with batches on."""
        return self._iris.predict(data) if BATCH == 1 else self._iris.predict_batch(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(IrisWorker, num=2, max_batch_size=BATCH, max_wait_time=1)
    server.run()
