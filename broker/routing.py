"""The routing core: who gets which message. Owns every conversation from its first event to its last.

Messages, ticks and failed sends go in, with the time as an argument; what is to be sent comes out of `take_sends`.
There is no socket, no clock and no chance in here, so the core can be run through years of faults in a minute.

The way of a call: `client_message` reads its head and either answers at once (errors, introspection) or opens a
conversation and queues it with its service. `_dispatch` gives it to the worker with the most room. From then on the
conversation belongs to that worker: `worker_message` passes its events on to the client until OK, ERR or STREAM_DONE.
"""

from broker import counters, introspection
from broker.catalogue import Catalogue, Procedure, Service, Worker
from broker.conversation import Client, Conversation
from cluster import events, protocol
from cluster.descriptions import read_description
from cluster.events import ClientEvent

BEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to the client of a conversation. Less than a stock client's 5 s, so that a passive
one, which beats only when it was beaten to, is soon seen alive."""

_MOST_DEATHS = 2
"""A call that was under way in as many deaths of workers is not tried again: it may be what they died of."""

Send = tuple[bytes, list[bytes]]
"""(identity, frames) of one message."""

_MAX_OWN_ARGUMENTS_BYTES = 16 * 1024
"""Longest arguments of the broker's own procedures, which take a name at most; unpacked they take 80 times that."""

_MAX_NOTE = 500

_EMPTY = b""


class Core:
    """The state of the broker.

    Attributes:
        catalogue: workers, services and procedures.
        counters: what is counted beside them.
        draining: whether new calls are refused because the broker is about to stop.
    """

    def __init__(self, *, max_message_bytes: int, no_worker_grace_s: float) -> None:
        """Build an empty broker.

        Args:
            max_message_bytes: events of clients beyond this are answered `MessageTooLarge`.
            no_worker_grace_s: how long a call waits, in seconds, where no worker is ready, before it gets `NoWorkers`.
        """
        self.catalogue = Catalogue(introspection.own_procedures())
        self.counters = counters.Counters()
        self.draining = False
        self._max_message_bytes = max_message_bytes
        self._no_worker_grace_s = no_worker_grace_s
        self._clients: dict[bytes, Client] = {}
        self._conversations: dict[bytes, Conversation] = {}  # those with a client, oldest first
        self._dirty: dict[Service, None] = {}  # services that may have both work and room
        self._last_number = 0
        self._pinged_s = float("-inf")
        self._to_clients: list[Send] = []
        self._to_workers: list[Send] = []
        self._after_work: list[Send] = []  # to workers, about conversations of which they must hear first
        self._with_work: list[Worker] = []
        self._notes: list[str] = []

    @property
    def open_channels(self) -> int:
        """How many conversations have a client that waits."""
        return len(self._conversations)

    def take_sends(self, now_s: float) -> tuple[list[Send], list[Send]]:
        """What is to be sent now, to clients and to workers; each is handed out once.

        Work is given out here and not as it arrives, so that what arrived together goes in one message.
        """
        while self._dirty:
            service, _ = self._dirty.popitem()
            self._dispatch(service, now_s)
        for worker in self._with_work:
            self._to_workers.append((worker.identity, [protocol.WORK, *worker.outgoing]))
            worker.outgoing.clear()
        self._with_work.clear()
        sends = (self._to_clients, self._to_workers + self._after_work)
        self._to_clients, self._to_workers, self._after_work = [], [], []
        return sends

    def take_notes(self) -> list[str]:
        """What a person should read in the log, a line each; each is handed out once."""
        notes, self._notes = self._notes, []
        return notes

    # -- clients ------------------------------------------------------------------------------------------------

    def client_message(self, identity: bytes, frames: list[bytes], now_s: float) -> None:
        """A message from the frontend: an event behind an empty delimiter, which a bare DEALER may leave out."""
        if not 1 <= len(frames) <= 2 or (len(frames) == 2 and frames[0]):
            self._bad_frame("envelope")
            return
        payload = frames[-1]
        try:
            event = events.read_event(payload)
        except events.BadFrameError as bad:
            self._bad_frame(bad.reason)
            return
        client = self._clients.get(identity)
        if event.response_to is not None:
            if len(payload) > events.MAX_LATER_EVENT_BYTES:
                self._bad_frame("unexpected_event")
            else:
                self._later_event(client, event, payload, now_s)
        elif client is not None and event.message_id in client.open:
            self._bad_frame("duplicate_message_id")
        else:
            self._first_event(identity, event, payload, now_s)

    def _first_event(self, identity: bytes, event: ClientEvent, payload: bytes, now_s: float) -> None:
        procedure = self.catalogue.procedures.get(event.name) if event.name is not None else None
        if len(payload) > self._max_message_bytes:
            text = f"the event has {len(payload)} bytes; at most {self._max_message_bytes} are accepted"
            self._refuse(identity, event, procedure, counters.TOO_LARGE, "MessageTooLarge", text)
        elif event.name is None:
            text = "the name of the procedure must be a string"
            self._refuse(identity, event, None, counters.BAD_REQUEST, "BadRequest", text)
        elif procedure is None:
            text = f"{event.name[:80]!a} is no procedure of this service; _zerorpc_list names them all"
            self._refuse(identity, event, None, counters.NOT_FOUND, "NameError", text)
        elif self.draining:
            text = "the broker is shutting down and takes no new calls; call again in a few seconds"
            self._refuse(identity, event, procedure, counters.DRAINING, "Draining", text)
        elif events.argument_count(payload, event.args_at) != len(procedure.args):
            text = _wrong_arguments(procedure, events.argument_count(payload, event.args_at))
            self._refuse(identity, event, procedure, counters.BAD_REQUEST, "BadRequest", text)
        elif procedure.service is None:
            self._answer_itself(identity, event, procedure, payload)
        else:
            self._open(identity, event, procedure, procedure.service, payload, now_s)

    def _open(
        self, identity: bytes, event: ClientEvent, procedure: Procedure, service: Service, payload: bytes, now_s: float
    ) -> None:
        if self._is_unserved(service, now_s):
            self._refuse(identity, event, procedure, counters.NO_WORKERS, "NoWorkers", self._no_workers_text(service))
            return
        client = self._clients.get(identity)
        if client is None:
            client = self._clients[identity] = Client(identity)
        self._last_number += 1
        number = self._last_number.to_bytes(protocol.NUMBER_BYTES, "big")
        conversation = Conversation(number, client, event.message_id, event.version, procedure, payload, now_s)
        client.open[event.message_id] = conversation
        self._conversations[number] = conversation
        procedure.waiting += 1
        service.queue.append(conversation)
        self._dirty[service] = None

    def _later_event(self, client: Client | None, event: ClientEvent, payload: bytes, now_s: float) -> None:
        conversation = client.open.get(event.response_to or _EMPTY) if client is not None else None
        if conversation is None:
            self._bad_frame("unknown_conversation")
        elif event.name == events.HEARTBEAT:
            self._beat(conversation, now_s)
            if event.version < 3:  # where a heartbeat announces slots as well (zerorpc `HeartBeatOnChannel`)
                self._more(conversation, payload, event, now_s)
        elif event.name == events.MORE:
            self._more(conversation, payload, event, now_s)
        else:
            self._bad_frame("unexpected_event")

    def _more(self, conversation: Conversation, payload: bytes, event: ClientEvent, now_s: float) -> None:
        slots = events.read_slots(payload, event.args_at)
        if slots is None:
            self._bad_frame("slots")
            return
        conversation.slots = min(conversation.slots + slots, events.MAX_SLOTS)
        if conversation.failure is not None:
            self._fail(conversation, *conversation.failure, now_s)
        elif conversation.hosting is not None and slots:
            self._to_workers.append(_more(conversation.hosting.worker, conversation, slots))

    def _beat(self, conversation: Conversation, now_s: float) -> None:
        conversation.beaten_s = now_s
        self._send_client(conversation, conversation.replies.from_body(_HEARTBEAT_BODY))

    def client_lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """A send to the client failed: drop what it has open.

        Args:
            identity: the client's.
            reason: `counters.UNREACHABLE`, or `counters.STALLED` for one that does not read.
            now_s: monotonic seconds.
        """
        client = self._clients.get(identity)
        if client is None:
            return  # it had nothing open, or is known to have gone
        self.counters.clients_dropped[reason] += 1
        for conversation in list(client.open.values()):
            worker = conversation.hosting.worker if conversation.hosting is not None else None
            if worker is not None and conversation.number in worker.in_flight:
                # Counted when the worker answers, for it may be executed by now.
                self._forget(conversation)
                self._to_workers.append((worker.identity, [protocol.CANCEL, conversation.number]))
            else:
                self._close(conversation, counters.CANCELLED, now_s)

    # -- answers ------------------------------------------------------------------------------------------------

    def _answer_itself(self, identity: bytes, event: ClientEvent, procedure: Procedure, payload: bytes) -> None:
        size = len(payload) - event.args_at
        if size > _MAX_OWN_ARGUMENTS_BYTES:
            text = f"the arguments have {size} bytes; {procedure.name} takes at most {_MAX_OWN_ARGUMENTS_BYTES}"
            self._refuse(identity, event, procedure, counters.BAD_REQUEST, "BadRequest", text)
            return
        try:
            arguments = events.read_arguments(payload, event.args_at)
        except events.BadArgumentsError as error:
            self._refuse(identity, event, procedure, counters.BAD_REQUEST, "BadRequest", str(error))
            return
        try:
            body = events.ok_body(introspection.answer(self.catalogue, procedure.name, arguments))
        except introspection.CallError as error:
            self._refuse(identity, event, procedure, counters.ERROR, error.name, error.text)
            return
        self._answer(identity, event, procedure, counters.OK, body)

    def _refuse(
        self, identity: bytes, event: ClientEvent, procedure: Procedure | None, outcome: str, name: str, text: str
    ) -> None:
        self._answer(identity, event, procedure, outcome, events.error_body(event.version, name, text))

    def _answer(
        self, identity: bytes, event: ClientEvent, procedure: Procedure | None, outcome: str, body: bytes
    ) -> None:
        """Answer a first event without a conversation."""
        (procedure.outcomes if procedure is not None else self.counters.unknown_method)[outcome] += 1
        replies = events.ReplyWriter(event.message_id, event.version, bytes(protocol.NUMBER_BYTES))
        self._to_clients.append((identity, [_EMPTY, replies.from_body(body)]))

    def _send_client(self, conversation: Conversation, event: bytes) -> None:
        if conversation.client is not None:
            self._to_clients.append((conversation.client.identity, [_EMPTY, event]))

    def _close(self, conversation: Conversation, outcome: str, now_s: float) -> None:
        """Count the conversation as ended, and forget it if its client has not gone already."""
        procedure = conversation.procedure
        procedure.outcomes[outcome] += 1
        procedure.duration.observe(now_s - conversation.arrived_s)
        if conversation.hosting is None:
            procedure.waiting -= 1
        if conversation.client is not None:
            self._forget(conversation)

    def _forget(self, conversation: Conversation) -> None:
        """From here on nobody waits for the conversation."""
        client = conversation.client
        assert client is not None
        conversation.client = None
        del self._conversations[conversation.number]
        del client.open[conversation.message_id]
        if not client.open:
            del self._clients[client.identity]

    def _fail(self, conversation: Conversation, body: bytes, outcome: str, now_s: float) -> None:
        """End a conversation with an error of the broker's own; one more event than the client can take would be
        its death (zerorpc `BufferedChannel` overflows), so in mid-stream it waits for a free slot.
        """
        if conversation.slots < 1:
            conversation.failure = (body, outcome)
            return
        self._send_client(conversation, conversation.replies.from_body(body))
        self._close(conversation, outcome, now_s)

    # -- dispatch -----------------------------------------------------------------------------------------------

    def _dispatch(self, service: Service, now_s: float) -> None:
        queue = service.queue
        while service.free > 0 and queue:
            conversation = queue.popleft()
            if conversation.client is None:  # its client went away while it waited
                continue
            hosting = service.roomiest()
            procedure = conversation.procedure
            procedure.waiting -= 1
            if not conversation.deaths:
                procedure.queue_wait.observe(now_s - conversation.arrived_s)
            self.catalogue.take(hosting, conversation)
            worker = hosting.worker
            if not worker.outgoing:
                self._with_work.append(worker)
            worker.outgoing += (conversation.number, conversation.event)
            if conversation.slots > 1:  # said while it waited
                self._after_work.append(_more(worker, conversation, conversation.slots - 1))

    def _is_unserved(self, service: Service, now_s: float) -> bool:
        since_s = service.unserved_since_s
        return since_s is not None and now_s - since_s > self._no_worker_grace_s

    def _no_workers_text(self, service: Service) -> str:
        return (
            f"no worker that hosts {service.model.qualified_name} has been ready for {self._no_worker_grace_s:g} s; "
            "the call was not executed"
        )

    # -- workers ------------------------------------------------------------------------------------------------

    def worker_message(self, identity: bytes, frames: list[bytes], now_s: float) -> None:
        """A message from the backend, in the protocol of docs/protocol.md."""
        kind, parts = (frames[0], frames[1:]) if frames else (_EMPTY, [])
        worker = self.catalogue.workers.get(identity)
        if worker is not None:
            worker.heard_s = now_s
        if kind == protocol.READY:
            self._ready(identity, worker, parts, now_s)
        elif kind not in _WORKER_KINDS:
            self._bad_frame("worker_protocol")
        elif worker is None:
            # It has been given up or the broker is a new one: what it still answers, nobody waits for.
            if kind in (protocol.REPLY, protocol.REFUSE):
                self.counters.late_replies += len(parts) // 2
            if kind != protocol.BYE:
                self._to_workers.append((identity, [protocol.RESET]))
        elif kind in (protocol.REPLY, protocol.REFUSE):
            if not parts or len(parts) % 2:
                self._bad_frame("worker_protocol")
                return
            for number, event in zip(parts[::2], parts[1::2], strict=True):
                self._reply(worker, kind, number, event, now_s)
        elif kind == protocol.DRAIN:
            self.catalogue.drain(worker, now_s)
            self._to_workers.append((identity, [protocol.DRAIN]))  # from here on there is no more work for it
        elif kind == protocol.BYE:
            self._drop_worker(worker, counters.EXIT if worker.in_flight else None, now_s)

    def _ready(self, identity: bytes, worker: Worker | None, parts: list[bytes], now_s: float) -> None:
        try:
            description = read_description(parts[0] if parts else _EMPTY)
        except protocol.ProtocolError as error:
            self._send_away(identity, worker, str(error), now_s)
            return
        if worker is not None and worker.description.id == description.id:
            self._to_workers.append((identity, [protocol.WELCOME]))  # it asked again before it had read the first
            return
        objection = self.catalogue.objection(description)
        if objection is not None:
            self._send_away(identity, worker, f"{description.id}: {objection}", now_s)
            return
        for former in [one for one in self.catalogue.workers.values() if one.description.id == description.id]:
            self._drop_worker(former, counters.EVICTED, now_s)  # its connection broke before it had read the WELCOME
        if worker is not None:
            self._drop_worker(worker, counters.EVICTED, now_s)
        worker = self.catalogue.add(identity, description, now_s)
        self._to_workers.append((identity, [protocol.WELCOME]))
        for hosting in worker.hostings.values():
            self._dirty[hosting.service] = None
        self._notes.append(f"worker {description.id} registered; it hosts {', '.join(worker.hostings) or 'nothing'}")

    def _send_away(self, identity: bytes, worker: Worker | None, reason: str, now_s: float) -> None:
        if worker is not None:
            self._drop_worker(worker, counters.EVICTED, now_s)
        self._to_workers.append((identity, [protocol.BYE, reason[:_MAX_NOTE].encode("utf-8", "replace")]))
        self._notes.append(f"a worker was refused: {reason[:_MAX_NOTE]!a}")

    def _reply(self, worker: Worker, kind: bytes, number: bytes, event: bytes, now_s: float) -> None:
        conversation = worker.in_flight.get(number)
        if conversation is None:
            self.counters.late_replies += 1
            return
        name = events.event_name(event)
        try:
            to_client = conversation.replies.from_event(event)
        except events.BadFrameError:
            name = None
        if name is None:
            # Its caller must not wait for ever for what the worker can no longer say.
            self._bad_frame("worker_event")
            to_client = conversation.replies.from_body(_unreadable_reply(conversation))
            name = events.ERR
        elif name not in _WORKER_EVENTS:
            self._bad_frame("worker_event")
            return
        conversation.slots -= 1
        self._send_client(conversation, to_client)
        if name == events.STREAM:
            conversation.streamed = True
            return
        hosting = conversation.hosting
        assert hosting is not None
        self.catalogue.release(hosting, conversation)
        self._dirty[hosting.service] = None
        if kind == protocol.REFUSE:
            outcome = counters.BAD_REQUEST if conversation.client is not None else counters.CANCELLED
        else:
            outcome = counters.ERROR if name == events.ERR else counters.OK
        self._close(conversation, outcome, now_s)

    def worker_lost(self, identity: bytes, now_s: float) -> None:
        """A send to the worker failed: it has exited, or was silent for so long that ZeroMQ closed its connection."""
        worker = self.catalogue.workers.get(identity)
        if worker is not None:
            was_silent = now_s - worker.heard_s >= protocol.HEARTBEAT_TIMEOUT_S
            self._drop_worker(worker, counters.HEARTBEAT if was_silent else counters.EXIT, now_s)

    def _drop_worker(self, worker: Worker, reason: str | None, now_s: float) -> None:
        """Forget a worker; `reason` is None if it left in good order."""
        if reason is not None:
            self.counters.worker_lost[reason] += 1
        self.catalogue.remove(worker, now_s)
        lost, worker.in_flight = worker.in_flight, {}
        how = "left" if reason is None else f"was lost ({reason}) with {len(lost)} calls in flight"
        self._notes.append(f"worker {worker.description.id} {how}")
        for conversation in reversed(lost.values()):  # so that the oldest is again the first of the queue
            if conversation.client is not None:
                self._retry_or_fail(conversation, worker, now_s)
            else:
                self._close(conversation, counters.CANCELLED, now_s)

    def _retry_or_fail(self, conversation: Conversation, worker: Worker, now_s: float) -> None:
        """Have a dead worker's call run once more, unless it may be what the worker died of, or must not run twice."""
        conversation.deaths += 1
        service = conversation.procedure.service
        assert service is not None
        if service.model.retry and conversation.deaths < _MOST_DEATHS and not conversation.streamed:
            self.counters.retries += 1
            conversation.hosting = None
            conversation.procedure.waiting += 1
            service.queue.appendleft(conversation)
            self._dirty[service] = None
        else:
            text = f"worker {worker.description.id} died during the call, which may have been executed"
            body = events.error_body(conversation.version, "WorkerLost", text)
            self._fail(conversation, body, counters.WORKER_LOST, now_s)

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due: heartbeats to clients, signs of life to workers, refusals where no worker came back."""
        for conversation in self._conversations.values():
            if now_s - conversation.arrived_s < BEAT_INTERVAL_S:
                break  # all that follow are younger
            if now_s - conversation.beaten_s >= BEAT_INTERVAL_S:
                self._beat(conversation, now_s)
        if now_s - self._pinged_s >= protocol.PING_INTERVAL_S:
            self._pinged_s = now_s
            self._to_workers += [(identity, [protocol.PING]) for identity in self.catalogue.workers]
        for service in self.catalogue.services.values():
            if service.queue and self._is_unserved(service, now_s):
                self._refuse_queue(service, now_s)

    def _refuse_queue(self, service: Service, now_s: float) -> None:
        text = self._no_workers_text(service)
        while service.queue:
            conversation = service.queue.popleft()
            if conversation.client is None:
                continue
            if conversation.deaths:
                lost = "the worker died during the call, which may have been executed, and no other has come"
                body = events.error_body(conversation.version, "WorkerLost", lost)
                self._fail(conversation, body, counters.WORKER_LOST, now_s)
            else:
                body = events.error_body(conversation.version, "NoWorkers", text)
                self._fail(conversation, body, counters.NO_WORKERS, now_s)

    def drain(self) -> None:
        """Refuse new calls from now on; those that are open go on."""
        self.draining = True

    def farewell(self) -> None:
        """Tell the workers that this broker knows them no longer, so that they look for the next one at once."""
        self._to_workers += [(identity, [protocol.RESET]) for identity in self.catalogue.workers]

    # -- bad input ----------------------------------------------------------------------------------------------

    def _bad_frame(self, reason: str) -> None:
        self.counters.bad_frames[reason] += 1


_HEARTBEAT_BODY = events.heartbeat_body()

_WORKER_EVENTS = frozenset((events.OK, events.ERR, events.STREAM, events.STREAM_DONE))

_WORKER_KINDS = frozenset((protocol.REPLY, protocol.REFUSE, protocol.DRAIN, protocol.BYE, protocol.PING))


def _more(worker: Worker, conversation: Conversation, slots: int) -> Send:
    return worker.identity, [protocol.MORE, conversation.number, slots.to_bytes(4, "big")]


def _wrong_arguments(procedure: Procedure, count: int | None) -> str:
    wanted = f"{procedure.name}({', '.join(procedure.args)})"
    if count is None:
        return f"{wanted}: the arguments must be an array"
    return f"{wanted} takes {len(procedure.args)} argument(s), {count} given"


def _unreadable_reply(conversation: Conversation) -> bytes:
    return events.error_body(conversation.version, "WorkerError", "the worker's answer could not be read")
