"""Who gets which call, and when: the queues of the services, the room of the workers, and the calls of dead workers."""

from dataclasses import dataclass

from broker import counters
from broker.catalogue import Catalogue
from broker.conversation import Client, Conversation, Conversations
from broker.counters import Counters
from broker.family import ModelFamily
from broker.outbox import Outbox
from broker.procedure import Target
from broker.queue import CallQueue
from broker.service import Hosting, Service, Worker
from cluster import protocol
from cluster.pairs import write_pairs

_MOST_DEATHS = 2
"""A call that was under way in as many deaths of workers is not tried again: it may be what they died of."""

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""A batch to which calls of so many bytes belong gets no more: all of it must be sent and read in one piece."""

_NEVER_S = float("inf")

EXPIRE_INTERVAL_S = 0.25
"""Seconds between two looks for calls whose deadline has passed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and how long.

    Attributes:
        no_worker_grace_s: how long a call waits where no worker is ready, in seconds, before it gets `NoWorkers`.
        queue_timeout_s: how long a call may wait in its queue, in seconds.
        queue_calls, queue_bytes: how many calls, and bytes of events, may wait for one model.
        client_calls, client_bytes: how much of that may be one client's.
        unread_patience_s: how long the reader of a stream may make no room, in seconds; one that sends heartbeats, some
            times as long (`conversation.BEATING_FACTOR`).
    """

    no_worker_grace_s: float
    queue_timeout_s: float
    queue_calls: int
    queue_bytes: int
    client_calls: int
    client_bytes: int
    unread_patience_s: float = 600.0


class Dispatcher:
    """Gives waiting calls to workers with room.

    Attributes:
        draining: whether the broker is about to stop: what waits is still given out, and no more is taken.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        conversations: Conversations,
        counts: Counters,
        outbox: Outbox,
        limits: Limits,
    ) -> None:
        self.draining = False
        self._catalogue = catalogue
        self._conversations = conversations
        self._counters = counts
        self._outbox = outbox
        self._limits = limits
        self._expired_s = float("-inf")
        self._dirty: dict[Service, None] = {}  # services that may have both work and room

    def is_unserved(self, service: Service, now_s: float) -> bool:
        """Whether no worker has been ready for the service for so long that its calls are refused."""
        since_s = service.unserved_since_s
        return since_s is not None and now_s - since_s > self._limits.no_worker_grace_s

    def no_workers_text(self, service: Service) -> str:
        """Why they are refused, for the caller."""
        name, grace_s = service.model.qualified_name, self._limits.no_worker_grace_s
        return f"no worker that hosts {name} has been ready for {grace_s:g} s; the call was not executed"

    def busy_text(self, service: Service, client: Client | None, size: int) -> str | None:
        """Why a call of that many bytes cannot wait as well; None if it can."""
        queue, limits = service.queue, self._limits
        if service.is_of_streams:
            text = self._busy_with_streams(service, client, size)
            if text is not None:
                return text
        if service.free > 0 and not queue.calls:
            return None  # it need not wait
        name = service.model.qualified_name
        if queue.calls >= limits.queue_calls:
            return f"{queue.calls} calls of {name} wait already; call again later"
        if queue.bytes + size > limits.queue_bytes:
            return f"the calls of {name} that wait have {queue.bytes} bytes already; call again later"
        calls, size_of_client = queue.share(client)
        if calls >= limits.client_calls:
            return f"{calls} calls of {name} by this client wait already; wait for their answers"
        if size_of_client + size > limits.client_bytes:
            return f"this client's calls of {name} that wait have {size_of_client} bytes already; wait for answers"
        return None

    def _busy_with_streams(self, service: Service, client: Client | None, size: int) -> str | None:
        """Streams that are open are bounded in bytes as calls that wait are: a worker keeps what they ask."""
        name, limits = service.model.qualified_name, self._limits
        if service.stream_bytes + size > limits.queue_bytes:
            return f"the open streams of {name} have {service.stream_bytes} bytes already; call again later"
        if client is not None and client.stream_bytes + size > limits.client_bytes:
            return f"this client's open streams have {client.stream_bytes} bytes already; read them to their end"
        return None

    def enqueue(self, conversation: Conversation, now_s: float) -> None:
        """Let a new conversation wait for its turn."""
        service = conversation.target.service
        conversation.deadline_s = min(conversation.asked_until_s, now_s + self._limits.queue_timeout_s)
        service.queue.append(conversation)
        self._dirty[service] = None

    def leave_queue(self, conversation: Conversation) -> None:
        """The conversation waits no longer."""
        service = conversation.target.service
        service.queue.remove(conversation)
        if conversation.deaths or service.queue.again:
            self._dirty[service] = None  # a worker may have been kept free for it, or for others before it

    def has_room(self, service: Service) -> None:
        """Look at the service the next time work is given out."""
        self._dirty[service] = None

    def give_out(self, now_s: float) -> float:
        """Give every service's waiting calls to its workers, as far as they have room.

        Returns:
            When to come again at the latest, in monotonic seconds, for calls that wait for others to come.
        """
        again_s = _NEVER_S
        if self._dirty:
            services, self._dirty = self._dirty, {}
            for service in services:
                again_s = min(again_s, self._give_out_of(service, now_s))
        return again_s

    def _give_out_of(self, service: Service, now_s: float) -> float:
        queue = service.queue
        others_wait = queue.calls > len(queue.again)
        kept = self._give_again(service, now_s, others_wait=others_wait) if queue.again else None
        while service.free and queue.calls > len(queue.again):
            hosting = service.roomiest(now_s, kept)
            if hosting is None:
                break
            if service.model.batch_wait_ms and queue.calls < hosting.max_batch_size:
                if service.gathering_since_s is None:
                    service.gathering_since_s = now_s
                due_s = service.gathering_since_s + service.model.batch_wait_ms / 1000
                if now_s < due_s:
                    self._give_again(service, now_s, others_wait=False)
                    self._dirty[service] = None
                    return due_s
            service.gathering_since_s = None
            calls = self._next_batch(queue, hosting.max_batch_size, now_s)
            if calls:
                self._give(calls, hosting, 1, now_s)
                hosting.ran_one_alone = False
        service.gathering_since_s = None
        if queue.again and queue.calls == len(queue.again):
            self._give_again(service, now_s, others_wait=False)
        return _NEVER_S

    def _next_batch(self, queue: CallQueue, most: int, now_s: float) -> list[Conversation]:
        """Take as many waiting calls as fit in one batch."""
        calls: list[Conversation] = []
        size = 0
        while len(calls) < most and size < MAX_BATCH_BYTES and queue.calls > len(queue.again):
            if calls:
                target = queue.first.target
                if target.is_list or target.work_name != calls[0].target.work_name:
                    break  # many rows, or another procedure
            conversation = queue.pop()
            if conversation.deadline_s <= now_s:
                self._expire_waiting(conversation, now_s)
            else:
                calls.append(conversation)
                size += len(conversation.event)
        return calls

    def _give_again(self, service: Service, now_s: float, *, others_wait: bool) -> Hosting | None:
        """Give out calls whose worker died: each alone, lest it takes others with it, if it is what the worker died of.

        Not so streams, of which one would keep all others waiting for long.

        Returns:
            The hosting that must get nothing else until it has nothing to do; None if no call waits for that.
        """
        queue = service.queue
        while queue.again:
            if service.is_of_streams:
                hosting, room = service.roomiest(now_s), 1
            else:
                hosting = service.next_for_one_alone(others_wait=others_wait)
                room = hosting.capacity if hosting is not None else 0
            if hosting is None or hosting.free < room:
                return hosting
            conversation = queue.pop_again()
            if conversation.deadline_s <= now_s:
                self._expire_waiting(conversation, now_s)
            else:
                self._give([conversation], hosting, room, now_s)
                hosting.ran_one_alone = True
        return None

    def _give(self, calls: list[Conversation], hosting: Hosting, room: int, now_s: float) -> None:
        until_s = now_s + hosting.service.model.timeout_s
        batch = self._catalogue.take(hosting, room, len(calls), now_s)
        identity, in_flight = hosting.worker.identity, hosting.worker.in_flight
        pairs = []
        announced = []
        for conversation in calls:
            number, asked_until_s = conversation.number, conversation.asked_until_s
            conversation.batch = batch
            in_flight[number] = conversation
            conversation.deadline_s = until_s if until_s < asked_until_s else asked_until_s
            if not conversation.deaths:
                conversation.target.queue_wait.observe(now_s - conversation.arrived_s)
            pairs.append((number, conversation.event))
            if conversation.slots > 1:  # announced while it waited
                announced.append((number, conversation.slots - 1))
        self._outbox.to_worker(identity, *write_pairs(protocol.WORK, pairs, calls[0].target.work_name))
        for number, slots in announced:
            self._outbox.to_worker(identity, protocol.MORE, number, slots.to_bytes(4, "big"))

    def drain(self, worker: Worker, now_s: float) -> None:
        """Give a worker no more work; what it has under way stays its own."""
        self._catalogue.drain(worker, now_s)
        self._rehome_from(worker)

    def _rehome_from(self, worker: Worker) -> None:
        for name in {hosting.service.model.qualified_name for hosting in worker.hostings}:
            self.rehome(self._catalogue.families[name])

    def drop_worker(self, worker: Worker, reason: str | None, now_s: float) -> None:
        """Forget a worker, and see to the calls that it had; `reason` is None if it left in good order."""
        if reason is not None:
            self._counters.worker_lost[reason] += 1
        self._catalogue.drain(worker, now_s)
        del self._catalogue.workers[worker.identity]
        lost, worker.in_flight = worker.in_flight, {}
        how = "left" if reason is None else f"was lost ({reason}) with {len(lost)} calls in flight"
        self._outbox.note(f"worker {worker.description.id} {how}")
        for conversation in reversed(lost.values()):  # so that the oldest is again the first of the queue
            if conversation.closed or conversation.failure is not None:
                continue  # its end is known
            if conversation.client is not None:
                self._retry_or_fail(conversation, worker, now_s)
            else:
                self._conversations.close(conversation, counters.CANCELLED, now_s)
        self._rehome_from(worker)

    def _retry_or_fail(self, conversation: Conversation, worker: Worker, now_s: float) -> None:
        """Have a dead worker's call run once more, unless it may be what the worker died of, or must not run twice."""
        conversation.deaths += 1
        service = conversation.target.service
        if service.model.retry and conversation.deaths < _MOST_DEATHS and not conversation.streamed:
            self._counters.retries += 1
            conversation.batch = None
            conversation.deadline_s = min(conversation.asked_until_s, now_s + self._limits.queue_timeout_s)
            service.queue.put_first(conversation)
            self._dirty[service] = None
        else:
            text = f"worker {worker.description.id} died during the call, which may have been executed"
            self._conversations.fail(conversation, "WorkerLost", text, counters.WORKER_LOST, now_s)

    def rehome(self, family: ModelFamily) -> None:
        """Calls that wait for a version that nobody hosts now, and name none, wait for one that somebody does."""
        for service in (service for one in family.versions.values() for service in one.services):
            if service.hostings or not service.queue:
                continue
            again, others = service.queue.take_all()
            for conversation in reversed(again):
                self._target(conversation, family).service.queue.put_first(conversation)
            for conversation in others:
                self._target(conversation, family).service.queue.append(conversation)
            for one in family.versions.values():
                self._dirty.update(dict.fromkeys(one.services))

    def _target(self, conversation: Conversation, family: ModelFamily) -> Target:
        other = family.target_of_waiting(conversation.target)
        if other is not None:
            self._conversations.move(conversation, other)
        return conversation.target

    def refuse_unserved(self, now_s: float) -> None:
        """Answer the calls that have waited in vain for any worker to come."""
        for service in self._catalogue.all_services():
            if service.queue and self.is_unserved(service, now_s):
                self._refuse_queue(service, now_s)

    def _refuse_queue(self, service: Service, now_s: float) -> None:
        while service.queue:
            conversation = service.queue.pop_again() if service.queue.again else service.queue.pop()
            if conversation.deaths:
                text = "the worker died during the call, which may have been executed, and no other has come"
                self._conversations.fail(conversation, "WorkerLost", text, counters.WORKER_LOST, now_s)
            else:
                text = self.no_workers_text(service)
                self._conversations.fail(conversation, "NoWorkers", text, counters.NO_WORKERS, now_s)

    def expire_if_due(self, now_s: float) -> None:
        """Answer the calls that have waited or run for too long."""
        if now_s - self._expired_s < EXPIRE_INTERVAL_S:
            return
        self._expired_s = now_s
        for conversation in self._conversations.overdue(now_s):
            if conversation.batch is None:
                self.leave_queue(conversation)
                self._expire_waiting(conversation, now_s)
            else:
                self._expire_running(conversation, now_s)

    def _expire_waiting(self, conversation: Conversation, now_s: float) -> None:
        executed = "it may have been executed by a worker that died" if conversation.deaths else "it was not executed"
        text = f"the call waited {now_s - conversation.arrived_s:.1f} s for a worker; {executed}"
        self._conversations.fail(conversation, "DeadlineExceeded", text, counters.DEADLINE, now_s)

    def _expire_running(self, conversation: Conversation, now_s: float) -> None:
        assert conversation.batch is not None
        identity = conversation.batch.hosting.worker.identity
        service = conversation.target.service
        if conversation.streamed and conversation.asked_until_s > now_s:
            text = f"the stream has brought nothing for {service.model.timeout_s:g} s"
        else:
            age_s = now_s - conversation.arrived_s
            text = f"the call was begun and has not ended {age_s:.1f} s after it came; it may yet"
        # The worker keeps its room taken until it answers, or is replaced because it is stuck.
        self._outbox.to_worker(identity, protocol.CANCEL, conversation.number)
        self._conversations.fail(conversation, "DeadlineExceeded", text, counters.DEADLINE, now_s)
