"""The broker's Prometheus metrics, made from the counts of the routing core at each scrape."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.core.core import Core
from broker.core.state.counters import ERROR, OK, SECONDS, UNKNOWN_METHOD, from_zero
from broker.core.state.pool import WorkerPool
from broker.core.state.procedures import Target
from cluster import __version__
from cluster.histogram import Histogram

Answer = TypeVar("Answer")


def registry(core: Core, ask: Callable[[Callable[[], list[Metric]]], list[Metric]]) -> CollectorRegistry:
    """Return the Prometheus registry of a broker process.

    Args:
        core: the core whose counts are shown.
        ask: calls a function in the thread that may read the core (`Loop.ask`).
    """
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    made.register(_CoreCollector(core, ask))
    return made


class _CoreCollector(Collector):
    def __init__(self, core: Core, ask: Callable[[Callable[[], list[Metric]]], list[Metric]]) -> None:
        self._core = core
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        return families(self._core)  # called at registration, before the loop runs

    def collect(self) -> Iterable[Metric]:
        return self._ask(lambda: families(self._core))


def families(core: Core) -> list[Metric]:
    """Return every metric of the broker with its current values."""
    return [*_by_method(core), *_by_version(core), *_by_worker(core), *_broker_wide(core)]


def _by_method(core: Core) -> list[Metric]:
    requests = CounterMetricFamily("zerorpc_broker_requests", "Requests, by outcome.", labels=["method", "outcome"])
    duration = HistogramMetricFamily(
        "zerorpc_broker_request_duration_seconds", "Time from a call's arrival to its last event.", labels=["method"]
    )
    queue_wait = HistogramMetricFamily(
        "zerorpc_broker_queue_wait_seconds",
        "Time from a call's arrival to its dispatch to a worker.",
        labels=["method"],
    )
    queue_depth = GaugeMetricFamily("zerorpc_broker_queue_depth", "Calls that wait in the queue.", labels=["method"])
    waiting = Counter(call.target.procedure for queue in core.calls.queues.values() for call in queue)
    for procedure in core.registry.counted():
        for outcome, count in procedure.all_outcomes().items():
            requests.add_metric([procedure.name, outcome], count)
        if procedure.model is not None:
            targets = procedure.targets.values()
            _add(duration, [procedure.name], [target.duration for target in targets])
            _add(queue_wait, [procedure.name], [target.queue_wait for target in targets])
            queue_depth.add_metric([procedure.name], waiting[procedure])
    for outcome, count in core.counters.unknown_method.items():
        requests.add_metric([UNKNOWN_METHOD, outcome], count)
    return [requests, duration, queue_wait, queue_depth]


def _by_version(core: Core) -> list[Metric]:
    requests = CounterMetricFamily(
        "zerorpc_broker_version_requests",
        "Requests that went to a version of a model, by outcome.",
        labels=["model", "version", "outcome"],
    )
    duration = HistogramMetricFamily(
        "zerorpc_broker_version_request_duration_seconds",
        "Time from a call's arrival to its last event, by version of the model.",
        labels=["model", "version"],
    )
    workers = GaugeMetricFamily(
        "zerorpc_broker_version_workers", "Ready workers that host a version of a model.", labels=["model", "version"]
    )
    targets: defaultdict[WorkerPool, list[Target]] = defaultdict(list)
    for procedure in core.registry.counted():
        for pool, target in procedure.targets.items():
            targets[pool].append(target)
    for name, model_versions in core.registry.models.items():
        for one in model_versions.versions.values():
            labels = [name, str(one.version)]
            theirs = [target for pool in one.pools for target in targets[pool]]
            outcomes = from_zero(OK, ERROR)
            for target in theirs:
                outcomes.update(target.outcomes)
            for outcome, count in outcomes.items():
                requests.add_metric([*labels, outcome], count)
            _add(duration, labels, [target.duration for target in theirs])
            workers.add_metric(labels, len(one.calls.replicas))
    return [requests, duration, workers]


def _add(family: HistogramMetricFamily, labels: list[str], histograms: Iterable[Histogram]) -> None:
    total = Histogram(SECONDS)
    for histogram in histograms:
        total.add(histogram)
    family.add_metric(labels, total.cumulative(), total.sum)


def _by_worker(core: Core) -> list[Metric]:
    dispatched = CounterMetricFamily("zerorpc_broker_dispatched", "Calls dispatched to a worker.", labels=["worker"])
    inflight = GaugeMetricFamily(
        "zerorpc_broker_inflight", "Calls that a worker has not answered yet.", labels=["worker"]
    )
    workers = GaugeMetricFamily("zerorpc_broker_workers", "Registered workers, by state.", labels=["state"])
    calls: Counter[str] = Counter()
    unanswered: Counter[str] = Counter()
    for worker in core.registry.workers.values():  # a process may be registered twice for a moment
        calls[worker.description.process] += worker.dispatched
        unanswered[worker.description.process] += worker.in_flight
    for process in calls:
        dispatched.add_metric([process], calls[process])
        inflight.add_metric([process], unanswered[process])
    states = Counter(worker.state for worker in core.registry.workers.values())
    workers.add_metric(["ready"], states["ready"])
    workers.add_metric(["draining"], states["draining"])
    return [dispatched, inflight, workers]


def _by_model(core: Core) -> Metric:
    ready = GaugeMetricFamily("zerorpc_broker_model_workers", "Ready workers that host a model.", labels=["model"])
    for name, model_versions in core.registry.models.items():
        if model_versions.callable_versions:
            hosts = {replica.worker for one in model_versions.callable_versions for replica in one.calls.replicas}
            ready.add_metric([name], len(hosts))
    return ready


def _broker_wide(core: Core) -> list[Metric]:
    counts = core.counters
    lost = CounterMetricFamily("zerorpc_broker_worker_lost", "Workers that were lost or evicted.", labels=["reason"])
    bad_frames = CounterMetricFamily(
        "zerorpc_broker_bad_frames", "Malformed or unexpected messages that were dropped.", labels=["reason"]
    )
    dropped = CounterMetricFamily(
        "zerorpc_broker_clients_dropped", "Clients that were dropped with open calls.", labels=["reason"]
    )
    state_file = CounterMetricFamily(
        "zerorpc_broker_state_file_failures",
        "Broken state files that were set aside at the start, and plans that could not be written.",
        labels=["reason"],
    )
    for family, values in (
        (state_file, counts.state_file),
        (lost, counts.worker_lost),
        (bad_frames, counts.bad_frames),
        (dropped, counts.clients_dropped),
    ):
        for reason, count in values.items():
            family.add_metric([reason], count)
    draining = GaugeMetricFamily(
        "zerorpc_broker_draining", "1 while the broker drains and refuses new calls, else 0.", int(core.draining)
    )
    build_info = GaugeMetricFamily(
        "zerorpc_broker_build_info", "Always 1; the label has the version.", labels=["version"]
    )
    build_info.add_metric([__version__], 1)
    return [
        lost,
        bad_frames,
        dropped,
        state_file,
        CounterMetricFamily(
            "zerorpc_broker_retries",
            "Calls that were sent to a second worker after the first one died.",
            counts.retries,
        ),
        CounterMetricFamily(
            "zerorpc_broker_late_replies", "Answers of workers to calls that had ended.", counts.late_replies
        ),
        GaugeMetricFamily("zerorpc_broker_open_channels", "Open calls.", len(core.calls)),
        GaugeMetricFamily(
            "zerorpc_broker_loop_lag_seconds",
            "Longest turn of the message loop in the last 15 to 30 seconds.",
            counts.turn_s.highest(),
        ),
        draining,
        _by_model(core),
        build_info,
    ]
