"""Models that do what people's models do to the rows, to the process and to the machine. Each has one habit."""

from array import array
from typing import Any

import numpy as np
from ml_model_abc import MLModelException

from tests.services.models import _TestModel


class RowChanger(_TestModel):
    """Changes the list and the rows of a batch, then raises. Answers a row alone with what it holds."""

    def predict(self, data: Any) -> Any:
        return data

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        for row in rows:
            row["number"] = -1
        rows.reverse()
        del rows[1:]
        raise MLModelException("not today")


class OddReturns(_TestModel):
    """Returns for a batch what its first row names."""

    def predict(self, data: Any) -> Any:
        return data["number"]

    def predict_batch(self, rows: list[Any]) -> Any:
        numbers, kind = [row["number"] for row in rows], rows[0]["returns"]
        made: dict[str, Any] = {
            "list": numbers,
            "tuple": tuple(numbers),
            "array": np.array(numbers),
            "tolist": array("l", numbers),
            "matrix": np.array([numbers] * len(numbers)),
            "dict": dict.fromkeys(numbers, "x"),
            "set": set(numbers),
            "generator": (number for number in numbers),
            "text": "x" * len(numbers),
            "none": None,
            "scalar": np.float64(1.0),
            "short": numbers[1:],
            "long": [*numbers, 0],
        }
        rows.clear()
        return made[kind]


class Unreadable(_TestModel):
    """Returns a value that a stock client cannot read, or not easily, by its name."""

    def __init__(self) -> None:
        deep: Any = 0
        for _ in range(600):
            deep = [deep]
        self._values = {
            "number as key": {"scores": [{0: 0.9}]},
            "numpy number as key": {np.int64(3): 1},
            "none as key": [{"a": {None: 1}}],
            "key in an object array": np.array([{1: 2}, None], dtype=object),
            "too many bits": {"counts": [1, -(2**63) - 1]},
            "too deep": {"tree": deep},
            "surrogate": {"text": ["fine", "\ud800"]},
            "unknown": {"when": [1, object()]},
            "text and bytes as keys": {"a": {b"b": 1}, np.str_("c"): 2},
            "largest integers": [2**64 - 1, -(2**63)],
        }

    def predict(self, data: Any) -> Any:
        return self._values[data]

    def predict_stream(self, data: Any) -> Any:
        yield "first"
        yield self._values[data]
