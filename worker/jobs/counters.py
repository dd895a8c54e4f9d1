"""Counts what a worker does, in plain numbers. `worker.http.metrics` turns them into Prometheus metrics."""

from collections import deque
from threading import Lock

from cluster.histogram import Histogram
from cluster.wire.protocol import ModelDescription, ModelKey

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

OK = "ok"
INVALID_INPUT = "invalid_input"
ERROR = "error"

OUTCOMES = (OK, INVALID_INPUT, ERROR)


_STARTED = "started"
_CALLED = "called"


class ModelCounters:
    """The counts of one version of a model. A model with several slots counts in several threads.

    What happens is only noted at first, so that an answer does not wait until it is counted. `settle` counts it.

    Attributes, as they are after `settle`:
        outcomes: how many calls have ended, by outcome.
        duration: how long the model took, in seconds, observed once for each row.
        batch_size: how many rows the model got at once.
        in_progress: how many calls are being answered now.
    """

    def __init__(self, model: ModelDescription) -> None:
        self.model = model
        self._lock = Lock()
        # What has happened and is not counted yet: an outcome or another word, how many, and seconds if they matter.
        self._noted: deque[tuple[str, int, float]] = deque()
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.duration = Histogram(_SECONDS)
        self.batch_size = Histogram(_ROWS)
        self.in_progress = 0

    def add(self, other: "ModelCounters") -> None:
        """Add the counts of another version of the model."""
        other.settle()
        with other._lock:
            for outcome, count in other.outcomes.items():
                self.outcomes[outcome] += count
            self.duration.add(other.duration)
            self.batch_size.add(other.batch_size)
            self.in_progress += other.in_progress

    def on_calls_started(self, calls: int) -> None:
        """Note calls that the worker begins to answer."""
        self._noted.append((_STARTED, calls, 0.0))

    def on_model_called(self, rows: int, seconds: float) -> None:
        """Note one call of the model: how many rows it got, and how long it took in seconds."""
        self._noted.append((_CALLED, rows, seconds))

    def on_calls_dropped(self, calls: int) -> None:
        """Note calls that the worker stops answering without an outcome, such as cancelled ones."""
        self._noted.append((_STARTED, -calls, 0.0))

    def on_calls_ended(self, outcome: str, calls: int) -> None:
        """Note calls that have ended."""
        self._noted.append((outcome, calls, 0.0))

    def settle(self) -> None:
        """Count what has been noted. For any thread."""
        noted = self._noted
        with self._lock:
            while noted:
                what, count, seconds = noted.popleft()
                if what is _STARTED:
                    self.in_progress += count
                elif what is _CALLED:
                    self.duration.observe(seconds, count)
                    self.batch_size.observe(count)
                else:
                    self.outcomes[what] += count
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
