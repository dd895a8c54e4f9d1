"""Who can answer what: workers, the models they host, and the procedures of the whole cluster. Pure state.

The catalogue is merged from the workers' own descriptions. What was registered once stays known when its workers
are gone, so that a call in a restart waits for a worker instead of being told that there is no such procedure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

from broker.counters import OUTCOMES, SECONDS, UNKNOWN_METHOD, from_zero
from broker.queue import CallQueue
from cluster import events
from cluster.histogram import Histogram
from cluster.protocol import ModelDescription, ProcedureDescription, WorkerDescription

if TYPE_CHECKING:
    from broker.conversation import Conversation


class Procedure:
    """Something callable, with what is counted about it.

    Attributes:
        name, doc, args: as introspection shows them.
        is_stream: whether it is answered with a stream.
        is_list: whether each call of it is a batch of its own.
        service: the model whose workers answer it; None if the broker answers it itself.
        args_head: with which byte as many arguments begin.
        outcomes: how many calls of it ended how.
        duration, queue_wait: of calls that were queued; the first until their end, the second until a worker had them.
    """

    __slots__ = (
        "args",
        "args_head",
        "doc",
        "duration",
        "is_list",
        "is_stream",
        "name",
        "outcomes",
        "queue_wait",
        "service",
    )

    def __init__(self, name: str, doc: str, args: Iterable[str], service: Service | None = None) -> None:
        self.name = name
        self.describe(doc, args)
        self.service = service
        self.is_stream = service is not None and service.is_of_streams
        self.is_list = False
        self.outcomes = from_zero(*OUTCOMES) if service is not None else Counter[str]()
        self.duration = Histogram(SECONDS)
        self.queue_wait = Histogram(SECONDS)

    def describe(self, doc: str, args: Iterable[str]) -> None:
        """What introspection shows, and how many arguments are taken."""
        self.doc = doc
        self.args = list(args)
        self.args_head = events.array_head(len(self.args))


class Service:
    """The calls or the streams of a model, wherever it is hosted: one queue, and the room on each ready worker.

    Attributes:
        model: its description, from the worker that registered last.
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
        del self._by_room[hosting.free][hosting]
        self.free -= hosting.free

    def change_room(self, hosting: Hosting, change: int) -> None:
        """So many more batches could start at a worker, or fewer."""
        free = hosting.free
        hosting.free = free + change
        if hosting in self.hostings:
            del self._by_room[free][hosting]
            self._by_room[hosting.free][hosting] = None
            self.free += change

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
    """The calls or the streams of one model on one worker.

    Attributes:
        worker, service: which.
        capacity: how many batches it may have at one time; a stream is one.
        free: how many more it could have now.
        max_batch_size: how many calls may be in one.
        asked_s: when it was last given one, in monotonic seconds.
        ran_one_alone: whether that was a call that must run alone.
    """

    __slots__ = ("asked_s", "capacity", "free", "max_batch_size", "ran_one_alone", "service", "worker")

    def __init__(self, worker: Worker, service: Service, model: ModelDescription) -> None:
        self.worker = worker
        self.service = service
        self.capacity = self.free = model.max_streams if service.is_of_streams else model.slots + model.batches_ahead
        self.max_batch_size = 1 if service.is_of_streams else model.max_batch_size
        self.asked_s = float("-inf")
        self.ran_one_alone = False


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


class Catalogue:
    """The merged view of all workers.

    Attributes:
        procedures: everything callable, by name.
        services: the calls of every model that a worker registered since the broker started, by qualified name.
        streams: their streams, by qualified name.
        workers: the registered workers, by identity.
        document: what describes the service, packed; None after a change, until somebody asks for it.
    """

    def __init__(self, own_procedures: Iterable[Procedure]) -> None:
        self.procedures = {procedure.name: procedure for procedure in own_procedures}
        self._own_names = frozenset(self.procedures)
        self.services: dict[str, Service] = {}
        self.streams: dict[str, Service] = {}
        self.workers: dict[bytes, Worker] = {}
        self.document: bytes | None = None

    def objection(self, description: WorkerDescription) -> str | None:
        """Why that worker cannot join, for its log; None if it can."""
        for procedure in description.procedures:
            if procedure.name in self._own_names or procedure.name.startswith("_") or procedure.name == UNKNOWN_METHOD:
                return f"the procedure name {procedure.name!r} is the broker's own: rename the model"
            known = self.procedures.get(procedure.name)
            if known is not None and known.service is not self._of(procedure).get(procedure.model):
                return f"the procedure name {procedure.name!r} is another model's already: rename the model"
        return None

    def _of(self, procedure: ProcedureDescription) -> dict[str, Service]:
        return self.streams if procedure.is_stream else self.services

    def all_services(self) -> Iterator[Service]:
        """Those of calls and those of streams."""
        return chain(self.services.values(), self.streams.values())

    def add(self, identity: bytes, description: WorkerDescription, now_s: float) -> Worker:
        """Register a worker that `objection` has nothing against."""
        worker = Worker(identity, description, now_s)
        self.workers[identity] = worker
        self.document = None
        for model in description.models:
            for services in (self.services, self.streams):
                service = services.get(model.qualified_name)
                if service is None:
                    service = Service(model, now_s, is_of_streams=services is self.streams)
                    services[model.qualified_name] = service
                service.model = model
                service.unserved_since_s = None
                hosting = Hosting(worker, service, model)
                worker.hostings.append(hosting)
                service.offer(hosting)
        for described in description.procedures:
            known = self.procedures.get(described.name)
            if known is None:
                service = self._of(described)[described.model]
                known = Procedure(described.name, described.doc, described.args, service)
                self.procedures[described.name] = known
            else:
                known.describe(described.doc, described.args)
            known.is_list = described.is_list
        return worker

    def drain(self, worker: Worker, now_s: float) -> None:
        """Offer the worker no more work; what it has under way stays its own."""
        if worker.state == "draining":
            return
        worker.state = "draining"
        for hosting in worker.hostings:
            service = hosting.service
            service.withdraw(hosting)
            if not service.hostings:
                service.unserved_since_s = now_s

    def is_needed(self, worker: Worker) -> bool:
        """Whether calls wait that only this worker, or others that want to leave as well, could answer."""
        return any(
            hosting.service.queue and all(other.worker.leaving_s is not None for other in hosting.service.hostings)
            for hosting in worker.hostings
        )

    def remove(self, worker: Worker, now_s: float) -> None:
        """Forget the worker."""
        self.drain(worker, now_s)
        del self.workers[worker.identity]

    def take(self, hosting: Hosting, room: int, calls: int, now_s: float) -> Batch:
        """Take room for a batch of so many calls."""
        hosting.asked_s = now_s
        hosting.service.change_room(hosting, -room)
        hosting.worker.dispatched += calls
        return Batch(hosting, room, calls)

    def release(self, conversation: Conversation) -> Service | None:
        """The worker has answered that call; return the service that has more room now, because its batch is done."""
        batch = conversation.batch
        assert batch is not None
        del batch.hosting.worker.in_flight[conversation.number]
        batch.unanswered -= 1
        if batch.unanswered:
            return None
        service = batch.hosting.service
        service.change_room(batch.hosting, batch.room)
        return service
