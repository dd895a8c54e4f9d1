"""The counts of the routing core, in plain numbers that are cheap enough for every message. Knows no Prometheus."""

from collections import Counter

# Outcomes of a request: the values of the `outcome` label.
OK = "ok"
ERROR = "error"
NOT_FOUND = "not_found"
NOT_ALLOWED = "not_allowed"
BAD_REQUEST = "bad_request"
TOO_LARGE = "too_large"
BUSY = "busy"
NO_WORKERS = "no_workers"
DRAINING = "draining"
DEADLINE = "deadline"
WORKER_LOST = "worker_lost"
CANCELLED = "cancelled"

OUTCOMES = (
    OK,
    ERROR,
    NOT_FOUND,
    NOT_ALLOWED,
    BAD_REQUEST,
    TOO_LARGE,
    BUSY,
    NO_WORKERS,
    DRAINING,
    DEADLINE,
    WORKER_LOST,
    CANCELLED,
)

# Why a worker was lost: the values of the `reason` label.
EXIT = "exit"
HEARTBEAT = "heartbeat"
EVICTED = "evicted"

# Why a client was dropped: the values of the `reason` label.
UNREACHABLE = "unreachable"
STALLED = "stalled"
REVOKED = "revoked"

# What went wrong with the state file: the values of the `reason` label.
BROKEN = "broken"
WRITE = "write"

# The broker's sockets: the values of the `socket` label.
CLIENT_SOCKET = "clients"
WORKER_SOCKET = "workers"
ADMIN_SOCKET = "admins"
SOCKETS = (CLIENT_SOCKET, WORKER_SOCKET, ADMIN_SOCKET)

# What was wrong with a bad frame: the values of the `reason` label.
# `cluster.wire.events` raises the first six.
BAD_FRAMES = (
    "event",
    "header",
    "message_id",
    "version",
    "name",
    "truncated",
    "envelope",
    "duplicate_message_id",
    "unknown_conversation",
    "unexpected_event",
    "slots",
    "worker_protocol",
    "worker_event",
    "zmtp",
    "mechanism",
    "curve_handshake",
    "curve_server_key",
    "curve_client_key",
    "curve_message",
    "internal",
)

UNKNOWN_METHOD = "unknown"
"""The `method` label of calls to unknown procedures. Their own names would let a client add labels without bound."""

SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
"""Upper bounds of the buckets of every duration."""


PEAK_WINDOW_S = 15.0
"""A scraper that comes at least this often misses no peak, in seconds."""


def from_zero(*names: str) -> Counter[str]:
    """Return counts that start at 0, because Prometheus' `rate` does not see the first increment of a new series."""
    return Counter(dict.fromkeys(names, 0))


class Peak:
    """The highest value of the last one to two times `PEAK_WINDOW_S`."""

    __slots__ = ("_before", "_highest", "_since_s")

    def __init__(self) -> None:
        self._highest = self._before = 0.0
        self._since_s = float("-inf")

    def observe(self, value: float, now_s: float) -> None:
        """Record a value."""
        if now_s - self._since_s >= PEAK_WINDOW_S:
            self._before, self._highest = self._highest, 0.0
            self._since_s = now_s
        self._highest = max(self._highest, value)

    def highest(self) -> float:
        """Return the highest value."""
        return max(self._highest, self._before)


class Counters:
    """The counts that belong to no procedure and no worker, by outcome or reason."""

    def __init__(self) -> None:
        self.unknown_method: Counter[str] = Counter()  # by outcome
        self.worker_lost = from_zero(EXIT, HEARTBEAT, EVICTED)  # by reason
        self.bad_frames = from_zero(*BAD_FRAMES)  # by reason
        self.clients_dropped = from_zero(UNREACHABLE, STALLED, REVOKED)  # by reason
        self.state_file = from_zero(BROKEN, WRITE)  # by reason
        self.connections = from_zero(*SOCKETS)  # by socket
        self.accept_pauses = from_zero(*SOCKETS)  # by socket
        self.turn_s = Peak()  # seconds that one turn of the message loop took
        self.late_replies = 0
        self.access_file_failures = 0
        self.retries = 0
