"""One connection to a peer's ZeroMQ socket: what came over it, and what waits to leave. The router holds them all."""

import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import zmtp
from cluster.wire.pairs import LARGE_BYTES
from zmtp.session import Session

_LAST_READS = 16


class Connection:
    """A connection and its state.

    Attributes:
        identity: names it to the core.
        session: what was said over it.
        messages: that have come and were not taken, each a list of frames.
        accepted_s, last_received_s, asked_s: when it was made, when anything last came, when a PING was last sent;
            monotonic seconds.
        waiting_bytes: how much waits because the system took no more; 0 if it took all.
    """

    __slots__ = (
        "_leaving",
        "_socket",
        "_to_send",
        "accepted_s",
        "asked_s",
        "identity",
        "last_received_s",
        "messages",
        "session",
        "waiting_bytes",
    )

    def __init__(self, identity: bytes, connected: socket.socket, session: Session, now_s: float) -> None:
        self.identity = identity
        self.session = session
        self.messages: list[list[bytes]] = []
        self.accepted_s = self.last_received_s = now_s
        self.asked_s = float("-inf")
        self.waiting_bytes = 0
        self._socket = connected
        self._to_send: list[bytes] = []
        # What the system did not take at once; the first may have left in part.
        self._leaving: deque[bytes | memoryview] = deque()

    def fileno(self) -> int:
        """What a selector waits for."""
        return self._socket.fileno()

    @property
    def has_pending(self) -> bool:
        """Whether there are messages that were not taken, or there may be in what was read."""
        return bool(self.messages) or self.session.has_buffered

    @property
    def waiting_chunks(self) -> int:
        """How many chunks have been put since the last `flush` that came to them; two are an event."""
        return len(self._to_send)

    def receive(self, now_s: float) -> bool:
        """Read once, or go on with what was read before, to `messages`; return whether the peer is still there.

        Raises:
            PeerError: if what came cannot be read.
        """
        session = self.session
        if session.has_buffered:
            self.messages += session.go_on()
            return True
        try:
            received = self._socket.recv(session.read_bytes)
            if not received:
                return False
            self.messages += session.received(received)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.last_received_s = now_s
        return True

    def put(self, chunks: Sequence[bytes]) -> None:
        """Send what `zmtp` has written with the next `flush`."""
        self._to_send += chunks
        if self._leaving:
            self.waiting_bytes += sum(map(len, chunks))

    def flush(self) -> bool:
        """Send as much as the system takes now; return whether that was all."""
        leaving = self._leaving
        while leaving or self._to_send:
            if not leaving:
                self._join_small_ones()
            sent = self._try_send(leaving[0])
            if sent < len(leaving[0]):
                leaving[0] = memoryview(leaving[0])[sent:]
                self.waiting_bytes = sum(map(len, leaving)) + sum(map(len, self._to_send))
                return False
            leaving.popleft()
        self.waiting_bytes = 0
        return True

    def _join_small_ones(self) -> None:
        """Have what is to be sent leave, with as few calls of the system as can be without copying what is large."""
        chunks, self._to_send = self._to_send, []
        if max(map(len, chunks)) < LARGE_BYTES:
            self._leaving.append(b"".join(chunks))
            return
        small: list[bytes] = []
        for chunk in chunks:
            if len(chunk) < LARGE_BYTES:
                small.append(chunk)
                continue
            if small:
                self._leaving.append(b"".join(small))
                small = []
            self._leaving.append(chunk)
        if small:
            self._leaving.append(b"".join(small))

    def _try_send(self, chunk: bytes | memoryview) -> int:
        # What is wrong with a connection is found when it is read, after all that has come over it.
        with suppress(OSError):
            return self._socket.send(chunk)
        return 0

    def close(self) -> None:
        """Close it; what has not left is lost, what has left still arrives."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            for _ in range(_LAST_READS):  # with something unread, the system would take back what has left
                if not self._socket.recv(zmtp.READ_BYTES):
                    break
        self._socket.close()
