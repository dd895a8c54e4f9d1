"""The worker's Prometheus metrics: one registry a process, made from plain counts at each scrape."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.jobs.counters import ModelCounters, WorkerCounters


class WorkerMetrics(Collector):
    """Every metric of a worker process.

    Attributes:
        registry: what `/metrics` shows.
    """

    def __init__(self, counters: WorkerCounters) -> None:
        self._counters = counters
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The metric families with their present values. The versions of a model count together."""
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
        totals: dict[str, ModelCounters] = {}
        for counters in self._counters.models.values():
            totals.setdefault(counters.model.qualified_name, ModelCounters(counters.model)).add(counters)
        for name, total in totals.items():
            for outcome, count in total.outcomes.items():
                predictions.add_metric([name, outcome], count)
            duration.add_metric([name], total.duration.cumulative(), total.duration.sum)
            batch_size.add_metric([name], total.batch_size.cumulative(), total.batch_size.sum)
            in_progress.add_metric([name], total.in_progress)
        for name, version in sorted(self._counters.hosted):
            model_info.add_metric([name, str(version)], 1)
        connected = GaugeMetricFamily(
            "zerorpc_worker_connected", "1 while registered with the broker, else 0.", int(self._counters.is_connected)
        )
        return [predictions, duration, batch_size, in_progress, model_info, connected]
