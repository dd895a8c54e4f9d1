"""Ends a message loop's wait for messages from another thread or from a signal handler."""

import contextlib
import socket


class Waker:
    """A pair of connected sockets: a byte into one makes the other readable for the loop's poller."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        self._in.setblocking(False)
        self._out.setblocking(False)

    def fileno(self) -> int:
        """What the loop polls for input."""
        return self._out.fileno()

    @property
    def signal_fd(self) -> int:
        """Where Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._in.fileno()

    def wake(self) -> None:
        """End the loop's wait. For any thread."""
        with contextlib.suppress(OSError):  # full of wake-ups that were not seen yet, or closed
            self._in.send(b"\0")

    def clear(self) -> None:
        """Take the wake-ups. For the loop, before it looks for what they are about."""
        with contextlib.suppress(BlockingIOError):
            self._out.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._in.close()
        self._out.close()
