"""Models that do what people's models do to the rows, to the process and to the machine. Each has one habit."""

import asyncio
import ctypes
import locale
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from array import array
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client
import zerorpc
from ml_model_abc import MLModelException
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from schema import Optional, Schema

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


class Disagreeing(_TestModel):
    """Answers a batch otherwise than a row alone."""

    def predict(self, data: Any) -> Any:
        return "alone"

    def predict_batch(self, rows: list[Any]) -> Any:
        return ["batch"] * len(rows)


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


class Forker(_TestModel):
    """Has a pool of processes from its constructor on, as models that compute much have."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
        self._pids = list(self._pool.map(_pid, range(8)))

    def predict(self, data: Any) -> Any:
        if data == "terminate":
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
            child.start()
            child.terminate()
            child.join(5)
            return child.exitcode
        if data == "log":
            child = multiprocessing.get_context("fork").Process(target=_log_a_line)
            child.start()
            child.join(5)
            return child.exitcode
        return self._pids


def _pid(_number: int) -> int:
    time.sleep(0.05)  # so that every process gets some
    return os.getpid()


def _log_a_line() -> None:
    logging.getLogger("child").warning("a line of a child")


class SignalTaker(_TestModel):
    """Installs a handler of SIGTERM of its own, which does not end the process."""

    def __init__(self) -> None:
        signal.signal(signal.SIGTERM, _ignore)
        signal.set_wakeup_fd(-1)

    def predict(self, data: Any) -> Any:
        time.sleep(data)
        return data


class LibrarySignalTaker(_TestModel):
    """Ignores SIGTERM by the C library, of which Python learns nothing."""

    def __init__(self) -> None:
        ctypes.CDLL(None).signal(signal.SIGTERM, 1)  # SIG_IGN

    def predict(self, data: Any) -> Any:
        return data


def _ignore(_signal: int, _frame: object) -> None:
    pass


class ThreadKeeper(_TestModel):
    """Has a thread that is no daemon and never ends."""

    def __init__(self) -> None:
        threading.Thread(target=time.sleep, args=[3600], name="keeper").start()

    def predict(self, data: Any) -> Any:
        return data


class FailsAfterThread(ThreadKeeper):
    """Starts a thread that never ends, and then fails."""

    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("no weights")


class ThreadLoser(_TestModel):
    """Starts a thread that dies of an exception."""

    def predict(self, data: Any) -> Any:
        thread = threading.Thread(target=lambda: 1 / 0, name="loser")
        thread.start()
        thread.join()
        return data


class Reader(_TestModel):
    """Reads standard input."""

    def predict(self, data: Any) -> Any:
        return sys.stdin.read()


class Wanderer(_TestModel):
    """Changes what all code of a process shares, and prints much."""

    def predict(self, data: Any) -> Any:
        os.chdir("/")
        os.environ["WANDERED"] = "yes"
        locale.setlocale(locale.LC_ALL, "C")
        for _ in range(data):
            print("x" * 1_000_000)  # noqa: T201
        return asyncio.run(_later(data))


async def _later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


class Warming(_TestModel):
    """Is warmed up before its first call; then it shows an example."""

    input_examples = (1,)

    def __init__(self) -> None:
        self._done = ["__init__"]

    def warm_up(self) -> None:
        self._done.append("warm_up")

    def predict(self, data: Any) -> Any:
        self._done.append("predict")
        return self._done


class ThreadCounter(_TestModel):
    """Returns how many threads numeric libraries use."""

    def predict(self, data: Any) -> Any:
        return {name: os.environ.get(name) for name in data}


class Instrumented(_TestModel):
    """Has a metric of its own, and a collector that fails."""

    def __init__(self) -> None:
        if os.environ.get("BROKEN_FILE") and Path(os.environ["BROKEN_FILE"]).exists():
            raise RuntimeError("the file is there")
        REGISTRY.register(_FailingCollector())

    def predict(self, data: Any) -> Any:
        ROWS.labels("seen").inc(data)
        return data


ROWS = prometheus_client.Counter("habits_rows", "Rows that the model has seen.", ["what"])


class _FailingCollector(Collector):
    def describe(self) -> list[Any]:
        return [GaugeMetricFamily("habits_failing", "Never there.")]

    def collect(self) -> Any:
        raise RuntimeError("cannot count")


class OddSchemas(_TestModel):
    """Has schemas that JSON Schema has no form for."""

    input_schema: Any = Schema(
        {"array": np.ndarray, "any": object, int: str, Optional("nan", default=float("nan")): float}
    )

    @property
    def output_schema(self) -> Any:  # type: ignore[override]
        raise AttributeError("there is none")

    def predict(self, data: Any) -> Any:
        return data


class Patcher(_TestModel):
    """Has gevent patch the process."""

    def __init__(self) -> None:
        import gevent.monkey

        gevent.monkey.patch_all()

    def predict(self, data: Any) -> Any:
        return data


class ClientKeeper(_TestModel):
    """Keeps a client from its constructor."""

    def __init__(self) -> None:
        self.client = zerorpc.Client("tcp://127.0.0.1:1")

    def predict(self, data: Any) -> Any:
        return data


class Asker(_TestModel):
    """Calls another model, with a client of its own for each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def predict(self, data: Any) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = zerorpc.Client(os.environ["ASKED"], timeout=20)
        if data.get("sleep"):
            time.sleep(data["sleep"])
        return self._local.client.echo_predict(data)
