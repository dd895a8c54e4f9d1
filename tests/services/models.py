"""Models for tests. Each has one habit."""

import ctypes
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_model_abc import MLModel, MLModelException, MLModelSchemaValidationException


class _TestModel(MLModel):
    description = "A model for tests."
    major_version = 1
    minor_version = 0
    input_schema = None
    output_schema = None

    def __init__(self) -> None:
        pass

    @property
    def display_name(self) -> str:
        return type(self).__name__

    @property
    def qualified_name(self) -> str:
        return type(self).__name__.lower()


class Echo(_TestModel):
    """Returns its input."""

    def predict(self, data: Any) -> Any:
        return data


class Sleeper(_TestModel):
    """Sleeps for `data` seconds, and returns its process id."""

    def predict(self, data: Any) -> Any:
        time.sleep(data)
        return os.getpid()


class Pacer(_TestModel):
    """Sleeps for PACE_S seconds at every call, and returns its process id."""

    def __init__(self) -> None:
        self._pace_s = float(os.environ["PACE_S"])

    def predict(self, data: Any) -> Any:
        time.sleep(self._pace_s)
        return os.getpid()


class LockHolder(_TestModel):
    """Holds the interpreter's lock for `data` seconds, in a C call that does not release it and uses no CPU."""

    def __init__(self) -> None:
        self._poll = ctypes.PyDLL(None).poll

    def predict(self, data: Any) -> Any:
        started_s = time.monotonic()
        while (left_s := data - (time.monotonic() - started_s)) > 0:  # a signal ends the C call early
            self._poll(None, 0, int(1000 * left_s) + 1)
        return time.monotonic() - started_s


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class ForeverLockHolder(_TestModel):
    """Never returns from a C call that does not release the interpreter's lock."""

    def predict(self, data: Any) -> Any:
        return sum(itertools.repeat(0))


class Misbehaver(_TestModel):
    """Misbehaves in the way that `data` names."""

    def predict(self, data: Any) -> Any:
        if data == "exit":
            raise SystemExit(3)
        if data == "die":
            os._exit(1)
        if data == "unpackable":
            return {"x": object()}
        if data == "huge":
            return 2**70
        if data == "large":
            return b"x" * (66 << 20)
        if data == "nearly too large":
            return b"x" * (63 << 20)
        if data == "odd":
            raise OddError
        if data == "surrogate":
            raise MLModelException("bad \ud800 text")
        if data == "integer":
            raise MLModelSchemaValidationException("Key 'x' error:\n5 should be instance of 'float'")
        if data == "text":
            raise MLModelSchemaValidationException("Key 'x' error:\n'5' should be instance of 'float'")
        if data == "invalid":
            raise MLModelSchemaValidationException("not this")
        raise MLModelException(f"cannot: {data}")


class Gatherer(_TestModel):
    """Sleeps for `data` seconds for one row; for a batch, returns the number of rows for each row.

    A row "bad" fails alone, a row "raise" makes `predict_batch` raise, and "short" makes it return too few results.
    """

    def predict(self, data: Any) -> Any:
        if isinstance(data, str):
            raise MLModelException(f"{data} alone")
        time.sleep(data)
        return 1

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        if "raise" in rows:
            raise MLModelException("all of them")
        if "short" in rows:
            return [len(rows)]
        return [MLModelException("bad among others") if row == "bad" else len(rows) for row in rows]


class Counter(_TestModel):
    """Streams the numbers below `data`; if `data` is negative, streams as many and then raises."""

    def __init__(self) -> None:
        self._open = 0

    def predict(self, data: Any) -> Any:
        return {"open": self._open}

    def predict_stream(self, data: Any) -> Iterator[int]:
        self._open += 1
        try:
            yield from range(abs(data))
            if data < 0:
                raise MLModelException("enough")
        finally:
            self._open -= 1


class Deadly(Gatherer):
    """Ends its process at the row "die"."""

    def predict(self, data: Any) -> Any:
        if data == "die":
            os._exit(1)
        return super().predict(data)

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        return [self.predict(row) for row in rows]


class NumpyModel(_TestModel):
    """Returns what numpy returns."""

    def predict(self, data: Any) -> Any:
        import numpy as np

        return {"scalar": np.float64(0.5), "array": np.arange(3), "integer": np.int64(7)}


class SlowToLoad(Echo):
    """Takes SLOW_TO_LOAD_S seconds to load."""

    def __init__(self) -> None:
        time.sleep(float(os.environ["SLOW_TO_LOAD_S"]))


class NamesakeOfConstant(Echo):
    """Has the name and version of another model."""

    qualified_name = "constant"
    minor_version = 1


class FailsToLoad(Echo):
    """Does not load."""

    def __init__(self) -> None:
        raise OSError("the file of weights is gone")


class OddExamples(_TestModel):
    """Has examples of which only the first can be in the service's document."""

    input_examples = (1, 2**70, float("nan"), "\ud800", b"bytes")

    def predict(self, data: Any) -> Any:
        return {"of": data}


class Breakable(Echo):
    """Ends its process when it is loaded, if the file BREAKABLE_FILE exists."""

    def __init__(self) -> None:
        if Path(os.environ["BREAKABLE_FILE"]).exists():
            os._exit(7)


class BadlyNamed(Echo):
    """Has a name that a procedure cannot have."""

    qualified_name = "not a name"


class Abstract(MLModel):
    """Lacks nearly every property of a model."""


class NoModel:
    """Is not an MLModel."""
