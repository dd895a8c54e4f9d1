"""What the routing core counts, in plain numbers: cheap enough for every message. Knows nothing of Prometheus."""

from collections import Counter

# How a request ended. The names are the values of the `outcome` label.
OK = "ok"
ERROR = "error"
NOT_FOUND = "not_found"
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
    BAD_REQUEST,
    TOO_LARGE,
    BUSY,
    NO_WORKERS,
    DRAINING,
    DEADLINE,
    WORKER_LOST,
    CANCELLED,
)

# Why a worker was given up. The names are the values of the `reason` label.
EXIT = "exit"
HEARTBEAT = "heartbeat"
EVICTED = "evicted"

# Why a client was dropped.
UNREACHABLE = "unreachable"
STALLED = "stalled"

# What was wrong with a bad frame. The first ones are of events that could not be read (`cluster.events`).
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
    "internal",
)

UNKNOWN_METHOD = "unknown"
"""The `method` label of calls to procedures that nobody registered, or a client could add labels at will."""

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
"""A scraper that comes this often misses no peak."""


def from_zero(*names: str) -> Counter[str]:
    """Counts that are there from the start: the first increment of a count that was not is invisible to a rate."""
    return Counter(dict.fromkeys(names, 0))


class Peak:
    """The highest of the values of the last while: between one and two times `PEAK_WINDOW_S`."""

    __slots__ = ("_before", "_highest", "_since_s")

    def __init__(self) -> None:
        self._highest = self._before = 0.0
        self._since_s = float("-inf")

    def observe(self, value: float, now_s: float) -> None:
        """Note one value."""
        if now_s - self._since_s >= PEAK_WINDOW_S:
            self._before, self._highest = self._highest, 0.0
            self._since_s = now_s
        self._highest = max(self._highest, value)

    def highest(self) -> float:
        """The highest of them."""
        return max(self._highest, self._before)


class Counters:
    """The counts that belong to no procedure and no worker."""

    def __init__(self) -> None:
        self.unknown_method: Counter[str] = Counter()  # by outcome
        self.worker_lost = from_zero(EXIT, HEARTBEAT, EVICTED)  # by reason
        self.bad_frames = from_zero(*BAD_FRAMES)  # by reason
        self.clients_dropped = from_zero(UNREACHABLE, STALLED)  # by reason
        self.turn_s = Peak()  # what one turn of the message loop took, while everybody else waited
        self.late_replies = 0
        self.retries = 0
