"""One call: its states and the transitions between them, its client, and the batch that it runs in."""

from __future__ import annotations

from enum import Enum

from broker.core.state.access import Account
from broker.core.state.pool import Replica
from broker.core.state.procedures import Target
from cluster.wire.events import ClientEvent

LEAST_CLIENT_TIMEOUT_S = 15.0
"""A client's heartbeats for a call may be missing for at least this long, in seconds, before the call is abandoned."""

_NEVER_S = float("inf")


class CallState(Enum):
    """What a call waits for.

    Attributes:
        successors: the states that may follow.
    """

    successors: tuple[CallState, ...]

    QUEUED = "waits in the queue of its pool for a worker"
    RUNNING = "a worker has it; the client has got no item of a stream, so it may be retried"
    STREAMING = "a worker has it; the client has got an item, so it must not be retried"
    FAILING = "the broker has an error for it, which waits until the client has a free slot"
    CANCELLED = "the client has dropped it or is gone; only the worker's answer is outstanding"
    ENDED = "it has been counted; the answer of its worker may still be outstanding"


QUEUED = CallState.QUEUED
RUNNING = CallState.RUNNING
STREAMING = CallState.STREAMING
FAILING = CallState.FAILING
CANCELLED = CallState.CANCELLED
ENDED = CallState.ENDED

TRANSITIONS: dict[CallState, tuple[CallState, ...]] = {
    QUEUED: (
        RUNNING,  # dispatched
        ENDED,  # refused, expired, or dropped by its client
    ),
    RUNNING: (
        ENDED,  # answered, expired, or its worker died
        STREAMING,  # the first item of a stream
        QUEUED,  # its worker died: a retry
        CANCELLED,  # dropped by its client
    ),
    STREAMING: (
        ENDED,  # answered, expired, or its worker died
        FAILING,  # expired, or its worker died, while the client had no free slot
        CANCELLED,  # dropped by its client
    ),
    FAILING: (ENDED,),  # the client has a free slot, or is gone
    CANCELLED: (ENDED,),  # the worker has answered, or is gone
    ENDED: (),
}
"""Every transition that a call may make, and why. The most frequent one stands first."""

for _state, _successors in TRANSITIONS.items():
    _state.successors = _successors


class Client:
    """A connection to the frontend that has open calls.

    Attributes:
        identity: ZeroMQ's name for the connection.
        account: what it shares with other connections of its name.
        address: where it connects from; clients of one address share turns.
        open: its open calls, by message id (as msgpack bytes, so that b"1", "1" and 1 differ).
        stream_bytes: bytes of the first events of its open streams.
    """

    __slots__ = ("account", "address", "identity", "open", "stream_bytes")

    def __init__(self, identity: bytes, address: str, account: Account) -> None:
        self.identity = identity
        self.account = account
        self.address = address
        self.stream_bytes = 0
        self.open: dict[bytes, Call] = {}


class Batch:
    """Calls that a worker got in one message. They take capacity until all of them are answered.

    Attributes:
        replica: the replica that got them.
        capacity: the share of the replica's capacity that they take, in batches.
        unanswered: calls that the worker has not answered yet.
        calls: how many it had at first, if the worker had nothing else of this pool; otherwise 0.
        dispatched_s: monotonic time of its dispatch.
        is_large: whether it is one large call.
        heard_s: of a call at a stock server, monotonic time of the server's last event for it, or of its dispatch.
        beat_s: likewise, of its last heartbeat, or of its dispatch.
        server_version: the ZeroRPC protocol version of that server.
    """

    __slots__ = (
        "beat_s",
        "calls",
        "capacity",
        "dispatched_s",
        "heard_s",
        "is_large",
        "replica",
        "server_version",
        "unanswered",
    )

    def __init__(self, replica: Replica, capacity: int, unanswered: int, now_s: float, *, is_large: bool) -> None:
        self.replica = replica
        self.capacity = capacity
        self.unanswered = unanswered
        self.calls = unanswered if replica.free == replica.capacity else 0
        self.dispatched_s = now_s
        self.is_large = is_large
        self.heard_s = self.beat_s = 0.0
        self.server_version = 3


class Call:
    """A call, from its first event to its last.

    Attributes:
        state: see `CallState`.
        number: the broker's name for the call toward the worker. It is unique; the clients' ids are not, because
            processes that were forked from one client send equal ids.
        owner: the client that made it.
        client: the same; None once it has dropped the call or the call has ended.
        message_id: the client's id of the call, as msgpack bytes.
        version: the client's ZeroRPC protocol version.
        target: the procedure, and the version of its model.
        event: the client's first event, kept as long as the call may have to be sent to another worker.
        size: bytes of the first event.
        batch: the batch of its last dispatch; None before the first, and while a retry is queued.
        arrived_s: monotonic time of its arrival.
        heartbeat_sent_s: monotonic time of the broker's last heartbeat to the client.
        last_heartbeat_s: monotonic time of the client's last heartbeat; None before the first.
        client_timeout_s: how long the client's heartbeats may be missing, in seconds.
        client_deadline_s: monotonic time until which the client wants to wait (the header's `timeout_s`).
        deadline_s: monotonic time at which the call has waited or run for too long; set at each change of state.
        slots: stream items, or other events, that the client can take now.
        full_since_s: monotonic time since which there are none; infinity while there are some.
        deaths: workers that died while they had the call.
        failure: body and outcome of the error of a call that is FAILING.
    """

    __slots__ = (
        "arrived_s",
        "batch",
        "client",
        "client_deadline_s",
        "client_timeout_s",
        "deadline_s",
        "deaths",
        "event",
        "failure",
        "full_since_s",
        "heartbeat_sent_s",
        "last_heartbeat_s",
        "message_id",
        "number",
        "owner",
        "size",
        "slots",
        "state",
        "target",
        "version",
    )

    def __init__(self, number: bytes, client: Client, first: ClientEvent, target: Target, event: bytes, now_s: float):
        self.state = QUEUED
        self.number = number
        self.owner = client
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
        self.client_timeout_s = LEAST_CLIENT_TIMEOUT_S
        self.client_deadline_s = _NEVER_S if first.timeout_s is None else now_s + first.timeout_s
        self.deadline_s = self.client_deadline_s
        self.slots = 1  # a sender starts with one (zerorpc `BufferedChannel`)
        self.full_since_s = _NEVER_S
        self.deaths = 0
        self.failure: tuple[bytes, str] | None = None

    def become(self, state: CallState) -> None:
        """Make a transition. One that `TRANSITIONS` does not have is a fault of the broker."""
        assert state in self.state.successors, f"a call that is {self.state.name} cannot become {state.name}"
        self.state = state

    @property
    def is_with_worker(self) -> bool:
        """Whether a worker has it and an answer would still reach the client."""
        return self.state is RUNNING or self.state is STREAMING

    @property
    def is_over(self) -> bool:
        """Whether the client has got the last event, or an error waits for it: further answers are late."""
        return self.state is ENDED or self.state is FAILING
