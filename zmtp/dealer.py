"""A ZeroMQ DEALER on a plain socket, as much of it as putting load on a service needs.

libzmq would serve as well, but has a thread of its own beside the caller's, and on the machine that is measured the two
took twice as much of the processor for a call as this does.
"""

import socket
import time
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

import zmtp
from zmtp.session import PeerError, Session

RECONNECT_S = 0.1
"""How long to wait before a connection that broke is made anew, in seconds."""

_PARTNERS = (b"ROUTER", b"DEALER", b"REP")


class Dealer:
    """A connection that sends and receives events, each as ZeroRPC wraps it: an empty frame, then the event.

    A connection that breaks is made anew; what was leaving, or sent and not answered, is lost.
    """

    def __init__(self, address: str, selector: BaseSelector) -> None:
        """Begin to connect.

        Args:
            address: `tcp://host:port` or `ipc://path`.
            selector: is kept told what the connection waits for; the `data` of its key is this object.

        Raises:
            ValueError: if the address is none.
            OSError: if its host is not known.
        """
        self._selector = selector
        self._family, self._peer = _endpoint(address)
        self._socket: socket.socket | None = None
        self._to_send: list[bytes] = []
        self._again_s = 0.0
        self._connect()

    def _connect(self) -> None:
        self._session = Session(b"DEALER", _PARTNERS)
        self._leaving = memoryview(b"")
        self._waits_for = EVENT_READ | EVENT_WRITE
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if self._family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, self._waits_for, self)
        try:
            self._socket.connect(self._peer)
        except BlockingIOError:
            pass
        except OSError:
            self._broke()

    def close(self) -> None:
        """Close the connection; what has not left is lost."""
        if self._socket is not None:
            self._broke()

    def _broke(self) -> None:
        assert self._socket is not None
        self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._again_s = time.monotonic() + RECONNECT_S

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._socket is not None

    def reconnect_if_due(self) -> None:
        """Make a connection that broke anew."""
        if self._socket is None and time.monotonic() >= self._again_s:
            self._connect()

    def send(self, event: bytes) -> None:
        """Send an event with the next `flush`."""
        self._to_send += zmtp.encode_event(event)

    def flush(self) -> None:
        """Send what there is, as far as the system takes it now; what is left goes with a later call."""
        if self._socket is None:
            return
        session = self._session
        if not self._leaving:
            chunks: list[bytes] = [*session.to_send]
            session.to_send.clear()
            if session.is_ready:
                chunks += self._to_send
                self._to_send.clear()
            self._leaving = memoryview(b"".join(chunks))
        if self._leaving:
            # What is wrong with the connection is found when it is read, after the answers that have come already.
            with suppress(OSError):
                self._leaving = self._leaving[self._socket.send(self._leaving) :]
        waits_for = EVENT_READ | EVENT_WRITE if self._leaving else EVENT_READ
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._selector.modify(self._socket, waits_for, self)

    def receive(self) -> list[bytes]:
        """The events that have come.

        Raises:
            PeerError: if they cannot be read.
        """
        assert self._socket is not None
        try:
            received = self._socket.recv(self._session.read_bytes)
            messages = self._session.received(received) if received else None
        except BlockingIOError:
            return []
        except OSError:
            messages = None
        if messages is None:
            self._broke()
            return []
        for frames in messages:
            if len(frames) != 2 or frames[0]:
                raise PeerError(f"the service sent {frames[0][:40]!r} where an empty frame should be")
        return [event for _, event in messages]


def _endpoint(address: str) -> tuple[int, tuple[object, ...] | str]:
    kind, _, rest = address.partition("://")
    if kind == "ipc" and rest:
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("an address should be tcp://host:port or ipc://path")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET  # as libzmq does
    return family, socket.getaddrinfo(host.strip("[]"), int(port), family, socket.SOCK_STREAM)[0][4]
