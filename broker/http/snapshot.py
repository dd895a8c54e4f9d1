"""Copies of the core's counts, in plain numbers: the loop copies in slices, and the HTTP threads use the copy."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from broker.core.core import Core
from broker.core.state.pool import Worker, WorkerPool
from broker.core.state.procedures import Procedure, Target
from broker.core.state.services import Server
from broker.core.state.versions import ModelVersions
from broker.http.slices import Ask, read_in_slices
from cluster.histogram import Histogram
from cluster.wire.protocol import Version


class TargetCounts(NamedTuple):
    """The counts of a target; `pool` only tells targets apart."""

    pool: WorkerPool
    outcomes: Mapping[str, int]
    duration: Histogram
    queue_wait: Histogram
    waiting: int


class ProcedureCounts(NamedTuple):
    """The counts of a procedure; `former` are those of versions that the broker has forgotten."""

    name: str
    owner: str | None
    outcomes: Mapping[str, int]
    targets: list[TargetCounts]
    former: tuple[Histogram, Histogram] | None


class VersionState(NamedTuple):
    """A version of a model."""

    version: Version
    is_callable: bool
    pools: tuple[WorkerPool, WorkerPool]
    workers: int


class ModelState(NamedTuple):
    """A model, and on how many workers a version of it can be called."""

    name: str
    versions: list[VersionState]
    workers: int


class WorkerCounts(NamedTuple):
    """The counts of a worker, or of a stock server, which has a service."""

    label: str
    service: str
    state: str
    dispatched: int
    in_flight: int


class BrokerCounts(NamedTuple):
    """The counts that belong to no procedure and no worker."""

    unknown_method: Mapping[str, int]
    state_file: Mapping[str, int]
    worker_lost: Mapping[str, int]
    bad_frames: Mapping[str, int]
    clients_dropped: Mapping[str, int]
    connections: Mapping[str, int]
    accept_pauses: Mapping[str, int]
    client_requests: Mapping[str, int]
    retries: int
    late_replies: int
    access_file_failures: int
    longest_turn_s: float
    open_calls: int
    draining: bool


class Snapshot:
    """The counts of a core. They are of nearly one moment: the core works on between two slices."""

    def __init__(self, core: Core, ask: Ask) -> None:
        """Copy the counts.

        Args:
            core: the core.
            ask: calls a function in the thread that may read the core.
        """
        self.procedures: list[ProcedureCounts] = []
        self.models: list[ModelState] = []
        self.workers: list[WorkerCounts] = []
        self.services: list[str] = []
        self.broker: BrokerCounts
        read_in_slices(ask, self._copy(core))

    def _copy(self, core: Core) -> Iterator[None]:
        self.broker = _broker(core)
        for procedure in list(core.registry.counted()):
            targets: list[TargetCounts] = []
            for target in list(procedure.targets.values()):
                targets.append(_target(target))
                yield
            self.procedures.append(_procedure(procedure, targets))
            yield
        for model in list(core.registry.models.values()):
            self.models.append(_model(model))
            yield
        self.services += core.registry.services.by_name
        yield
        for worker in list(core.registry.workers.values()):
            self.workers.append(_worker(worker))
            yield


def _target(target: Target) -> TargetCounts:
    copied = target.duration.copy(), target.queue_wait.copy()
    return TargetCounts(target.pool, dict(target.outcomes), *copied, target.waiting)


def _procedure(procedure: Procedure, targets: list[TargetCounts]) -> ProcedureCounts:
    former = (procedure.former[0].copy(), procedure.former[1].copy()) if procedure.former is not None else None
    return ProcedureCounts(procedure.name, procedure.owner, dict(procedure.outcomes), targets, former)


def _model(model: ModelVersions) -> ModelState:
    versions = [
        VersionState(one.version, one.is_callable, one.pools, len(one.calls.replicas))
        for one in model.versions.values()
    ]
    serving = [one for one in model.versions.values() if one.is_callable and one.calls.replicas]
    if len(serving) <= 1:
        workers = sum(len(one.calls.replicas) for one in serving)
    else:
        workers = len({replica.worker for one in serving for replica in one.calls.replicas})
    return ModelState(model.qualified_name, versions, workers)


def _worker(worker: Worker) -> WorkerCounts:
    service = worker.service if isinstance(worker, Server) else ""
    return WorkerCounts(worker.label, service, worker.state, worker.dispatched, worker.in_flight)


def _broker(core: Core) -> BrokerCounts:
    counts = core.counters
    return BrokerCounts(
        Counter(counts.unknown_method),
        Counter(counts.state_file),
        Counter(counts.worker_lost),
        Counter(counts.bad_frames),
        Counter(counts.clients_dropped),
        Counter(counts.connections),
        Counter(counts.accept_pauses),
        core.access.requests(),
        counts.retries,
        counts.late_replies,
        counts.access_file_failures,
        counts.turn_s.highest(),
        len(core.calls),
        core.draining,
    )
