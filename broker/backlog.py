"""What was sent to each client and has not left the broker yet, in bytes. ZeroMQ itself counts messages only."""

from collections import deque
from typing import Protocol

SMALLEST_COUNTED_BYTES = 16 * 1024
"""Smaller messages are not counted: the frontend's high-water mark bounds them well enough, at 64 MiB a client, and to
follow a message costs more than to copy a small one."""

MAX_BYTES = 256 * 1024 * 1024
"""How much may wait for one client; its largest result has 64 MiB."""

MAX_TOTAL_BYTES = 512 * 1024 * 1024
"""How much may wait for all clients. Beyond that, one for which nothing waits still gets an equal share of it."""


class Tracker(Protocol):
    """Tells whether a message has left (`zmq.MessageTracker`)."""

    @property
    def done(self) -> bool:
        """Whether it has."""
        ...


class Backlog:
    """The large messages on their way to clients."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[tuple[int, Tracker]]] = {}
        self._bytes: dict[bytes, int] = {}
        self._total = 0

    def has_room(self, identity: bytes, size: int) -> bool:
        """Whether a message of that many bytes may be sent to that client."""
        self._forget_what_left(identity)
        own = self._bytes.get(identity, 0)
        if self._total + size > MAX_TOTAL_BYTES:
            self.sweep()
            if self._total + size > MAX_TOTAL_BYTES:
                return own == 0 and size <= MAX_TOTAL_BYTES // (len(self._waiting) + 1)
        return own + size <= MAX_BYTES

    def add(self, identity: bytes, size: int, tracker: Tracker) -> None:
        """A message was sent to that client."""
        self._waiting.setdefault(identity, deque()).append((size, tracker))
        self._bytes[identity] = self._bytes.get(identity, 0) + size
        self._total += size

    def sweep(self) -> None:
        """Forget all that has left."""
        for identity in list(self._waiting):
            self._forget_what_left(identity)

    def _forget_what_left(self, identity: bytes) -> None:
        waiting = self._waiting.get(identity)
        if waiting is None:
            return
        while waiting and waiting[0][1].done:
            size, _ = waiting.popleft()
            self._bytes[identity] -= size
            self._total -= size
        if not waiting:
            del self._waiting[identity], self._bytes[identity]
