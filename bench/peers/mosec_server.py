"""mosec: mosec_server.py --port 8501, with BENCH_BATCH as the largest batch, and a wait of 1 ms."""

import os
from typing import Any

from iris import Iris
from mosec import Server, Worker

BATCH = int(os.environ["BENCH_BATCH"])


class IrisWorker(Worker):  # type: ignore[misc]
    """The model as mosec wants it."""

    def __init__(self) -> None:
        super().__init__()
        self._iris = Iris()

    def forward(self, data: Any) -> Any:
        """One row, or several if batching is on."""
        return self._iris.predict(data) if BATCH == 1 else self._iris.predict_batch(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(IrisWorker, num=2, max_batch_size=BATCH, max_wait_time=1)
    server.run()
