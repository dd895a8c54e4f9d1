"""The worker's Prometheus metrics: one registry a process, made from plain counts when it is asked for."""

from collections.abc import Iterable, Mapping
from threading import Lock

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.histogram import Histogram
from cluster.wire.protocol import ModelDescription, ModelKey

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

OK = "ok"
INVALID_INPUT = "invalid_input"
ERROR = "error"

OUTCOMES = (OK, INVALID_INPUT, ERROR)


class ModelMetrics:
    """What is counted about one version of a model. One with several slots counts in several threads."""

    def __init__(self, model: ModelDescription) -> None:
        self.model = model
        self.lock = Lock()
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.duration = Histogram(_SECONDS)
        self.batch_size = Histogram(_ROWS)
        self.in_progress = 0

    def add(self, other: "ModelMetrics") -> None:
        """Count what was counted of another version of the model."""
        with other.lock:
            for outcome, count in other.outcomes.items():
                self.outcomes[outcome] += count
            self.duration.add(other.duration)
            self.batch_size.add(other.batch_size)
            self.in_progress += other.in_progress

    def begin(self, calls: int) -> None:
        """So many calls begin to be answered."""
        with self.lock:
            self.in_progress += calls

    def called(self, rows: int, seconds: float) -> None:
        """The model was called with so many rows, and took so long."""
        with self.lock:
            self.duration.observe(seconds, rows)
            self.batch_size.observe(rows)

    def give_up(self, calls: int) -> None:
        """So many calls will not be answered, because nobody waits for them."""
        with self.lock:
            self.in_progress -= calls

    def end(self, outcomes: Mapping[str, int]) -> None:
        """So many calls have ended so."""
        with self.lock:
            for outcome, count in outcomes.items():
                self.outcomes[outcome] += count
                self.in_progress -= count


class WorkerMetrics(Collector):
    """Every metric of a worker process.

    Attributes:
        registry: what `/metrics` shows.
        connected: whether the worker is registered with the broker.
    """

    def __init__(self) -> None:
        self.connected = False
        self._models: dict[ModelKey, ModelMetrics] = {}
        self._hosted: set[ModelKey] = set()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def of_model(self, model: ModelDescription) -> ModelMetrics:
        """The metrics of one version of a model, which is shown as hosted from now on."""
        made = self._models.get(model.key)
        if made is None:
            # A new dictionary, because a scrape may be reading the old one.
            made = ModelMetrics(model)
            self._models = {**self._models, model.key: made}
        self._hosted = {*self._hosted, model.key}
        return made

    def forget(self, key: ModelKey) -> None:
        """A model is hosted no longer; what was counted stays."""
        self._hosted = self._hosted - {key}

    def collect(self) -> Iterable[Metric]:
        """The families, with their values now."""
        predictions = CounterMetricFamily(
            "zerorpc_worker_predictions", "Calls of a model, by how they ended.", labels=["model", "outcome"]
        )
        duration = HistogramMetricFamily(
            "zerorpc_worker_prediction_duration_seconds",
            "Time in the model for a row, or for the batch that it was part of; of a stream of its own, for an item.",
            labels=["model"],
        )
        batch_size = HistogramMetricFamily(
            "zerorpc_worker_batch_size", "Rows given to the model at once.", labels=["model"]
        )
        in_progress = GaugeMetricFamily(
            "zerorpc_worker_predictions_in_progress", "Calls that are being answered now.", labels=["model"]
        )
        model_info = GaugeMetricFamily(
            "zerorpc_worker_model_info", "Always 1; what is hosted is in the labels.", labels=["model", "version"]
        )
        totals: dict[str, ModelMetrics] = {}
        for one in self._models.values():
            totals.setdefault(one.model.qualified_name, ModelMetrics(one.model)).add(one)
        for name, total in totals.items():
            for outcome, count in total.outcomes.items():
                predictions.add_metric([name, outcome], count)
            duration.add_metric([name], total.duration.cumulative(), total.duration.sum)
            batch_size.add_metric([name], total.batch_size.cumulative(), total.batch_size.sum)
            in_progress.add_metric([name], total.in_progress)
        for name, version in sorted(self._hosted):
            model_info.add_metric([name, str(version)], 1)
        connected = GaugeMetricFamily(
            "zerorpc_worker_connected", "1 while registered with the broker, else 0.", int(self.connected)
        )
        return [predictions, duration, batch_size, in_progress, model_info, connected]
