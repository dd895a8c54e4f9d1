"""Models for tests, each with one habit."""

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
    """Sleeps as many seconds as it is told, and returns the process that did."""

    def predict(self, data: Any) -> Any:
        time.sleep(data)
        return os.getpid()


class Pacer(_TestModel):
    """Takes as long as its process is told by PACE_S, whatever it is asked; returns the process."""

    def __init__(self) -> None:
        self._pace_s = float(os.environ["PACE_S"])

    def predict(self, data: Any) -> Any:
        time.sleep(self._pace_s)
        return os.getpid()


class LockHolder(_TestModel):
    """Computes for as many seconds as it is told in one C call that does not let go of the interpreter."""

    def predict(self, data: Any) -> Any:
        started_s = time.monotonic()
        while time.monotonic() - started_s < data:
            sum(range(2_000_000))
        return time.monotonic() - started_s


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class ForeverLockHolder(_TestModel):
    """Never comes back from one C call that does not let go of the interpreter."""

    def predict(self, data: Any) -> Any:
        return sum(itertools.repeat(0))


class Misbehaver(_TestModel):
    """Does what it is told to, all of it bad."""

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
        if data == "invalid":
            raise MLModelSchemaValidationException("not this")
        raise MLModelException(f"cannot: {data}")


class Gatherer(_TestModel):
    """Takes as many seconds as it is told for one row; for several it says with how many each came.

    A row "bad" is refused alone, a row "raise" makes `predict_batch` raise, and "short" makes it return too little.
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
    """Streams the numbers below the one that it is told, and raises after as many if that is negative."""

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
    """Dies of one row, and takes the others with it."""

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
    """Takes as long to load as SLOW_TO_LOAD_S says."""

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
    """Has examples of which only the first can be shown."""

    input_examples = (1, 2**70, float("nan"), "\ud800", b"bytes")

    def predict(self, data: Any) -> Any:
        return {data: 1.0}


class Breakable(Echo):
    """Takes its process with it when it is loaded, once a file is there."""

    def __init__(self) -> None:
        if Path(os.environ["BREAKABLE_FILE"]).exists():
            os._exit(7)


class BadlyNamed(Echo):
    """Has a name that no procedure can have."""

    qualified_name = "not a name"


class Abstract(MLModel):
    """Lacks nearly everything."""


class NoModel:
    """Is no MLModel."""
