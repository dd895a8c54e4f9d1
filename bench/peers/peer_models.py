"""The models of every peer, of which BENCH_MODEL names one. They do not validate input: peers have no cost of that."""

import base64
import os
from collections.abc import Iterator
from typing import Any

from iris_model import iris_files
from iris_model.iris_predict import SPECIES

from bench import work

KEYS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


class Iris:
    """Predicts the species of irises: of one row, or of a batch of them."""

    def __init__(self) -> None:
        self._estimator = iris_files.load()

    def predict_batch(self, rows: list[dict[str, float]]) -> list[dict[str, str]]:
        """Return the species of each row."""
        measurements = [[row[key] for key in KEYS] for row in rows]
        return [{"species": SPECIES[number]} for number in self._estimator.predict(measurements).tolist()]

    def predict(self, row: dict[str, float]) -> dict[str, str]:
        """Return the species of one row."""
        return self.predict_batch([row])[0]


class ManyIrises(Iris):
    """Predicts the species of many irises in one call."""

    def predict(self, row: Any) -> Any:
        """Return the species of all rows."""
        return self.predict_batch(row)


class Tensor:
    """Returns the mean of a tensor."""

    def predict(self, data: Any) -> float:
        """Take the bytes as they are, or as base64 in JSON."""
        return work.mean(data if isinstance(data, (bytes, bytearray)) else base64.b64decode(data["data"]))


class Slow:
    """Computes for some 5 ms."""

    def predict(self, _: Any) -> str:
        """Compute."""
        return work.compute()


class Stream:
    """Yields its rows."""

    def predict(self, rows: list[Any]) -> Iterator[Any]:
        """Yield one row after the other."""
        return work.items(rows)


def load() -> Any:
    """Return the model that BENCH_MODEL names."""
    models = {"row": Iris, "rows": ManyIrises, "tensor": Tensor, "slow": Slow, "stream": Stream}
    return models[os.environ["BENCH_MODEL"]]()
