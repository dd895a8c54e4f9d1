"""One connection: a non-blocking socket, the session on it, and what waits to be sent. ROUTER and DEALER share it."""

import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from zmtp.session import PIECE_BYTES, READ_BYTES, Session

LARGE_BYTES = 16 * 1024
"""From this size on, a chunk is sent on its own. Smaller ones are copied together, to save system calls."""

_LAST_READS = 16


class Connection:
    """A connection to one peer.

    Attributes:
        identity: what a ROUTER calls this connection; empty for a DEALER.
        session: the protocol state.
        messages: received messages that the owner has not taken yet, each a list of frames.
        connected_s: when the connection was made, in monotonic seconds.
        last_received_s: when the peer last showed that it is alive, in monotonic seconds.
        ping_sent_s: when the last PING was sent, in monotonic seconds.
        unread_bytes: how much of the peer's input waits, as the owner has last counted it.
        address: the peer's IP address; empty for a Unix socket.
        unsent_bytes: how much waits because the system did not accept it; 0 if the system accepted everything.
        broken_by: the error of the system that has ended the connection; empty if there was none.
    """

    __slots__ = (
        "_queued",
        "_socket",
        "_unsent",
        "address",
        "broken_by",
        "connected_s",
        "identity",
        "last_received_s",
        "messages",
        "ping_sent_s",
        "session",
        "unread_bytes",
        "unsent_bytes",
    )

    def __init__(
        self, connected: socket.socket, session: Session, now_s: float, identity: bytes = b"", address: str = ""
    ) -> None:
        self.identity = identity
        self.address = address
        self.session = session
        self.messages: list[list[bytes]] = []
        self.connected_s = self.last_received_s = now_s
        self.ping_sent_s = float("-inf")
        self.unread_bytes = 0
        self.unsent_bytes = 0
        self.broken_by = ""
        self._socket = connected
        self._queued: list[bytes] = []  # chunks that no `flush` has reached yet
        # Chunks that the system did not accept at once. The first may have been sent in part.
        self._unsent: deque[bytes | memoryview] = deque()

    def fileno(self) -> int:
        """The descriptor, so that a selector accepts this object."""
        return self._socket.fileno()

    # -- receiving ------------------------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Whether there are messages that the owner has not taken, or data that may contain some."""
        return bool(self.messages) or self.session.has_buffered

    def receive(self, now_s: float, most: int = PIECE_BYTES) -> bool:
        """Add to `messages`, from buffered data if there is any, else from one read of the socket.

        Args:
            now_s: monotonic seconds.
            most: most bytes to read.

        Returns:
            Whether the connection still exists.

        Raises:
            PeerError: if the peer breaks the protocol.
        """
        session = self.session
        if session.has_buffered:
            self.messages += session.read_buffered()
            return True
        try:
            data = self._socket.recv(min(session.read_bytes, most))
        except BlockingIOError:
            return True
        except OSError as error:
            self.broken_by = error.strerror or str(error)
            return False
        if not data:
            return False
        self.messages += session.receive_data(data)
        self.last_received_s = now_s
        return True

    # -- sending --------------------------------------------------------------------------------------------------

    @property
    def queued_chunks(self) -> int:
        """How many chunks no `flush` has reached yet. A message of one or two frames usually has two chunks."""
        return len(self._queued)

    def enqueue(self, chunks: Sequence[bytes]) -> None:
        """Queue encoded frames for the next `flush`."""
        if self.session.wraps:
            chunks = self.session.wrap(chunks)
        self._queued += chunks
        if self._unsent:
            self.unsent_bytes += sum(map(len, chunks))

    def enqueue_replies(self) -> None:
        """Queue what the session itself has to send: the greeting, the handshake and PONGs."""
        chunks, self.session.to_send = self.session.to_send, []
        self._queued += chunks
        if self._unsent:
            self.unsent_bytes += sum(map(len, chunks))

    def flush(self) -> bool:
        """Send as much as the system accepts now; return whether that was everything."""
        unsent = self._unsent
        while unsent or self._queued:
            if not unsent:
                self._join_queued()
            sent = self._try_send(unsent[0])
            if sent < len(unsent[0]):
                unsent[0] = memoryview(unsent[0])[sent:]
                self.unsent_bytes = sum(map(len, unsent)) + sum(map(len, self._queued))
                return False
            unsent.popleft()
        self.unsent_bytes = 0
        return True

    def _join_queued(self) -> None:
        """Move the queued chunks to the unsent ones. Join small chunks to save system calls; do not copy large ones."""
        chunks, self._queued = self._queued, []
        if max(map(len, chunks)) < LARGE_BYTES:
            self._unsent.append(b"".join(chunks))
            return
        small: list[bytes] = []
        for chunk in chunks:
            if len(chunk) < LARGE_BYTES:
                small.append(chunk)
                continue
            if small:
                self._unsent.append(b"".join(small))
                small = []
            self._unsent.append(chunk)
        if small:
            self._unsent.append(b"".join(small))

    def _try_send(self, chunk: bytes | memoryview) -> int:
        # An error is not reported here. The next read finds it, after everything that the peer sent before.
        with suppress(OSError):
            return self._socket.send(chunk)
        return 0

    def close(self) -> None:
        """Close the connection. Unsent bytes are lost; sent bytes still arrive."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            for _ in range(_LAST_READS):  # if received bytes stayed unread, the system would discard sent ones
                if not self._socket.recv(READ_BYTES):
                    break
        self._socket.close()
