"""CallTable: one call each, with all that is said in it, and the clients they belong to.

A call is opened by its client's first event and closed by its last reply; in between it waits in a queue or is
with a worker (`dispatch`). This module keeps the table, speaks to the client, and counts how calls end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from cluster.wire import events, protocol
from cluster.wire.events import ClientEvent

if TYPE_CHECKING:
    from broker.core.state.pool import Batch
    from broker.core.state.procedures import Procedure, Target

BEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to the client of a call. Less than a stock client's 5 s, so that a passive
one, which beats only when it was beaten to, is soon seen alive."""

SILENT_BEATS = 3
LEAST_PATIENCE_S = 15.0
"""A client that has sent heartbeats for a call has given it up when as many in a row are missing, and at least
so many seconds have passed. Only their intervals so far tell how often it means to send them."""

BEATING_FACTOR = 6
"""A reader that sends heartbeats may make no room for so many times as long as one that sends none."""

_HEARTBEAT_BODY = events.encode_heartbeat_body()
_NEVER_S = float("inf")
_NO_NUMBER = bytes(protocol.NUMBER_BYTES)


class Client:
    """A connection to the frontend that has calls open.

    Attributes:
        identity: ZeroMQ's own name for the connection.
        open: its calls, by message id (as msgpack bytes, so that b"1", "1" and 1 differ).
        stream_bytes: how many bytes the first events of its open streams have.
    """

    __slots__ = ("identity", "open", "stream_bytes")

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.stream_bytes = 0
        self.open: dict[bytes, Call] = {}


class Call:
    """A call from its first event to its last.

    Attributes:
        number: its name between broker and worker; unique, because processes forked from one client send equal ids.
        client: who asked; None once that one has gone and only the worker's answer is still to come.
        message_id: the client's name for it, as msgpack bytes.
        version: the client's protocol version.
        target: what is called, and of which version of its model.
        event: the client's first event as it came, kept as long as it may have to be sent again.
        batch: the calls with which it was given to a worker; None while it waits in the queue.
        arrived_s, beaten_s: when it came, when a heartbeat last went to the client; monotonic seconds.
        heard_s: when the client's last heartbeat came, in monotonic seconds; None before the first.
        patience_s: how long its heartbeats may be missing, in seconds.
        deadline_s: when it has waited or run for too long; monotonic seconds. What it does now, queue or run, sets it.
        asked_until_s: how long its client wants to wait at most; monotonic seconds.
        closed: whether it has been counted; only the worker's answer may still be to come.
        size: how many bytes that event had.
        slots: how many more stream items the client has said it can take.
        full_s: since when that is none; monotonic seconds.
        streamed: whether the client has got an item of a stream.
        deaths: how many workers died while they had it.
        failure: the body of an ERR that waits for a free slot, and the outcome that it is counted as.
    """

    __slots__ = (
        "arrived_s",
        "asked_until_s",
        "batch",
        "client",
        "closed",
        "deadline_s",
        "deaths",
        "event",
        "failure",
        "full_s",
        "heartbeat_sent_s",
        "last_heartbeat_s",
        "message_id",
        "number",
        "patience_s",
        "size",
        "slots",
        "streamed",
        "target",
        "version",
    )

    def __init__(self, number: bytes, client: Client, first: ClientEvent, target: Target, event: bytes, now_s: float):
        self.number = number
        self.client: Client | None = client
        self.message_id = first.message_id
        self.version = first.version
        self.target = target
        self.event = event
        self.size = len(event)
        self.batch: Batch | None = None
        self.arrived_s = now_s
        self.heartbeat_sent_s = now_s
        self.last_heartbeat_s: float | None = None
        self.patience_s = LEAST_PATIENCE_S
        self.asked_until_s = _NEVER_S if first.timeout_s is None else now_s + first.timeout_s
        self.deadline_s = self.asked_until_s
        self.closed = False
        self.slots = 1  # a sender starts with one (zerorpc `BufferedChannel`)
        self.full_s = _NEVER_S
        self.streamed = False
        self.deaths = 0
        self.failure: tuple[bytes, str] | None = None


class CallTable:
    """The table of all calls whose client waits.

    Attributes:
        clients: who has something open, by ZeroMQ's name for the connection.
    """

    def __init__(self, outbox: Outbox, counters: Counters, *, unread_patience_s: float) -> None:
        self._unread_patience_s = unread_patience_s
        self._outbox = outbox
        self._counters = counters
        self.clients: dict[bytes, Client] = {}
        self._open: dict[bytes, Call] = {}  # by number, and so the oldest first
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self,
        identity: bytes,
        client: Client | None,
        first: ClientEvent,
        target: Target,
        event: bytes,
        now_s: float,
    ) -> Call:
        """Begin a call; `client` is who has that identity, None if it has nothing open so far."""
        if client is None:
            client = self.clients[identity] = Client(identity)
        self._last_number += 1
        number = self._last_number.to_bytes(protocol.NUMBER_BYTES, "big")
        call = Call(number, client, first, target, event, now_s)
        client.open[first.message_id] = call
        self._open[number] = call
        if target.is_stream:
            self._count_stream(call, client, 1)
        return call

    def move(self, call: Call, target: Target) -> None:
        """A call that waits is now for another version of its model."""
        client = call.client
        assert client is not None
        if target.is_stream:
            self._count_stream(call, client, -1)
        call.target = target
        if target.is_stream:
            self._count_stream(call, client, 1)

    def send_event(self, call: Call, event: bytes) -> None:
        """Send the client an event, if it is still there."""
        if call.client is not None:
            self._outbox.to_client(call.client.identity, event)

    def send_heartbeat(self, call: Call, now_s: float) -> None:
        """Send the client a heartbeat."""
        call.heartbeat_sent_s = now_s
        self.send_event(call, events.encode_reply(call.message_id, call.number, _HEARTBEAT_BODY))

    def send_due_heartbeats(self, now_s: float) -> None:
        """Send heartbeats where one is due."""
        for call in self._open.values():
            if now_s - call.arrived_s < BEAT_INTERVAL_S:
                break  # all that follow are younger
            if now_s - call.heartbeat_sent_s >= BEAT_INTERVAL_S:
                self.send_heartbeat(call, now_s)

    def on_heartbeat(self, call: Call, now_s: float) -> None:
        """A heartbeat came from the client: answer it at once, which suits whatever frequency it has."""
        before_s = call.last_heartbeat_s if call.last_heartbeat_s is not None else call.arrived_s
        call.patience_s = max(call.patience_s, SILENT_BEATS * (now_s - before_s))
        call.last_heartbeat_s = now_s
        self.send_heartbeat(call, now_s)

    def abandoned(self, now_s: float) -> list[Call]:
        """Those that their clients have given up: heartbeats have ceased, or there is no room for too long."""
        return [
            one
            for one in self._open.values()
            if (one.last_heartbeat_s is not None and now_s - one.last_heartbeat_s > one.patience_s)
            or now_s - one.full_s > self._unread_patience_s * (1 if one.last_heartbeat_s is None else BEATING_FACTOR)
        ]

    def overdue(self, now_s: float) -> list[Call]:
        """Those whose deadline has passed."""
        return [one for one in self._open.values() if one.deadline_s <= now_s and one.failure is None]

    def add_slots(self, call: Call, slots: int, now_s: float) -> None:
        """The client has room for more events, perhaps for an error that waits."""
        was_full = call.slots <= 0
        call.slots = min(call.slots + slots, events.MAX_SLOTS)
        if was_full and call.slots > 0:
            self._expect_item(call, now_s)
        if call.failure is not None and call.slots > 0:
            body, outcome = call.failure
            self._end(call, body, outcome, now_s)

    def note_item(self, call: Call, now_s: float) -> None:
        """The client got an item of a stream, which must not be run again from here on."""
        call.streamed = True
        call.event = b""  # it may be large, and the stream long
        if call.slots > 0:
            self._expect_item(call, now_s)
        else:
            call.full_s = now_s
            call.deadline_s = call.asked_until_s

    def _expect_item(self, call: Call, now_s: float) -> None:
        """A stream may take as long as it does: its time-out is from item to item, while there is room for one."""
        timeout_s = call.target.pool.model.timeout_s
        call.full_s = _NEVER_S
        call.deadline_s = min(call.asked_until_s, now_s + timeout_s)

    def fail(self, call: Call, name: str, text: str, outcome: str, now_s: float) -> None:
        """End a call with an error of the broker's own.

        One more event than the client can take would be its death (zerorpc `BufferedChannel` overflows), so in
        mid-stream the error waits for a free slot.
        """
        body = events.encode_error_body(call.version, name, text)
        if call.slots > 0:
            self._end(call, body, outcome, now_s)
        else:
            call.failure = (body, outcome)

    def _end(self, call: Call, body: bytes, outcome: str, now_s: float) -> None:
        self.send_event(call, events.encode_reply(call.message_id, call.number, body))
        self.close(call, outcome, now_s)

    def close(self, call: Call, outcome: str, now_s: float) -> None:
        """Count the call as ended, and forget it if its client has not gone already."""
        call.closed = True
        target = call.target
        target.outcomes[outcome] += 1
        target.duration.observe(now_s - call.arrived_s)
        if call.client is not None:
            self.forget(call)

    def forget(self, call: Call) -> None:
        """From here on nobody waits for the call."""
        client = call.client
        assert client is not None
        call.client = None
        if call.target.is_stream:
            self._count_stream(call, client, -1)
        del self._open[call.number]
        del client.open[call.message_id]
        if not client.open:
            del self.clients[client.identity]

    @staticmethod
    def _count_stream(call: Call, client: Client, sign: int) -> None:
        """A worker keeps what it was asked as long as the stream is open."""
        client.stream_bytes += sign * call.size
        call.target.pool.stream_bytes += sign * call.size

    def answer(
        self, identity: bytes, first: ClientEvent, called: Target | Procedure | None, outcome: str, body: bytes
    ) -> None:
        """Answer a first event without a call; `called` counts it."""
        (called.outcomes if called is not None else self._counters.unknown_method)[outcome] += 1
        self._outbox.to_client(identity, events.encode_reply(first.message_id, _NO_NUMBER, body))
