"""Who gets which call, and when: the queues of the services, the room of the workers, and the calls of dead workers."""

from broker import counters
from broker.catalogue import Catalogue, Service, Worker
from broker.conversation import Conversation, Conversations
from broker.counters import Counters
from broker.outbox import Outbox

_MOST_DEATHS = 2
"""A call that was under way in as many deaths of workers is not tried again: it may be what they died of."""


class Dispatcher:
    """Gives waiting calls to workers with room."""

    def __init__(
        self,
        catalogue: Catalogue,
        conversations: Conversations,
        counts: Counters,
        outbox: Outbox,
        *,
        no_worker_grace_s: float,
    ) -> None:
        self._catalogue = catalogue
        self._conversations = conversations
        self._counters = counts
        self._outbox = outbox
        self._no_worker_grace_s = no_worker_grace_s
        self._dirty: dict[Service, None] = {}  # services that may have both work and room

    def is_unserved(self, service: Service, now_s: float) -> bool:
        """Whether no worker has been ready for the service for so long that its calls are refused."""
        since_s = service.unserved_since_s
        return since_s is not None and now_s - since_s > self._no_worker_grace_s

    def no_workers_text(self, service: Service) -> str:
        """Why they are refused, for the caller."""
        return (
            f"no worker that hosts {service.model.qualified_name} has been ready for {self._no_worker_grace_s:g} s; "
            "the call was not executed"
        )

    def enqueue(self, conversation: Conversation, service: Service) -> None:
        """Let a new conversation wait for its turn."""
        conversation.procedure.waiting += 1
        service.queue.append(conversation)
        self._dirty[service] = None

    def has_room(self, service: Service) -> None:
        """Look at the service the next time work is given out."""
        self._dirty[service] = None

    def release(self, conversation: Conversation) -> None:
        """The conversation's worker has answered it."""
        assert conversation.hosting is not None
        self._catalogue.release(conversation.hosting, conversation)
        self._dirty[conversation.hosting.service] = None

    def give_out(self, now_s: float) -> None:
        """Give every service's oldest calls to its workers, as far as they have room."""
        while self._dirty:
            service, _ = self._dirty.popitem()
            queue = service.queue
            while service.free > 0 and queue:
                conversation = queue.popleft()
                if conversation.client is not None:  # else it went away while it waited
                    self._give(conversation, service, now_s)

    def _give(self, conversation: Conversation, service: Service, now_s: float) -> None:
        hosting = service.roomiest()
        conversation.procedure.waiting -= 1
        if not conversation.deaths:
            conversation.procedure.queue_wait.observe(now_s - conversation.arrived_s)
        self._catalogue.take(hosting, conversation)
        self._outbox.work(hosting.worker, conversation.number, conversation.event, conversation.slots - 1)

    def drop_worker(self, worker: Worker, reason: str | None, now_s: float) -> None:
        """Forget a worker, and see to the calls that it had; `reason` is None if it left in good order."""
        if reason is not None:
            self._counters.worker_lost[reason] += 1
        self._catalogue.remove(worker, now_s)
        lost, worker.in_flight = worker.in_flight, {}
        how = "left" if reason is None else f"was lost ({reason}) with {len(lost)} calls in flight"
        self._outbox.note(f"worker {worker.description.id} {how}")
        for conversation in reversed(lost.values()):  # so that the oldest is again the first of the queue
            if conversation.client is not None:
                self._retry_or_fail(conversation, worker, now_s)
            else:
                self._conversations.close(conversation, counters.CANCELLED, now_s)

    def _retry_or_fail(self, conversation: Conversation, worker: Worker, now_s: float) -> None:
        """Have a dead worker's call run once more, unless it may be what the worker died of, or must not run twice."""
        conversation.deaths += 1
        service = conversation.procedure.service
        assert service is not None
        if service.model.retry and conversation.deaths < _MOST_DEATHS and not conversation.streamed:
            self._counters.retries += 1
            conversation.hosting = None
            conversation.procedure.waiting += 1
            service.queue.appendleft(conversation)
            self._dirty[service] = None
        else:
            text = f"worker {worker.description.id} died during the call, which may have been executed"
            self._conversations.fail(conversation, "WorkerLost", text, counters.WORKER_LOST, now_s)

    def refuse_unserved(self, now_s: float) -> None:
        """Answer the calls that have waited in vain for any worker to come."""
        for service in self._catalogue.services.values():
            if service.queue and self.is_unserved(service, now_s):
                self._refuse_queue(service, now_s)

    def _refuse_queue(self, service: Service, now_s: float) -> None:
        while service.queue:
            conversation = service.queue.popleft()
            if conversation.client is None:
                continue
            if conversation.deaths:
                text = "the worker died during the call, which may have been executed, and no other has come"
                self._conversations.fail(conversation, "WorkerLost", text, counters.WORKER_LOST, now_s)
            else:
                text = self.no_workers_text(service)
                self._conversations.fail(conversation, "NoWorkers", text, counters.NO_WORKERS, now_s)
