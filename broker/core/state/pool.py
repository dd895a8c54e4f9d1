"""Capacity: which workers serve a model version, and how many more batches each could start. Knows no calls."""

from __future__ import annotations

from itertools import islice
from operator import attrgetter
from typing import Literal

from broker.core.state.run_times import RunTimes
from cluster.wire.protocol import ModelDescription, WorkerDescription

_IDLE_CHECK_S = 1.0
"""The longest time, in seconds, for which an idle replica gets no call while its pool gets some."""

_COMPARED = 8
"""Replicas with equal free capacity that are compared, so that the cost of a choice does not grow with the workers."""

_calls_in_flight = attrgetter("worker.in_flight")


class WorkerPool:
    """The workers that serve the calls, or the streams, of one version of a model.

    Attributes:
        model: description of the model, from the worker that registered it last, of those that are here.
        is_for_streams: whether the pool serves streams, or the calls of a service, each of which may turn out to be a
            stream. A worker has many of them open at once, each perhaps for long; other calls run in batches.
        replicas: the ready workers that host the model version.
        free: batches that could start now, over all replicas.
        unserved_since_s: monotonic time since which no worker has been ready; None while one is.
        gathering_since_s: monotonic time since which waiting calls wait for a larger batch; None if none do.
        last_small_s: monotonic time of the last batch of calls that are not large.
        stream_bytes: bytes of the first events of its open streams.
        run_times: how long its batches take.
    """

    __slots__ = (
        "_by_free",
        "_highest",
        "free",
        "gathering_since_s",
        "is_for_streams",
        "last_small_s",
        "model",
        "replicas",
        "run_times",
        "stream_bytes",
        "unserved_since_s",
    )

    def __init__(self, model: ModelDescription, now_s: float, *, is_for_streams: bool = False) -> None:
        self.model = model
        self.is_for_streams = is_for_streams
        self.replicas: dict[Replica, None] = {}
        self.free = 0
        self.unserved_since_s: float | None = now_s
        self.gathering_since_s: float | None = None
        self.last_small_s = float("-inf")
        self.stream_bytes = 0
        self.run_times = RunTimes()
        # By n: the replicas with n free batches, the last changed last. Only for numbers that have occurred.
        self._by_free: dict[int, dict[Replica, None]] = {}
        self._highest = 0  # the most free batches of a replica

    def offer(self, replica: Replica) -> None:
        """Add a replica."""
        self.replicas[replica] = None
        self._put(replica, replica.free)

    def withdraw(self, replica: Replica) -> None:
        """Remove a replica; it gets no more batches. What its worker says about the model goes with it."""
        del self.replicas[replica]
        free = max(replica.free, 0)
        del self._by_free[free][replica]
        self.free -= free
        self._by_free = {number: some for number, some in self._by_free.items() if some}
        self._highest = max(self._by_free, default=0)
        if self.model is replica.model and self.replicas:
            self.model = next(reversed(self.replicas)).model

    @property
    def most_free(self) -> int:
        """The most batches that one replica could start now."""
        return self._highest

    def change_free(self, replica: Replica, change: int) -> None:
        """Change how many more batches a replica could start."""
        free = replica.free
        replica.free = free + change
        if replica in self.replicas:
            before, after = free if free > 0 else 0, replica.free if replica.free > 0 else 0
            by_free = self._by_free
            del by_free[before][replica]
            if after in by_free:
                by_free[after][replica] = None
            else:
                by_free[after] = {replica: None}
            self.free += after - before
            if after >= self._highest:
                self._highest = after
            elif before == self._highest and not by_free[before]:
                self._lower_highest()

    def recount(self) -> None:
        """Rebuild what the pool counts from its replicas. For tables that may be wrong."""
        self._by_free = {}
        self._highest = 0
        self.free = 0
        for replica in self.replicas:
            self._put(replica, max(replica.free, 0))

    def _put(self, replica: Replica, free: int) -> None:
        self._by_free.setdefault(free, {})[replica] = None
        self._highest = max(self._highest, free)
        self.free += free

    def _lower_highest(self) -> None:
        while self._highest and not self._by_free.get(self._highest):
            self._highest -= 1

    def resize(self, replica: Replica, model: ModelDescription) -> None:
        """Take over a new description of the model, perhaps with another capacity; running batches continue."""
        capacity = _capacity(self, model)
        self.change_free(replica, capacity - replica.capacity)
        replica.capacity = capacity
        replica.describe(self, model)

    def least_loaded(self, now_s: float, excluded: Replica | None = None) -> Replica | None:
        """Return the replica with the most free capacity; None if all are busy.

        Among equals, the pool picks the one whose worker has the fewest calls in flight, and prefers the most recently
        used: its caches are warm, and a cold worker answers a single call about a tenth later. A replica that has been
        idle for `_IDLE_CHECK_S` comes first, because an unused worker does not show whether it still serves. A server
        that is quiet comes last.

        Args:
            now_s: monotonic seconds.
            excluded: a replica that must not be returned.
        """
        for free in range(self._highest, 0, -1):
            equals = self._by_free.get(free)
            if not equals:
                continue
            recent = list(islice(reversed(equals), _COMPARED))
            if excluded in recent:
                recent.remove(excluded)
            if recent:
                longest_idle = next(iter(equals))
                if now_s - longest_idle.last_used_s >= _IDLE_CHECK_S and longest_idle is not excluded:
                    chosen = longest_idle
                else:
                    chosen = min(recent, key=_calls_in_flight) if len(recent) > 1 else recent[0]
                return self._another_than_quiet(chosen) if chosen.worker.is_quiet else chosen
        return None

    def _another_than_quiet(self, quiet: Replica) -> Replica:
        """Return the replica with the most free capacity whose worker is not quiet; the quiet one if there is none."""
        able = (one for one in self.replicas if one.free > 0 and not one.worker.is_quiet)
        return max(able, key=_free, default=quiet)

    def idle_beside(self, replica: Replica) -> int:
        """Return how many replicas are idle, of some with as much free capacity as this one; 0 if it is not idle."""
        if replica.free != replica.capacity:
            return 0
        return sum(one.free == one.capacity for one in islice(self._by_free[replica.free], _COMPARED))

    def least_busy_for_retry(self, *, others_wait: bool) -> Replica | None:
        """Return the replica that is to run a retry alone: the one with the fewest batches in flight.

        While other calls wait, a replica that has just run a retry serves them first; otherwise many retries would
        block them.
        """
        able = (replica for replica in self.replicas if not (others_wait and replica.ran_retry_last))
        return min(able, key=_batches_in_flight, default=None)


class Replica:
    """The calls, or the streams, of one model version on one worker.

    Attributes:
        worker: the worker.
        pool: the pool that the replica belongs to.
        capacity: batches that it may have at one time; a stream counts as one.
        free: batches that it could start now; below 0 if a reload has lowered the capacity below what is in flight.
        large_batches: how many of its batches are a large call.
        model: description of the model, as its worker has sent it.
        max_batch_size: calls that a batch may have.
        batch_wait_s: how long waiting calls may wait for a larger batch, in seconds.
        timeout_s: how long a call may run, in seconds.
        may_retry: whether a call may be retried elsewhere when the worker dies.
        entry: configuration entry that the worker loaded the model from; empty if the worker cannot load it again.
        last_used_s: monotonic time of its last batch.
        ran_retry_last: whether its last batch was a retry, which runs alone.
    """

    __slots__ = (
        "batch_wait_s",
        "capacity",
        "entry",
        "free",
        "large_batches",
        "last_used_s",
        "max_batch_size",
        "may_retry",
        "model",
        "pool",
        "ran_retry_last",
        "timeout_s",
        "worker",
    )

    def __init__(self, worker: Worker, pool: WorkerPool, model: ModelDescription) -> None:
        self.worker = worker
        self.pool = pool
        self.capacity = self.free = _capacity(pool, model)
        self.large_batches = 0
        self.describe(pool, model)
        self.last_used_s = float("-inf")
        self.ran_retry_last = False

    def describe(self, pool: WorkerPool, model: ModelDescription) -> None:
        """Take over what a description says beside the capacity. It holds for this replica alone."""
        self.model = model
        self.max_batch_size = 1 if pool.is_for_streams else model.max_batch_size
        self.batch_wait_s = model.batch_wait_ms / 1000
        self.timeout_s = model.timeout_s
        self.may_retry = model.retry
        self.entry = model.entry


class Worker:
    """A registered worker.

    Attributes:
        kind: "worker", or "server" if it is a stock ZeroRPC server (`services.Server`).
        is_quiet: whether it is a server that has said nothing for a while although it has calls.
        identity: ZeroMQ's name for the worker's connection.
        description: what the worker sent in READY.
        key_name: the name of its key; empty without keys.
        state: "ready", or "draining" when it gets no more work.
        drain_requested_s: monotonic time of the worker's DRAIN; None before.
        replicas: the calls and streams of its models, by their pools.
        in_flight: calls that the worker has not answered yet.
        registered_s: monotonic time of its registration.
        last_received_s: monotonic time of its last message.
        dispatched: calls that it has been given since its registration.
    """

    kind: Literal["worker", "server"] = "worker"
    is_quiet = False

    __slots__ = (
        "description",
        "dispatched",
        "drain_requested_s",
        "identity",
        "in_flight",
        "key_name",
        "last_received_s",
        "registered_s",
        "replicas",
        "state",
    )

    def __init__(self, identity: bytes, description: WorkerDescription, now_s: float) -> None:
        self.identity = identity
        self.description = description
        self.key_name = ""
        self.state: Literal["ready", "draining"] = "ready"
        self.drain_requested_s: float | None = None
        self.replicas: dict[WorkerPool, Replica] = {}
        self.in_flight = 0
        self.registered_s = now_s
        self.last_received_s = now_s
        self.dispatched = 0

    @property
    def label(self) -> str:
        """Its name in the metrics, the same in all registrations of its process."""
        return self.description.process


def _capacity(pool: WorkerPool, model: ModelDescription) -> int:
    return model.max_streams if pool.is_for_streams else model.slots + model.batches_ahead


def _batches_in_flight(replica: Replica) -> int:
    return replica.capacity - replica.free


def _free(replica: Replica) -> int:
    return replica.free
