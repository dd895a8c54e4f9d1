"""Counts what a worker does, in plain numbers. `worker.http.metrics` turns them into Prometheus metrics."""

from collections.abc import Mapping
from threading import Lock

from cluster.histogram import Histogram
from cluster.wire.protocol import ModelDescription, ModelKey

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

OK = "ok"
INVALID_INPUT = "invalid_input"
ERROR = "error"

OUTCOMES = (OK, INVALID_INPUT, ERROR)


class ModelCounters:
    """The counts of one version of a model. A model with several slots counts in several threads.

    Attributes:
        outcomes: how many calls have ended, by outcome.
        duration: how long the model took, in seconds, observed once for each row.
        batch_size: how many rows the model got at once.
        in_progress: how many calls are being answered now.
    """

    def __init__(self, model: ModelDescription) -> None:
        self.model = model
        self.lock = Lock()
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.duration = Histogram(_SECONDS)
        self.batch_size = Histogram(_ROWS)
        self.in_progress = 0

    def add(self, other: "ModelCounters") -> None:
        """Add the counts of another version of the model."""
        with other.lock:
            for outcome, count in other.outcomes.items():
                self.outcomes[outcome] += count
            self.duration.add(other.duration)
            self.batch_size.add(other.batch_size)
            self.in_progress += other.in_progress

    def on_calls_started(self, calls: int) -> None:
        """Count calls that the worker begins to answer."""
        with self.lock:
            self.in_progress += calls

    def on_model_called(self, rows: int, seconds: float) -> None:
        """Count one call of the model: how many rows it got, and how long it took in seconds."""
        with self.lock:
            self.duration.observe(seconds, rows)
            self.batch_size.observe(rows)

    def on_calls_dropped(self, calls: int) -> None:
        """Count calls that the worker stops answering without an outcome, such as cancelled ones."""
        with self.lock:
            self.in_progress -= calls

    def on_calls_ended(self, outcomes: Mapping[str, int]) -> None:
        """Count calls that have ended, by outcome."""
        with self.lock:
            for outcome, count in outcomes.items():
                self.outcomes[outcome] += count
                self.in_progress -= count


class WorkerCounters:
    """The counts of a worker process. One thread at a time changes them; any thread may read them.

    Attributes:
        is_connected: whether the worker is registered with the broker.
        models: the counts of every version that the process has hosted.
        hosted: the versions that it hosts now.
    """

    def __init__(self) -> None:
        self.is_connected = False
        self.models: dict[ModelKey, ModelCounters] = {}
        self.hosted: frozenset[ModelKey] = frozenset()

    def host(self, model: ModelDescription) -> ModelCounters:
        """Count a version as hosted from now on, and return its counters."""
        counters = self.models.get(model.key)
        if counters is None:
            # A new dictionary, because another thread may be reading the old one.
            counters = ModelCounters(model)
            self.models = {**self.models, model.key: counters}
        self.hosted |= {model.key}
        return counters

    def remove(self, key: ModelKey) -> None:
        """Count a version as hosted no longer. Its counts stay."""
        self.hosted -= {key}
