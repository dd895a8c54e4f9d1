"""The broker's Prometheus metrics, made from a copy of the core's counts at each scrape, outside the message loop."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from broker.core.core import Core
from broker.core.state.counters import ERROR, OK, SECONDS, UNKNOWN_METHOD, from_zero
from broker.core.state.pool import WorkerPool
from broker.http.slices import Ask, ask_directly
from broker.http.snapshot import BrokerCounts, Snapshot, TargetCounts
from cluster import __version__
from cluster.histogram import Histogram

SAMPLES_AT_ONCE = 50
"""Samples after which a scrape pauses. Python runs one thread at a time, and without pauses the message loop would wait
up to 5 ms (`sys.getswitchinterval`) after each of its system calls."""

PAUSE_S = 0.0001
"""Length of that pause, in seconds: just enough to let the message loop run."""

Rows = Iterator[tuple[tuple[str, ...], float]]
"""Label values, and the value."""


def registry(core: Core, ask: Ask) -> CollectorRegistry:
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


def page(of: CollectorRegistry) -> bytes:
    """Return all metrics as text.

    Each family is joined by itself, because Python runs nothing else while it joins strings.
    """
    return b"".join([generate_latest(_One(family)) for family in of.collect()])


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class _CoreCollector(Collector):
    def __init__(self, core: Core, ask: Ask) -> None:
        self._core = core
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        return families(self._core)  # called at registration, before the loop runs

    def collect(self) -> Iterable[Metric]:
        return families(self._core, self._ask)


def families(core: Core, ask: Ask = ask_directly) -> list[Metric]:
    """Return every metric of the broker with its current values."""
    counts = Snapshot(core, ask)
    return [*_by_method(counts), *_by_version(counts), *_by_worker(counts), *_broker_wide(counts.broker, counts)]


class _Samples(list[Sample]):
    """The samples of a family, made one by one when they are written: all of them at once would take much memory."""

    def __init__(self, make: Callable[[], Iterator[Sample]]) -> None:
        super().__init__()
        self._make = make

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(self._make(), start=1):
            if number % SAMPLES_AT_ONCE == 0:
                time.sleep(PAUSE_S)
            yield sample


def _family(kind: str, name: str, text: str, samples: Callable[[str], Iterator[Sample]]) -> Metric:
    family = Metric(name, text, kind)
    family.samples = _Samples(lambda: samples(f"{name}_total" if kind == "counter" else name))
    return family


def _values(kind: str, name: str, text: str, labels: tuple[str, ...], rows: Callable[[], Rows]) -> Metric:
    """Return a counter or a gauge."""
    return _family(
        kind,
        name,
        text,
        lambda sample: (Sample(sample, dict(zip(labels, values, strict=True)), value) for values, value in rows()),
    )


def _histograms(
    name: str, text: str, labels: tuple[str, ...], rows: Callable[[], Iterator[tuple[tuple[str, ...], Histogram]]]
) -> Metric:
    def samples(_: str) -> Iterator[Sample]:
        for values, histogram in rows():
            named = dict(zip(labels, values, strict=True))
            buckets = histogram.cumulative()
            for bound, count in buckets:
                yield Sample(f"{name}_bucket", {**named, "le": bound}, count)
            yield Sample(f"{name}_count", named, buckets[-1][1])
            yield Sample(f"{name}_sum", named, histogram.sum)

    return _family("histogram", name, text, samples)


def _total(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram(SECONDS)
    for histogram in histograms:
        total.add(histogram)
    return total


def _by_method(counts: Snapshot) -> list[Metric]:
    def requests() -> Rows:
        for procedure in counts.procedures:
            outcomes = Counter(procedure.outcomes)
            for target in procedure.targets:
                outcomes.update(target.outcomes)
            for outcome, count in outcomes.items():
                yield (procedure.name, outcome), count
        for outcome, count in counts.broker.unknown_method.items():
            yield (UNKNOWN_METHOD, outcome), count

    def histograms(which: int) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        for procedure in counts.procedures:
            if procedure.owner is not None:
                former = [procedure.former[which]] if procedure.former is not None else []
                now = [(target.duration, target.queue_wait)[which] for target in procedure.targets]
                yield (procedure.name,), _total([*former, *now])

    def depths() -> Rows:
        for procedure in counts.procedures:
            if procedure.owner is not None:
                yield (procedure.name,), sum(target.waiting for target in procedure.targets)

    by_method = ("method",)
    return [
        _values("counter", "zerorpc_broker_requests", "Requests, by outcome.", ("method", "outcome"), requests),
        _histograms(
            "zerorpc_broker_request_duration_seconds",
            "Time from a call's arrival to its last event.",
            by_method,
            lambda: histograms(0),
        ),
        _histograms(
            "zerorpc_broker_queue_wait_seconds",
            "Time from a call's arrival to its dispatch to a worker.",
            by_method,
            lambda: histograms(1),
        ),
        _values("gauge", "zerorpc_broker_queue_depth", "Calls that wait in the queue.", by_method, depths),
    ]


def _by_version(counts: Snapshot) -> list[Metric]:
    targets: defaultdict[WorkerPool, list[TargetCounts]] = defaultdict(list)
    for procedure in counts.procedures:
        for target in procedure.targets:
            targets[target.pool].append(target)

    def versions() -> Iterator[tuple[tuple[str, str], list[TargetCounts], int]]:
        for model in counts.models:
            for one in model.versions:
                theirs = [target for pool in one.pools for target in targets.get(pool, ())]
                yield (model.name, str(one.version)), theirs, one.workers

    def requests() -> Rows:
        for labels, theirs, _ in versions():
            outcomes = from_zero(OK, ERROR)
            for target in theirs:
                outcomes.update(target.outcomes)
            for outcome, count in outcomes.items():
                yield (*labels, outcome), count

    by_version = ("model", "version")
    return [
        _values(
            "counter",
            "zerorpc_broker_version_requests",
            "Requests that went to a version of a model, by outcome.",
            (*by_version, "outcome"),
            requests,
        ),
        _histograms(
            "zerorpc_broker_version_request_duration_seconds",
            "Time from a call's arrival to its last event, by version of the model.",
            by_version,
            lambda: ((labels, _total(target.duration for target in theirs)) for labels, theirs, _ in versions()),
        ),
        _values(
            "gauge",
            "zerorpc_broker_version_workers",
            "Ready workers that host a version of a model.",
            by_version,
            lambda: ((labels, workers) for labels, _, workers in versions()),
        ),
    ]


def _by_worker(counts: Snapshot) -> list[Metric]:
    calls: Counter[str] = Counter()
    unanswered: Counter[str] = Counter()
    for worker in counts.workers:  # a process may be registered twice for a moment
        calls[worker.label] += worker.dispatched
        unanswered[worker.label] += worker.in_flight
    states = {"ready": 0, "draining": 0} | Counter(one.state for one in counts.workers if not one.service)
    servers = dict.fromkeys(counts.services, 0) | Counter(one.service for one in counts.workers if one.service)
    return [
        _by_label("counter", "zerorpc_broker_dispatched", "Calls dispatched to a worker.", "worker", calls),
        _by_label(
            "gauge", "zerorpc_broker_inflight", "Calls that a worker has not answered yet.", "worker", unanswered
        ),
        _by_label("gauge", "zerorpc_broker_workers", "Registered workers, by state.", "state", states),
        _by_label("gauge", "zerorpc_broker_servers", "Stock ZeroRPC servers, by service.", "service", servers),
    ]


def _by_label(kind: str, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _values(kind, name, text, (label,), lambda: (((one,), value) for one, value in values.items()))


def _single(kind: str, name: str, text: str, value: float) -> Metric:
    return _values(kind, name, text, (), lambda: iter([((), value)]))


def _broker_wide(counts: BrokerCounts, all_counts: Snapshot) -> list[Metric]:
    able = [model for model in all_counts.models if any(one.is_callable for one in model.versions)]
    return [
        _by_label(
            "counter",
            "zerorpc_broker_worker_lost",
            "Workers that were lost or evicted.",
            "reason",
            counts.worker_lost,
        ),
        _by_label(
            "counter",
            "zerorpc_broker_bad_frames",
            "Malformed or unexpected messages that were dropped.",
            "reason",
            counts.bad_frames,
        ),
        _by_label(
            "counter",
            "zerorpc_broker_clients_dropped",
            "Clients that were dropped with open calls.",
            "reason",
            counts.clients_dropped,
        ),
        _by_label(
            "counter",
            "zerorpc_broker_state_file_failures",
            "Broken state files that were set aside at the start, and plans that could not be written.",
            "reason",
            counts.state_file,
        ),
        _by_label(
            "counter",
            "zerorpc_broker_client_requests",
            "Requests, by the name of the client's key.",
            "client",
            counts.client_requests,
        ),
        _single(
            "counter",
            "zerorpc_broker_access_file_failures",
            "Changes of the access file that were broken; the rules before them stayed in force.",
            counts.access_file_failures,
        ),
        _by_label(
            "gauge",
            "zerorpc_broker_connections",
            "Connections, by socket; a worker has two.",
            "socket",
            counts.connections,
        ),
        _by_label(
            "counter",
            "zerorpc_broker_accept_pauses",
            "Times that a socket stopped accepting connections because no descriptor was left for it.",
            "socket",
            counts.accept_pauses,
        ),
        _single(
            "counter",
            "zerorpc_broker_retries",
            "Calls that were sent to a second worker after the first one died.",
            counts.retries,
        ),
        _single(
            "counter",
            "zerorpc_broker_late_replies",
            "Answers of workers to calls that had ended.",
            counts.late_replies,
        ),
        _single("gauge", "zerorpc_broker_open_channels", "Open calls.", counts.open_calls),
        _single(
            "gauge",
            "zerorpc_broker_loop_lag_seconds",
            "Longest turn of the message loop in the last 15 to 30 seconds.",
            counts.longest_turn_s,
        ),
        _single(
            "gauge",
            "zerorpc_broker_draining",
            "1 while the broker drains and refuses new calls, else 0.",
            int(counts.draining),
        ),
        _by_label(
            "gauge",
            "zerorpc_broker_model_workers",
            "Ready workers that host a model.",
            "model",
            {model.name: model.workers for model in able},
        ),
        _by_label(
            "gauge",
            "zerorpc_broker_build_info",
            "Always 1; the label has the version.",
            "version",
            {__version__: 1},
        ),
    ]
