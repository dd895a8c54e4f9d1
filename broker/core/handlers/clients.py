"""The clients' messages: new calls, heartbeats and slots; and what becomes of the calls of clients that are gone."""

from collections.abc import Callable, Sequence

from broker.core import errors
from broker.core.errors import Failure, ProcedureError
from broker.core.introspection import builtins
from broker.core.introspection.view import View
from broker.core.scheduling.admission import Admission
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.access import ANONYMOUS, Access, Patterns
from broker.core.state.call_table import CallTable
from broker.core.state.calls import QUEUED, Call, Client
from broker.core.state.conversations import Conversations
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from broker.core.state.procedures import Procedure, Target
from broker.core.state.registry import Registry
from cluster.wire import decodable, events
from cluster.wire.arguments import BadArgumentsError, argument_count, read_arguments, read_slots
from cluster.wire.events import ClientEvent

_MAX_OWN_ARGUMENTS_BYTES = 16 * 1024
"""Limit on the arguments of the broker's own procedures, which take one name at most; unpacked they take 80 times
that."""

_ABANDONED_CHECK_INTERVAL_S = 1.0
"""Seconds between two checks for calls that their clients have abandoned."""

_NOTE_INTERVAL_S = 1.0
"""Seconds between two lines in the log about calls that are not allowed; the metrics count them all."""

_NO_ID = b""

_LATER_EVENTS = (events.ZPC_HEARTBEAT, events.ZPC_MORE, events.ZPC_CANCEL)


class ClientHandler:
    """Handles the messages from the frontend.

    Attributes:
        address_of: returns where the client of an identity connects from.
        name_of: returns the name of its key; empty if it has none.
    """

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        admission: Admission,
        counts: Counters,
        outbox: Outbox,
        conversations: Conversations,
        access: Access,
        *,
        max_message_bytes: int,
    ) -> None:
        self.address_of: Callable[[bytes], str] = lambda _: ""
        self.name_of: Callable[[bytes], str] = lambda _: ""
        self._access = access
        self._checked_s = self._noted_s = float("-inf")
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._admission = admission
        self._counters = counts
        self._outbox = outbox
        self._conversations = conversations
        self._max_message_bytes = max_message_bytes

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """Handle a message: an event behind an empty delimiter, which a bare DEALER may leave out."""
        if not 1 <= len(frames) <= 2 or (len(frames) == 2 and frames[0]):
            self._counters.bad_frames["envelope"] += 1
            return
        payload = frames[-1]
        try:
            event = events.read_event(payload)
        except events.BadFrameError as bad:
            self._counters.bad_frames[bad.reason] += 1
            return
        client = self._calls.clients.get(identity)
        if event.response_to is not None:
            self._later_event(client, event, payload, now_s)
        elif client is None:
            account = self._access.account(self.name_of(identity) or ANONYMOUS)
            self._first_event(Client(identity, self.address_of(identity), account), event, payload, now_s)
        elif event.message_id in client.open:
            self._counters.bad_frames["duplicate_message_id"] += 1
        else:
            self._first_event(client, event, payload, now_s)

    def failed(self, identity: bytes, frames: Sequence[bytes]) -> None:
        """Answer the message that an unforeseen exception has kept from being handled, if it began a call."""
        event = events.read_event(frames[-1])
        client = self._calls.clients.get(identity)
        is_open = client is not None and event.message_id in client.open
        if event.response_to is None and not is_open and not self._outbox.has_for_client(identity, event.message_id):
            failure = errors.broker_failed()
            body = events.encode_error_body(event.version, failure.name, failure.text)
            self._calls.answer(identity, event, None, failure.outcome, body)

    # -- clients that are gone ------------------------------------------------------------------------------------

    def lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """Drop the open calls of a client that cannot be reached.

        Args:
            identity: the client's identity.
            reason: the `reason` label of the loss.
            now_s: monotonic seconds.
        """
        client = self._calls.clients.get(identity)
        if client is None:
            return  # it has no open calls, or its loss has been handled
        self._counters.clients_dropped[reason] += 1
        for call in list(client.open.values()):
            self._drop(call, now_s)

    def cancel_abandoned_if_due(self, now_s: float) -> None:
        """Drop the calls that connected clients have abandoned, mostly after a time-out of their own."""
        if now_s - self._checked_s >= _ABANDONED_CHECK_INTERVAL_S:
            self._checked_s = now_s
            for call in self._calls.abandoned(now_s):
                self._drop(call, now_s)

    def _drop(self, call: Call, now_s: float) -> None:
        if call.state is QUEUED:
            self._scheduler.leave_queue(call)
            self._calls.end(call, counters.CANCELLED, now_s)
            return
        if self._calls.cancel(call, now_s):
            self._conversations.cancel(call)

    # -- the first event of a call --------------------------------------------------------------------------------

    def _first_event(self, client: Client, event: ClientEvent, payload: bytes, now_s: float) -> None:
        client.account.requests += 1
        procedure = self._registry.procedures.get(event.name) if event.name is not None else None
        split = procedure.split if procedure is not None else None
        target = None if procedure is None else procedure.target if split is None else split.head
        refusal = self._refusal(client, event, procedure, target, payload, now_s)
        if split is not None and (refusal is None or self._admission.is_full(split.head.pool)):
            split.advance()  # a call that is refused for itself takes no turn: others keep their shares
        if refusal is not None:
            if refusal.outcome is counters.NOT_ALLOWED and now_s - self._noted_s >= _NOTE_INTERVAL_S:
                self._noted_s = now_s
                self._outbox.note(f"a call was refused: {refusal.text}", client=client.account.name)
            body = events.encode_error_body(event.version, refusal.name, refusal.text)
            self._calls.answer(client.identity, event, target or procedure, refusal.outcome, body)
            return
        assert procedure is not None
        if target is None:
            self._answer_builtin(client, event, procedure, payload)
        else:
            call = self._calls.open(client, event, target, payload, now_s)
            self._scheduler.on_new_call(call, now_s)

    def _refusal(
        self,
        client: Client,
        event: ClientEvent,
        procedure: Procedure | None,
        target: Target | None,
        payload: bytes,
        now_s: float,
    ) -> Failure | None:
        """Return why a call is refused; None if it is accepted."""
        if len(payload) > self._max_message_bytes:
            return errors.message_too_large(len(payload), self._max_message_bytes)
        if event.name is None:
            return errors.name_not_a_string()
        rules = client.account.rules
        if rules.allowed is not None and not _is_allowed(rules.allowed, procedure, event.name):
            return errors.not_allowed(client.account.name, event.name)
        if procedure is None:
            return errors.no_procedure(event.name)
        if self._scheduler.draining:
            return errors.draining()
        at = event.args_at
        if procedure.is_method:
            if (objection := decodable.objection(payload, at)) is not None:
                return errors.bad_request(f"{procedure.name}: {objection}")
        elif payload[at : at + 1] != procedure.args_head:
            count = argument_count(payload, at)
            if count != len(procedure.args):
                return errors.wrong_arguments(procedure.name, procedure.args, count)
        if event.timeout_s == 0:
            return errors.bad_timeout()
        return None if target is None else self._admission.refusal(target.pool, client, len(payload), now_s)

    def _answer_builtin(self, client: Client, event: ClientEvent, procedure: Procedure, payload: bytes) -> None:
        try:
            view = View(self._registry, client.account.rules.allowed)
            value = builtins.answer(view, procedure.name, _builtin_arguments(procedure, event, payload))
            outcome, body = counters.OK, events.encode_ok_body(value)
        except BadArgumentsError as error:
            refusal = errors.bad_request(str(error))
            outcome, body = refusal.outcome, events.encode_error_body(event.version, refusal.name, refusal.text)
        except ProcedureError as failed:
            outcome, body = counters.ERROR, events.encode_error_body(event.version, failed.name, failed.text)
        self._calls.answer(client.identity, event, procedure, outcome, body)

    # -- later events ---------------------------------------------------------------------------------------------

    def _later_event(self, client: Client | None, event: ClientEvent, payload: bytes, now_s: float) -> None:
        call = client.open.get(event.response_to or _NO_ID) if client is not None else None
        if call is None:
            self._counters.bad_frames["unknown_conversation"] += 1
            return
        if event.name not in _LATER_EVENTS or len(payload) > events.MAX_LATER_EVENT_BYTES:
            self._counters.bad_frames["unexpected_event"] += 1
            return
        if event.name == events.ZPC_CANCEL:
            self._drop(call, now_s)
            return
        if event.name == events.ZPC_HEARTBEAT:
            self._calls.on_heartbeat(call, now_s)
            if (
                event.version >= 3
            ):  # before version 3, a heartbeat announced slots as well (zerorpc `HeartBeatOnChannel`)
                return
        slots = read_slots(payload, event.args_at)
        if slots is None:
            self._counters.bad_frames["slots"] += 1
            return
        self._calls.add_slots(call, slots, now_s)
        if slots and call.is_with_worker:
            self._conversations.more(call, slots)


def _is_allowed(allowed: Patterns, procedure: Procedure | None, name: str) -> bool:
    """Whether a client may call a name. The answer is the same for one that exists and for one that does not."""
    return allowed.permit_unknown(name) if procedure is None else allowed.permit(procedure)


def _builtin_arguments(procedure: Procedure, event: ClientEvent, payload: bytes) -> list[object]:
    size = len(payload) - event.args_at
    if size > _MAX_OWN_ARGUMENTS_BYTES:
        raise BadArgumentsError(
            f"the arguments have {size} bytes; {procedure.name} takes at most {_MAX_OWN_ARGUMENTS_BYTES}"
        )
    return read_arguments(payload, event.args_at)
