"""Wakes a message loop that waits for messages, from another thread or a signal handler."""

import contextlib
import socket

from cluster.runtime import forks


class Waker:
    """A pair of connected sockets: a byte that goes into one makes the other readable, and the loop polls that one."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        self._in.setblocking(False)
        self._out.setblocking(False)
        forks.register(self)

    def leave_to_parent(self) -> None:
        """In a forked child: wake nobody, above all not the parent."""
        forks.hide(self._in.fileno())
        forks.hide(self._out.fileno())

    def fileno(self) -> int:
        """Return the file descriptor that the loop polls for input."""
        return self._out.fileno()

    @property
    def signal_fd(self) -> int:
        """The file descriptor to which Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._in.fileno()

    def wake(self) -> None:
        """Wake the loop. Any thread may call this."""
        with contextlib.suppress(OSError):  # the socket is full of earlier wake-ups, or closed
            self._in.send(b"\0")

    def clear(self) -> None:
        """Discard the wake-ups. The loop calls this before it checks why it was woken."""
        with contextlib.suppress(BlockingIOError):
            self._out.recv(4096)

    def close(self) -> None:
        """Close both sockets."""
        self._in.close()
        self._out.close()
