"""The clients' side of the core: what a client's message means, and what it is answered at once."""

from collections.abc import Sequence

from broker.core.introspection import builtins as introspection
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.calls import Call, CallTable, Client
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from broker.core.state.procedures import Procedure, Target
from broker.core.state.registry import Registry
from cluster.wire import events, protocol
from cluster.wire.events import ClientEvent

_MAX_OWN_ARGUMENTS_BYTES = 16 * 1024
"""Longest arguments of the broker's own procedures, which take a name at most; unpacked they take 80 times that."""

_LOOK_INTERVAL_S = 1.0
"""Seconds between two looks for calls that their clients have given up."""

_NO_ID = b""


class ClientHandler:
    """Takes the clients' messages."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        counts: Counters,
        outbox: Outbox,
        *,
        max_message_bytes: int,
    ) -> None:
        self._looked_s = float("-inf")
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
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
        client = self._calls.clients.get(identity)
        if event.response_to is not None:
            self._later_event(client, event, payload, now_s)
        elif client is not None and event.message_id in client.open:
            self._counters.bad_frames["duplicate_message_id"] += 1
        else:
            self._first_event(identity, client, event, payload, now_s)

    def client_lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """Drop what a client has open that cannot be reached."""
        client = self._calls.clients.get(identity)
        if client is None:
            return  # it had nothing open, or is known to have gone
        self._counters.clients_dropped[reason] += 1
        for call in list(client.open.values()):
            self._drop(call, now_s)

    def cancel_abandoned_if_due(self, now_s: float) -> None:
        """Drop what clients that are still there have given up, mostly by a time-out of their own."""
        if now_s - self._looked_s >= _LOOK_INTERVAL_S:
            self._looked_s = now_s
            for call in self._calls.abandoned(now_s):
                self._drop(call, now_s)

    def _drop(self, call: Call, now_s: float) -> None:
        if call.batch is None:
            self._scheduler.leave_queue(call)
            self._calls.close(call, counters.CANCELLED, now_s)
        elif call.failure is not None:
            _, outcome = call.failure
            self._calls.close(call, outcome, now_s)
        else:
            # Counted when the worker answers, for it may be executed by now.
            self._calls.forget(call)
            self._outbox.to_worker(call.batch.replica.worker.identity, protocol.CANCEL, call.number)

    # -- the first event of a call ------------------------------------------------------------------------

    def _first_event(
        self, identity: bytes, client: Client | None, event: ClientEvent, payload: bytes, now_s: float
    ) -> None:
        procedure = self._registry.procedures.get(event.name) if event.name is not None else None
        target = None if procedure is None else procedure.target if procedure.split is None else procedure.split.next()
        refusal = self._refusal(client, event, procedure, target, payload, now_s)
        if refusal is not None:
            outcome, name, text = refusal
            body = events.encode_error_body(event.version, name, text)
            self._calls.answer(identity, event, target or procedure, outcome, body)
            return
        assert procedure is not None
        if target is None:
            self._answer_itself(identity, event, procedure, payload)
        else:
            call = self._calls.open(identity, client, event, target, payload, now_s)
            self._scheduler.enqueue(call, now_s)

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
        if self._scheduler.draining:
            text = "the broker is shutting down and takes no new calls; call again in a few seconds"
            return counters.DRAINING, "Draining", text
        at = event.args_at
        if payload[at : at + 1] != procedure.args_head:
            count = events.argument_count(payload, at)
            if count != len(procedure.args):
                return counters.BAD_REQUEST, "BadRequest", _wrong_arguments(procedure, count)
        if event.timeout_s == 0:
            text = f"the header's {events.TIMEOUT_KEY} should be a positive number of seconds"
            return counters.BAD_REQUEST, "BadRequest", text
        if target is None:
            return None
        pool = target.pool
        if pool.unserved_since_s is not None and self._scheduler.is_unserved(pool, now_s):
            return counters.NO_WORKERS, "NoWorkers", self._scheduler.no_workers_text(pool)
        busy = self._scheduler.busy_text(pool, client, len(payload))
        return (counters.BUSY, "ServerBusy", busy) if busy is not None else None

    def _answer_itself(self, identity: bytes, event: ClientEvent, procedure: Procedure, payload: bytes) -> None:
        try:
            value = introspection.answer(self._registry, procedure.name, _own_arguments(procedure, event, payload))
            outcome, body = counters.OK, events.encode_ok_body(value)
        except events.BadArgumentsError as error:
            outcome, body = counters.BAD_REQUEST, events.encode_error_body(event.version, "BadRequest", str(error))
        except introspection.ProcedureError as error:
            outcome, body = counters.ERROR, events.encode_error_body(event.version, error.name, error.text)
        self._calls.answer(identity, event, procedure, outcome, body)

    # -- later events ---------------------------------------------------------------------------------------------

    def _later_event(self, client: Client | None, event: ClientEvent, payload: bytes, now_s: float) -> None:
        call = client.open.get(event.response_to or _NO_ID) if client is not None else None
        if call is None:
            self._counters.bad_frames["unknown_conversation"] += 1
            return
        if event.name not in (events.ZPC_HEARTBEAT, events.ZPC_MORE) or len(payload) > events.MAX_LATER_EVENT_BYTES:
            self._counters.bad_frames["unexpected_event"] += 1
            return
        if event.name == events.ZPC_HEARTBEAT:
            self._calls.on_heartbeat(call, now_s)
            if event.version >= 3:  # before, a heartbeat announced slots as well (zerorpc `HeartBeatOnChannel`)
                return
        slots = events.read_slots(payload, event.args_at)
        if slots is None:
            self._counters.bad_frames["slots"] += 1
            return
        self._calls.add_slots(call, slots, now_s)
        batch = call.batch
        if slots and batch is not None and call.number in batch.replica.worker.in_flight:
            frames = (protocol.MORE, call.number, slots.to_bytes(4, "big"))
            self._outbox.to_worker(batch.replica.worker.identity, *frames)


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
