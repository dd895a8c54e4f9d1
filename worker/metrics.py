"""The worker's Prometheus metrics: one registry a process."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from cluster.protocol import ModelDescription

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

OUTCOMES = ("ok", "invalid_input", "error")


class ModelMetrics:
    """What is counted about one model; each metric is bound to its labels once, not at every call."""

    def __init__(self, metrics: "WorkerMetrics", model: str) -> None:
        self.outcomes = {outcome: metrics.predictions.labels(model, outcome) for outcome in OUTCOMES}
        self.duration = metrics.duration.labels(model)
        self.batch_size = metrics.batch_size.labels(model)
        self.in_progress = metrics.in_progress.labels(model)


class WorkerMetrics:
    """Every metric of a worker process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.predictions = Counter(
            "zerorpc_worker_predictions",
            "Predictions, by how they ended.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "zerorpc_worker_prediction_duration_seconds",
            "Time in the model, with unpacking its input and packing its output.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "zerorpc_worker_batch_size",
            "Rows given to the model at once.",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "zerorpc_worker_predictions_in_progress", "Predictions that run now.", ["model"], registry=self.registry
        )
        self.model_info = Gauge(
            "zerorpc_worker_model_info",
            "Always 1; what is hosted is in the labels.",
            ["model", "version"],
            registry=self.registry,
        )
        self.connected = Gauge(
            "zerorpc_worker_connected", "1 while registered with the broker, else 0.", registry=self.registry
        )

    def of_model(self, model: ModelDescription) -> ModelMetrics:
        """The metrics of one model, which is shown as hosted from now on."""
        self.model_info.labels(model.qualified_name, f"{model.major_version}.{model.minor_version}").set(1)
        return ModelMetrics(self, model.qualified_name)
