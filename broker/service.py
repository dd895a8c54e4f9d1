"""Where calls wait, and who has room for them: the service of each version of a model, and its workers. Pure state."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal

from broker.queue import CallQueue
from cluster.protocol import ModelDescription, WorkerDescription

if TYPE_CHECKING:
    from broker.conversation import Conversation


class Service:
    """The calls or the streams of one version of a model, wherever it is hosted: a queue, and the room on each worker.

    Attributes:
        model: its description, from the worker that hosts it since last.
        is_of_streams: whether it is for streams, of which a worker has many open beside each other, and each for long;
            otherwise for calls, which run in batches.
        queue: calls that wait for room.
        hostings: the ready workers that host it.
        free: how many batches could start on all of them.
        unserved_since_s: since when no worker has been ready; None while one is.
        gathering_since_s: since when the calls that wait for company do so; None if none does.
        stream_bytes: how many bytes the first events of its open streams have.
    """

    __slots__ = (
        "_by_room",
        "free",
        "gathering_since_s",
        "hostings",
        "is_of_streams",
        "model",
        "queue",
        "stream_bytes",
        "unserved_since_s",
    )

    def __init__(self, model: ModelDescription, now_s: float, *, is_of_streams: bool = False) -> None:
        self.model = model
        self.is_of_streams = is_of_streams
        self.queue = CallQueue()
        self.hostings: dict[Hosting, None] = {}
        self.free = 0
        self.unserved_since_s: float | None = now_s
        self.gathering_since_s: float | None = None
        self.stream_bytes = 0
        self._by_room: list[dict[Hosting, None]] = []  # at [n] those with room for n batches, the last changed last

    def offer(self, hosting: Hosting) -> None:
        """A worker can be given work."""
        self.hostings[hosting] = None
        while len(self._by_room) <= hosting.capacity:
            self._by_room.append({})
        self._by_room[hosting.free][hosting] = None
        self.free += hosting.free

    def withdraw(self, hosting: Hosting) -> None:
        """A worker is given no more work."""
        del self.hostings[hosting]
        room = max(hosting.free, 0)
        del self._by_room[room][hosting]
        self.free -= room

    def change_room(self, hosting: Hosting, change: int) -> None:
        """So many more batches could start at a worker, or fewer."""
        free = hosting.free
        hosting.free = free + change
        if hosting in self.hostings:
            before, after = free if free > 0 else 0, hosting.free if hosting.free > 0 else 0
            del self._by_room[before][hosting]
            self._by_room[after][hosting] = None
            self.free += after - before

    def resize(self, hosting: Hosting, model: ModelDescription) -> None:
        """A worker has loaded the model anew, perhaps with other room; what is under way goes on."""
        capacity = _capacity(self, model)
        while len(self._by_room) <= capacity:
            self._by_room.append({})
        self.change_room(hosting, capacity - hosting.capacity)
        hosting.capacity = capacity
        hosting.take_over(self, model)

    def roomiest(self, now_s: float, kept: Hosting | None = None) -> Hosting | None:
        """The hosting with the most room; among equals one that was left alone for long, or else did most of late.

        A worker that has just answered has warm caches: one that has not answers a call that comes alone a tenth later.
        But a worker that is never asked shows neither that it serves nor that it does not.

        Args:
            now_s: monotonic seconds.
            kept: not this one.
        """
        for room in range(len(self._by_room) - 1, 0, -1):
            alike = self._by_room[room]
            if not alike:
                continue
            some = [hosting for hosting in islice(reversed(alike), _ALIKE) if hosting is not kept]
            if some:
                longest_unasked = next(iter(alike))
                if now_s - longest_unasked.asked_s >= _LEFT_ALONE_S and longest_unasked is not kept:
                    return longest_unasked
                return min(some, key=_work) if len(some) > 1 else some[0]
        return None

    def next_for_one_alone(self, *, others_wait: bool) -> Hosting | None:
        """The hosting that is to run a call alone: the one with the fewest batches under way.

        While others wait, one that has just run a call alone is theirs first, or many such calls would hold them up.
        """
        able = (hosting for hosting in self.hostings if not (others_wait and hosting.ran_one_alone))
        return min(able, key=_batches, default=None)


_LEFT_ALONE_S = 1.0
"""A worker with as much room as any is asked at least this often, in seconds, if anybody asks at all."""

_ALIKE = 8
"""So many hostings with equal room are compared, or giving out would cost more with every worker."""


def _work(hosting: Hosting) -> int:
    return len(hosting.worker.in_flight)


def _batches(hosting: Hosting) -> int:
    return hosting.capacity - hosting.free


class Hosting:
    """The calls or the streams of one version of a model on one worker.

    Attributes:
        worker, service: which.
        capacity: how many batches it may have at one time; a stream is one.
        free: how many more it could have now; below 0 if it has more than it may since it was loaded anew.
        max_batch_size: how many calls may be in one.
        entry: what the worker loaded the model from; empty if it cannot load it anew.
        asked_s: when it was last given one, in monotonic seconds.
        ran_one_alone: whether that was a call that must run alone.
    """

    __slots__ = ("asked_s", "capacity", "entry", "free", "max_batch_size", "ran_one_alone", "service", "worker")

    def __init__(self, worker: Worker, service: Service, model: ModelDescription) -> None:
        self.worker = worker
        self.service = service
        self.capacity = self.free = _capacity(service, model)
        self.take_over(service, model)
        self.asked_s = float("-inf")
        self.ran_one_alone = False

    def take_over(self, service: Service, model: ModelDescription) -> None:
        """What of a description is not its room."""
        self.max_batch_size = 1 if service.is_of_streams else model.max_batch_size
        self.entry = model.entry


def _capacity(service: Service, model: ModelDescription) -> int:
    return model.max_streams if service.is_of_streams else model.slots + model.batches_ahead


class Batch:
    """Calls that a worker was given in one message; they take room until all are answered.

    Attributes:
        hosting: who was given them.
        room: how many batches they count as.
        unanswered: how many of them are unanswered.
    """

    __slots__ = ("hosting", "room", "unanswered")

    def __init__(self, hosting: Hosting, room: int, unanswered: int) -> None:
        self.hosting = hosting
        self.room = room
        self.unanswered = unanswered


class Worker:
    """A registered worker.

    Attributes:
        identity: ZeroMQ's own name for its connection.
        description: what it said of itself.
        state: "ready", or "draining" when it gets no more work.
        leaving_s: when it asked for no more work, in monotonic seconds; None if it has not.
        hostings: its models' calls and streams.
        in_flight: the conversations that it owes an answer, by number.
        registered_s, heard_s: when it came, when it last sent anything; monotonic seconds.
        dispatched: how many calls it was given.
    """

    __slots__ = (
        "description",
        "dispatched",
        "heard_s",
        "hostings",
        "identity",
        "in_flight",
        "leaving_s",
        "registered_s",
        "state",
    )

    def __init__(self, identity: bytes, description: WorkerDescription, now_s: float) -> None:
        self.identity = identity
        self.description = description
        self.state: Literal["ready", "draining"] = "ready"
        self.leaving_s: float | None = None
        self.hostings: list[Hosting] = []
        self.in_flight: dict[bytes, Conversation] = {}
        self.registered_s = now_s
        self.heard_s = now_s
        self.dispatched = 0
