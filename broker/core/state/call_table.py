"""The table of all calls: who made them, where they wait, which worker has them; and what the broker sends to clients.

Every transition of a call happens here, so that the tables and the counts change with it.
"""

from __future__ import annotations

from collections import defaultdict

from broker.core.state.calls import (
    CANCELLED,
    ENDED,
    FAILING,
    QUEUED,
    RUNNING,
    STREAMING,
    Batch,
    Call,
    Client,
)
from broker.core.state.counters import Counters
from broker.core.state.fair_queue import FairQueue
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Replica, Worker, WorkerPool
from broker.core.state.procedures import Procedure, Target
from broker.core.state.stream_shares import StreamShares
from cluster.wire import events, protocol
from cluster.wire.arguments import MAX_SLOTS
from cluster.wire.events import ClientEvent

LARGE_BYTES = 1 << 20
"""A call above this size is large: it keeps its worker busy for long, so it is a batch of its own."""

HEARTBEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to the client of a call. Less than a stock client's 5 s, so that a passive client,
which sends heartbeats only in answer, soon shows that it is alive."""

MISSED_HEARTBEATS = 3
"""Heartbeats of a client that may be missing in a row. Only past intervals show how often a client sends them."""

HEARTBEAT_PATIENCE_FACTOR = 6
"""A stream reader that sends heartbeats may have no free slot for this many times as long as one that sends none."""

_HEARTBEAT_BODY = events.encode_heartbeat_body()
_NEVER_S = float("inf")
_NO_NUMBER = bytes(protocol.NUMBER_BYTES)


class CallTable:
    """All calls, from arrival to end.

    Attributes:
        clients: the clients with open calls, by identity.
        queues: the waiting calls of each pool.
        shares: who has the open streams of each pool.
        in_flight: the calls that each worker has not answered, by number. Calls whose client is gone, or already has an
            error, are among them until the worker answers.
        doubtful: the calls that a step was about which raised an exception that nobody foresaw.
    """

    def __init__(self, outbox: Outbox, counters: Counters, *, unread_timeout_s: float) -> None:
        """Build an empty table.

        Args:
            outbox: takes what is to be sent to clients.
            counters: counts calls of unknown procedures.
            unread_timeout_s: how long a stream's reader may have no free slot, in seconds.
        """
        self._unread_timeout_s = unread_timeout_s
        self._outbox = outbox
        self._counters = counters
        self.clients: dict[bytes, Client] = {}
        self.queues: defaultdict[WorkerPool, FairQueue[Call]] = defaultdict(FairQueue)
        self.shares: defaultdict[WorkerPool, StreamShares] = defaultdict(StreamShares)
        self.in_flight: defaultdict[Worker, dict[bytes, Call]] = defaultdict(dict)
        self.doubtful: list[Call] = []
        self._open: dict[bytes, Call] = {}  # by number, and so the oldest first
        self._last_number = 0

    def __len__(self) -> int:
        """Return the number of open calls: those whose client waits for an answer."""
        return len(self._open)

    # -- transitions ----------------------------------------------------------------------------------------------

    def open(
        self,
        client: Client,
        first: ClientEvent,
        target: Target,
        event: bytes,
        now_s: float,
    ) -> Call:
        """Add a call, and append it to the queue of its pool.

        Args:
            client: the client; if it has no open calls yet, it becomes one of `clients`.
            first: the head of its first event.
            target: the procedure and version.
            event: the bytes of its first event.
            now_s: monotonic seconds.
        """
        if not client.open:
            self.clients[client.identity] = client
        self._last_number += 1
        number = self._last_number.to_bytes(protocol.NUMBER_BYTES, "big")
        call = Call(number, client, first, target, event, now_s)
        client.open[first.message_id] = call
        client.account.open_calls += 1
        self._open[number] = call
        if target.is_stream:
            self._count_stream(call, client, 1)
        self.queues[target.pool].append(call)
        target.waiting += 1
        return call

    def start(self, calls: list[Call], replica: Replica, capacity: int, now_s: float) -> None:
        """Record that calls, already removed from their queue, go to a replica as one batch: they are RUNNING.

        Args:
            calls: the calls of the batch.
            replica: the replica that gets them.
            capacity: the share of its capacity that they take, in batches.
            now_s: monotonic seconds.
        """
        worker, count = replica.worker, len(calls)
        is_large = calls[0].size > LARGE_BYTES
        batch = Batch(replica, capacity, count, now_s, is_large=is_large)
        if is_large:
            replica.large_batches += 1
        if replica.pool.is_for_streams:
            self.shares[replica.pool].add(calls[0].owner)
        in_flight = self.in_flight[worker]
        running_until_s = now_s + replica.timeout_s
        for call in calls:
            call.become(RUNNING)
            call.target.waiting -= 1
            call.batch = batch
            in_flight[call.number] = call
            client_deadline_s = call.client_deadline_s
            call.deadline_s = running_until_s if running_until_s < client_deadline_s else client_deadline_s
        worker.in_flight += count
        worker.dispatched += count
        replica.last_used_s = now_s
        replica.pool.change_free(replica, -capacity)

    def on_item(self, call: Call, now_s: float) -> None:
        """Record that the client got an item of a stream: the call is STREAMING, and must not be retried."""
        if call.state is RUNNING:
            call.become(STREAMING)
            call.event = b""  # it may be large, and the stream long
        if call.slots > 0:
            self._expect_item(call, now_s)
        else:
            call.full_since_s = now_s
            call.deadline_s = call.client_deadline_s

    def retry(self, call: Call, deadline_s: float) -> None:
        """Put a call whose worker died back to the head of its queue.

        Args:
            call: a call that is RUNNING.
            deadline_s: monotonic time until which it may wait.
        """
        call.become(QUEUED)
        call.batch = None
        call.deadline_s = min(call.client_deadline_s, deadline_s)
        self.queues[call.target.pool].push_retry(call)
        call.target.waiting += 1

    def fail(self, call: Call, name: str, text: str, outcome: str, now_s: float) -> None:
        """End a call with an error of the broker's own, or let it be FAILING until the client has a free slot.

        A stock client breaks when it gets one event more than it has slots (zerorpc `BufferedChannel` overflows).
        """
        body = events.encode_error_body(call.version, name, text)
        if call.slots > 0:
            self._end_with(call, body, outcome, now_s)
        else:
            call.become(FAILING)
            call.failure = (body, outcome)

    def cancel(self, call: Call, now_s: float) -> bool:
        """Drop a call that is in no queue, for a client that is gone or has abandoned it.

        A call that a worker has is CANCELLED and counted when the worker answers, because it may have been executed.

        Returns:
            Whether its worker should stop executing it.
        """
        if call.failure is not None:
            _, outcome = call.failure
            self.end(call, outcome, now_s)
            return False
        call.become(CANCELLED)
        self._forget(call)
        return True

    def end(self, call: Call, outcome: str, now_s: float, event: bytes | None = None) -> None:
        """Count the call, send its client the last event, and forget the client."""
        target = call.target
        if call.state is QUEUED:
            target.waiting -= 1
        call.become(ENDED)
        if event is not None:
            self.send_event(call, event)  # directly after the state: a call that is not ENDED has got no last event
        target.outcomes[outcome] += 1
        target.duration.observe(now_s - call.arrived_s)
        if call.client is not None:
            self._forget(call)

    def release(self, call: Call, now_s: float) -> WorkerPool | None:
        """Record that the worker has answered a call; return the pool that has more capacity because of it, if any."""
        batch = call.batch
        assert batch is not None
        replica = batch.replica
        worker = replica.worker
        del self.in_flight[worker][call.number]
        worker.in_flight -= 1
        batch.unanswered -= 1
        if batch.unanswered:
            return None
        if batch.is_large:
            replica.large_batches -= 1
        pool = replica.pool
        if pool.is_for_streams:
            self.shares[pool].remove(call.owner)
        elif batch.calls and not call.target.is_list:
            pool.run_times.observe(batch.calls, now_s - batch.dispatched_s)
        pool.change_free(replica, batch.capacity)
        return pool

    def move(self, replica: Replica) -> None:
        """Let a replica have all calls of its worker, a stock server whose former replica had other methods."""
        for call in self.in_flight[replica.worker].values():
            batch = call.batch
            assert batch is not None
            former = batch.replica
            self.shares[former.pool].remove(call.owner)
            former.pool.change_free(former, batch.capacity)
            batch.replica = replica
            self.shares[replica.pool].add(call.owner)
            replica.pool.change_free(replica, -batch.capacity)

    def all_open(self) -> list[Call]:
        """Return all open calls, the oldest first."""
        return list(self._open.values())

    def abort(self, call: Call, name: str, text: str, outcome: str, now_s: float) -> None:
        """End an open call whatever its state is. For tables that may be wrong; `recount` follows."""
        state, call.state, call.client, call.event = call.state, ENDED, None, b""
        del self._open[call.number]
        if state is not ENDED:
            call.target.outcomes[outcome] += 1
            call.target.duration.observe(now_s - call.arrived_s)
        if state not in (CANCELLED, ENDED):
            body = events.encode_error_body(call.version, name, text)
            self._outbox.to_client(call.owner.identity, events.encode_reply(call.message_id, call.number, body))

    def recount(self) -> None:
        """Rebuild the table of clients, and add up what is counted of open calls.

        For tables that may be wrong; targets, pools and accounts have counts of 0 before.
        """
        calls = self._open.values()
        self.clients = {}
        for call in calls:
            client = call.client = call.owner
            client.open, client.stream_bytes = {}, 0
            self.clients[client.identity] = client
        for call in calls:
            call.owner.open[call.message_id] = call
            call.owner.account.open_calls += 1
            call.target.waiting += call.state is QUEUED
            if call.target.is_stream:
                self._count_stream(call, call.owner, 1)

    def release_all(self, worker: Worker) -> list[Call]:
        """Take the calls of a lost worker, the oldest first."""
        worker.in_flight = 0
        calls = list(self.in_flight.pop(worker, {}).values())
        for call in calls:
            if call.batch is not None and call.batch.replica.pool.is_for_streams:
                self.shares[call.batch.replica.pool].remove(call.owner)
        return calls

    def retarget(self, call: Call, target: Target) -> None:
        """Change the target of a queued call to another version of its model."""
        client = call.client
        assert client is not None
        if target.is_stream:
            self._count_stream(call, client, -1)
        call.target.waiting -= 1
        target.waiting += 1
        call.target = target
        if target.is_stream:
            self._count_stream(call, client, 1)

    def _end_with(self, call: Call, body: bytes, outcome: str, now_s: float) -> None:
        self.end(call, outcome, now_s, events.encode_reply(call.message_id, call.number, body))

    def _forget(self, call: Call) -> None:
        client = call.client
        assert client is not None
        call.client = None
        call.event = b""  # no other worker gets it, and its own may take long to answer
        if call.target.is_stream:
            self._count_stream(call, client, -1)
        del self._open[call.number]
        del client.open[call.message_id]
        client.account.open_calls -= 1
        if not client.open:
            del self.clients[client.identity]

    @staticmethod
    def _count_stream(call: Call, client: Client, sign: int) -> None:
        """Count the first event of a stream, which its worker keeps as long as the stream is open."""
        client.stream_bytes += sign * call.size
        call.target.pool.stream_bytes += sign * call.size

    # -- events to clients ----------------------------------------------------------------------------------------

    def send_event(self, call: Call, event: bytes) -> None:
        """Send the client an event, unless it is gone."""
        if call.client is not None:
            self._outbox.to_client(call.client.identity, event)

    def answer(
        self, identity: bytes, first: ClientEvent, called: Target | Procedure | None, outcome: str, body: bytes
    ) -> None:
        """Answer a first event without opening a call; `called` counts it, or the unknown method does."""
        (called.outcomes if called is not None else self._counters.unknown_method)[outcome] += 1
        self._outbox.to_client(identity, events.encode_reply(first.message_id, _NO_NUMBER, body))

    def send_due_heartbeats(self, now_s: float) -> None:
        """Send a heartbeat for every open call that has had none for `HEARTBEAT_INTERVAL_S`."""
        for call in self._open.values():
            if now_s - call.arrived_s < HEARTBEAT_INTERVAL_S:
                break  # all following calls are younger
            if now_s - call.heartbeat_sent_s >= HEARTBEAT_INTERVAL_S:
                self._send_heartbeat(call, now_s)

    def on_heartbeat(self, call: Call, now_s: float) -> None:
        """Answer a client's heartbeat at once, which suits every frequency that a client may have."""
        before_s = call.last_heartbeat_s if call.last_heartbeat_s is not None else call.arrived_s
        call.client_timeout_s = max(call.client_timeout_s, MISSED_HEARTBEATS * (now_s - before_s))
        call.last_heartbeat_s = now_s
        self._send_heartbeat(call, now_s)

    def _send_heartbeat(self, call: Call, now_s: float) -> None:
        call.heartbeat_sent_s = now_s
        self.send_event(call, events.encode_reply(call.message_id, call.number, _HEARTBEAT_BODY))

    # -- slots and time -------------------------------------------------------------------------------------------

    def add_slots(self, call: Call, slots: int, now_s: float) -> None:
        """Record that the client can take more events; an error that waits for a slot is sent."""
        was_full = call.slots <= 0
        call.slots = min(call.slots + slots, MAX_SLOTS)
        if was_full and call.slots > 0:
            self._expect_item(call, now_s)
        if call.failure is not None and call.slots > 0:
            body, outcome = call.failure
            self._end_with(call, body, outcome, now_s)

    @staticmethod
    def _expect_item(call: Call, now_s: float) -> None:
        """Restart the deadline of a stream: it counts from item to item, while the client has a free slot."""
        assert call.batch is not None
        call.full_since_s = _NEVER_S
        call.deadline_s = min(call.client_deadline_s, now_s + call.batch.replica.timeout_s)

    def abandoned(self, now_s: float) -> list[Call]:
        """Return the calls whose client sends no more heartbeats, or has had no free slot for too long."""
        return [
            call
            for call in self._open.values()
            if (call.last_heartbeat_s is not None and now_s - call.last_heartbeat_s > call.client_timeout_s)
            or now_s - call.full_since_s
            > self._unread_timeout_s * (1 if call.last_heartbeat_s is None else HEARTBEAT_PATIENCE_FACTOR)
        ]

    def unread(self, since_s: float) -> list[Call]:
        """Return the streams whose client has had no free slot since `since_s` or longer, the oldest first."""
        return [call for call in self._open.values() if call.full_since_s <= since_s]

    def is_with_its_worker(self, call: Call) -> bool:
        """Whether the worker that has got a call has yet to answer it; also for a call that is over for its client."""
        return call.batch is not None and call.number in self.in_flight[call.batch.replica.worker]

    def overdue(self, now_s: float) -> list[Call]:
        """Return the calls whose deadline has passed."""
        return [call for call in self._open.values() if call.deadline_s <= now_s and call.state is not FAILING]
