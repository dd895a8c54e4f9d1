"""The clients' side of the core: what a client's message means, and what it is answered at once."""

from collections.abc import Sequence

from broker import counters, introspection
from broker.catalogue import Catalogue
from broker.conversation import Client, Conversation, Conversations
from broker.counters import Counters
from broker.dispatch import Dispatcher
from broker.outbox import Outbox
from broker.procedure import Procedure, Target
from cluster import events, protocol
from cluster.events import ClientEvent

_MAX_OWN_ARGUMENTS_BYTES = 16 * 1024
"""Longest arguments of the broker's own procedures, which take a name at most; unpacked they take 80 times that."""

_LOOK_INTERVAL_S = 1.0
"""Seconds between two looks for calls that their clients have given up."""

_NO_ID = b""


class Frontend:
    """Takes the clients' messages."""

    def __init__(
        self,
        catalogue: Catalogue,
        conversations: Conversations,
        dispatcher: Dispatcher,
        counts: Counters,
        outbox: Outbox,
        *,
        max_message_bytes: int,
    ) -> None:
        self._looked_s = float("-inf")
        self._catalogue = catalogue
        self._conversations = conversations
        self._dispatcher = dispatcher
        self._counters = counts
        self._outbox = outbox
        self._max_message_bytes = max_message_bytes

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message: an event behind an empty delimiter, which a bare DEALER may leave out."""
        if not 1 <= len(frames) <= 2 or (len(frames) == 2 and frames[0]):
            self._counters.bad_frames["envelope"] += 1
            return
        payload = frames[-1]
        try:
            event = events.read_event(payload)
        except events.BadFrameError as bad:
            self._counters.bad_frames[bad.reason] += 1
            return
        client = self._conversations.clients.get(identity)
        if event.response_to is not None:
            self._later_event(client, event, payload, now_s)
        elif client is not None and event.message_id in client.open:
            self._counters.bad_frames["duplicate_message_id"] += 1
        else:
            self._first_event(identity, client, event, payload, now_s)

    def client_lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """Drop what a client has open that cannot be reached."""
        client = self._conversations.clients.get(identity)
        if client is None:
            return  # it had nothing open, or is known to have gone
        self._counters.clients_dropped[reason] += 1
        for conversation in list(client.open.values()):
            self._drop(conversation, now_s)

    def drop_given_up_if_due(self, now_s: float) -> None:
        """Drop what clients that are still there have given up, mostly by a time-out of their own."""
        if now_s - self._looked_s >= _LOOK_INTERVAL_S:
            self._looked_s = now_s
            for conversation in self._conversations.given_up(now_s):
                self._drop(conversation, now_s)

    def _drop(self, conversation: Conversation, now_s: float) -> None:
        if conversation.batch is None:
            self._dispatcher.leave_queue(conversation)
            self._conversations.close(conversation, counters.CANCELLED, now_s)
        elif conversation.failure is not None:
            _, outcome = conversation.failure
            self._conversations.close(conversation, outcome, now_s)
        else:
            # Counted when the worker answers, for it may be executed by now.
            self._conversations.forget(conversation)
            self._outbox.to_worker(conversation.batch.hosting.worker.identity, protocol.CANCEL, conversation.number)

    # -- the first event of a conversation ------------------------------------------------------------------------

    def _first_event(
        self, identity: bytes, client: Client | None, event: ClientEvent, payload: bytes, now_s: float
    ) -> None:
        procedure = self._catalogue.procedures.get(event.name) if event.name is not None else None
        target = None if procedure is None else procedure.target if procedure.split is None else procedure.split.next()
        refusal = self._refusal(client, event, procedure, target, payload, now_s)
        if refusal is not None:
            outcome, name, text = refusal
            body = events.error_body(event.version, name, text)
            self._conversations.answer(identity, event, target or procedure, outcome, body)
            return
        assert procedure is not None
        if target is None:
            self._answer_itself(identity, event, procedure, payload)
        else:
            conversation = self._conversations.open(identity, client, event, target, payload, now_s)
            self._dispatcher.enqueue(conversation, now_s)

    def _refusal(
        self,
        client: Client | None,
        event: ClientEvent,
        procedure: Procedure | None,
        target: Target | None,
        payload: bytes,
        now_s: float,
    ) -> tuple[str, str, str] | None:
        """Why a call is not even tried, as (outcome, name of the error, text); None if it is."""
        if len(payload) > self._max_message_bytes:
            text = f"the event has {len(payload)} bytes; at most {self._max_message_bytes} are accepted"
            return counters.TOO_LARGE, "MessageTooLarge", text
        if event.name is None:
            return counters.BAD_REQUEST, "BadRequest", "the name of the procedure must be a string"
        if procedure is None:
            text = f"{event.name[:80]!a} is no procedure of this service; _zerorpc_list names them all"
            return counters.NOT_FOUND, "NameError", text
        if self._dispatcher.draining:
            text = "the broker is shutting down and takes no new calls; call again in a few seconds"
            return counters.DRAINING, "Draining", text
        at = event.args_at
        if payload[at : at + 1] != procedure.args_head:
            count = events.argument_count(payload, at)
            if count != len(procedure.args):
                return counters.BAD_REQUEST, "BadRequest", _wrong_arguments(procedure, count)
        if event.timeout_s == 0:
            text = f"the header's {events.TIMEOUT} should be a positive number of seconds"
            return counters.BAD_REQUEST, "BadRequest", text
        if target is None:
            return None
        service = target.service
        if service.unserved_since_s is not None and self._dispatcher.is_unserved(service, now_s):
            return counters.NO_WORKERS, "NoWorkers", self._dispatcher.no_workers_text(service)
        busy = self._dispatcher.busy_text(service, client, len(payload))
        return (counters.BUSY, "ServerBusy", busy) if busy is not None else None

    def _answer_itself(self, identity: bytes, event: ClientEvent, procedure: Procedure, payload: bytes) -> None:
        try:
            value = introspection.answer(self._catalogue, procedure.name, _own_arguments(procedure, event, payload))
            outcome, body = counters.OK, events.ok_body(value)
        except events.BadArgumentsError as error:
            outcome, body = counters.BAD_REQUEST, events.error_body(event.version, "BadRequest", str(error))
        except introspection.CallError as error:
            outcome, body = counters.ERROR, events.error_body(event.version, error.name, error.text)
        self._conversations.answer(identity, event, procedure, outcome, body)

    # -- later events ---------------------------------------------------------------------------------------------

    def _later_event(self, client: Client | None, event: ClientEvent, payload: bytes, now_s: float) -> None:
        conversation = client.open.get(event.response_to or _NO_ID) if client is not None else None
        if conversation is None:
            self._counters.bad_frames["unknown_conversation"] += 1
            return
        if event.name not in (events.HEARTBEAT, events.MORE) or len(payload) > events.MAX_LATER_EVENT_BYTES:
            self._counters.bad_frames["unexpected_event"] += 1
            return
        if event.name == events.HEARTBEAT:
            self._conversations.heard(conversation, now_s)
            if event.version >= 3:  # before, a heartbeat announced slots as well (zerorpc `HeartBeatOnChannel`)
                return
        slots = events.read_slots(payload, event.args_at)
        if slots is None:
            self._counters.bad_frames["slots"] += 1
            return
        self._conversations.add_slots(conversation, slots, now_s)
        batch = conversation.batch
        if slots and batch is not None and conversation.number in batch.hosting.worker.in_flight:
            frames = (protocol.MORE, conversation.number, slots.to_bytes(4, "big"))
            self._outbox.to_worker(batch.hosting.worker.identity, *frames)


def _own_arguments(procedure: Procedure, event: ClientEvent, payload: bytes) -> list[object]:
    size = len(payload) - event.args_at
    if size > _MAX_OWN_ARGUMENTS_BYTES:
        raise events.BadArgumentsError(
            f"the arguments have {size} bytes; {procedure.name} takes at most {_MAX_OWN_ARGUMENTS_BYTES}"
        )
    return events.read_arguments(payload, event.args_at)


def _wrong_arguments(procedure: Procedure, count: int | None) -> str:
    wanted = f"{procedure.name}({', '.join(procedure.args)})"
    if count is None:
        return f"{wanted}: the arguments must be an array"
    return f"{wanted} takes {len(procedure.args)} argument(s), {count} given"
