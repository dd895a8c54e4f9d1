"""Where calls wait, and who has room for them: the service of each version of a model, and its workers. Pure state."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal

from broker.core.state.fair_queue import FairQueue
from cluster.wire.protocol import ModelDescription, WorkerDescription

if TYPE_CHECKING:
    from broker.core.state.calls import Call


class WorkerPool:
    """The calls or the streams of one version of a model, wherever it is hosted: a queue, and the room on each worker.

    Attributes:
        model: its description, from the worker that hosts it since last.
        is_for_streams: whether it is for streams, of which a worker has many open beside each other, and each for long;
            otherwise for calls, which run in batches.
        queue: calls that wait for room.
        replicas: the ready workers that host it.
        free: how many batches could start on all of them.
        unserved_since_s: since when no worker has been ready; None while one is.
        gathering_since_s: since when the calls that wait for company do so; None if none does.
        stream_bytes: how many bytes the first events of its open streams have.
    """

    __slots__ = (
        "_by_free",
        "free",
        "gathering_since_s",
        "is_for_streams",
        "model",
        "queue",
        "replicas",
        "stream_bytes",
        "unserved_since_s",
    )

    def __init__(self, model: ModelDescription, now_s: float, *, is_for_streams: bool = False) -> None:
        self.model = model
        self.is_for_streams = is_for_streams
        self.queue = FairQueue()
        self.replicas: dict[Replica, None] = {}
        self.free = 0
        self.unserved_since_s: float | None = now_s
        self.gathering_since_s: float | None = None
        self.stream_bytes = 0
        self._by_free: list[dict[Replica, None]] = []  # at [n] those with room for n batches, the last changed last

    def offer(self, replica: Replica) -> None:
        """A worker can be given work."""
        self.replicas[replica] = None
        while len(self._by_free) <= replica.capacity:
            self._by_free.append({})
        self._by_free[replica.free][replica] = None
        self.free += replica.free

    def withdraw(self, replica: Replica) -> None:
        """A worker is given no more work."""
        del self.replicas[replica]
        room = max(replica.free, 0)
        del self._by_free[room][replica]
        self.free -= room

    def change_free(self, replica: Replica, change: int) -> None:
        """So many more batches could start at a worker, or fewer."""
        free = replica.free
        replica.free = free + change
        if replica in self.replicas:
            before, after = free if free > 0 else 0, replica.free if replica.free > 0 else 0
            del self._by_free[before][replica]
            self._by_free[after][replica] = None
            self.free += after - before

    def resize(self, replica: Replica, model: ModelDescription) -> None:
        """A worker has loaded the model anew, perhaps with other room; what is under way goes on."""
        capacity = _capacity(self, model)
        while len(self._by_free) <= capacity:
            self._by_free.append({})
        self.change_free(replica, capacity - replica.capacity)
        replica.capacity = capacity
        replica.take_over(self, model)

    def least_loaded(self, now_s: float, kept: Replica | None = None) -> Replica | None:
        """The replica with the most room; among equals one that was left alone for long, or else did most of late.

        A worker that has just answered has warm caches: one that has not answers a call that comes alone a tenth later.
        But a worker that is never asked shows neither that it serves nor that it does not.

        Args:
            now_s: monotonic seconds.
            kept: not this one.
        """
        for room in range(len(self._by_free) - 1, 0, -1):
            alike = self._by_free[room]
            if not alike:
                continue
            some = [replica for replica in islice(reversed(alike), _ALIKE) if replica is not kept]
            if some:
                longest_unasked = next(iter(alike))
                if now_s - longest_unasked.asked_s >= _LEFT_ALONE_S and longest_unasked is not kept:
                    return longest_unasked
                return min(some, key=_work) if len(some) > 1 else some[0]
        return None

    def least_busy_for_retry(self, *, others_wait: bool) -> Replica | None:
        """The replica that is to run a call alone: the one with the fewest batches under way.

        While others wait, one that has just run a call alone is theirs first, or many such calls would hold them up.
        """
        able = (replica for replica in self.replicas if not (others_wait and replica.ran_retry_last))
        return min(able, key=_batches, default=None)


_LEFT_ALONE_S = 1.0
"""A worker with as much room as any is asked at least this often, in seconds, if anybody asks at all."""

_ALIKE = 8
"""So many replicas with equal room are compared, or giving out would cost more with every worker."""


def _work(replica: Replica) -> int:
    return len(replica.worker.in_flight)


def _batches(replica: Replica) -> int:
    return replica.capacity - replica.free


class Replica:
    """The calls or the streams of one version of a model on one worker.

    Attributes:
        worker, service: which.
        capacity: how many batches it may have at one time; a stream is one.
        free: how many more it could have now; below 0 if it has more than it may since it was loaded anew.
        max_batch_size: how many calls may be in one.
        entry: what the worker loaded the model from; empty if it cannot load it anew.
        asked_s: when it was last given one, in monotonic seconds.
        ran_retry_last: whether that was a call that must run alone.
    """

    __slots__ = ("asked_s", "capacity", "entry", "free", "max_batch_size", "pool", "ran_retry_last", "worker")

    def __init__(self, worker: Worker, pool: WorkerPool, model: ModelDescription) -> None:
        self.worker = worker
        self.pool = pool
        self.capacity = self.free = _capacity(pool, model)
        self.take_over(pool, model)
        self.asked_s = float("-inf")
        self.ran_retry_last = False

    def take_over(self, pool: WorkerPool, model: ModelDescription) -> None:
        """What of a description is not its room."""
        self.max_batch_size = 1 if pool.is_for_streams else model.max_batch_size
        self.entry = model.entry


def _capacity(pool: WorkerPool, model: ModelDescription) -> int:
    return model.max_streams if pool.is_for_streams else model.slots + model.batches_ahead


class Batch:
    """Calls that a worker was given in one message; they take room until all are answered.

    Attributes:
        replica: who was given them.
        room: how many batches they count as.
        unanswered: how many of them are unanswered.
    """

    __slots__ = ("replica", "room", "unanswered")

    def __init__(self, replica: Replica, room: int, unanswered: int) -> None:
        self.replica = replica
        self.room = room
        self.unanswered = unanswered


class Worker:
    """A registered worker.

    Attributes:
        identity: ZeroMQ's own name for its connection.
        description: what it said of itself.
        state: "ready", or "draining" when it gets no more work.
        leaving_s: when it asked for no more work, in monotonic seconds; None if it has not.
        replicas: its models' calls and streams.
        in_flight: the calls that it owes an answer, by number.
        registered_s, heard_s: when it came, when it last sent anything; monotonic seconds.
        dispatched: how many calls it was given.
    """

    __slots__ = (
        "description",
        "dispatched",
        "identity",
        "in_flight",
        "last_received_s",
        "leaving_s",
        "registered_s",
        "replicas",
        "state",
    )

    def __init__(self, identity: bytes, description: WorkerDescription, now_s: float) -> None:
        self.identity = identity
        self.description = description
        self.state: Literal["ready", "draining"] = "ready"
        self.leaving_s: float | None = None
        self.replicas: list[Replica] = []
        self.in_flight: dict[bytes, Call] = {}
        self.registered_s = now_s
        self.last_received_s = now_s
        self.dispatched = 0
