"""A DEALER on a plain socket: one peer, events as ZeroRPC wraps them, and a new connection after a break.

libzmq has a thread of its own beside the caller's, and needs twice the CPU time for a call (docs/performance.md).
"""

import socket
import time
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, Protocol

from zmtp.connection import Connection
from zmtp.endpoint import TcpEndpoint, parse_endpoint, resolve
from zmtp.errors import PeerError
from zmtp.frames import encode_event
from zmtp.mechanism import Mechanism, Null
from zmtp.session import Session

RECONNECT_INTERVAL_S = 0.1
"""Time between the end of a connection and the attempt to make another, in seconds."""

_PEER_TYPES = (b"ROUTER", b"DEALER", b"REP")


class Watcher(Protocol):
    """What a DEALER needs of a selector. An event loop can look like one."""

    def register(self, fileobj: Connection, events: int, data: Any = None) -> object:
        """Watch a connection for events: EVENT_READ, EVENT_WRITE or both."""

    def modify(self, fileobj: Connection, events: int, data: Any = None) -> object:
        """Watch it for other events."""

    def unregister(self, fileobj: Connection) -> object:
        """Stop watching it."""


class Dealer:
    """Sends and receives events. An event travels as a message of two frames: an empty delimiter, then the event.

    A DEALER reconnects when its connection breaks. Events that have left its queue by then are lost.

    Attributes:
        broken_by: the error of the system that has ended the last connection; empty if the peer closed it.
    """

    def __init__(self, endpoint: str, selector: Watcher, mechanism: Callable[[], Mechanism] = Null) -> None:
        """Start to connect.

        Args:
            endpoint: `tcp://host:port` or `ipc://path`.
            selector: the DEALER registers its connection there; the `data` is the DEALER.
            mechanism: makes the security of each connection.

        Raises:
            ValueError: if the endpoint is malformed.
            OSError: if its host is unknown.
        """
        parsed = parse_endpoint(endpoint)
        if isinstance(parsed, TcpEndpoint) and parsed.port == 0:
            raise ValueError(f"an endpoint should be tcp://host:port or ipc://path, with a port above 0: {endpoint!r}")
        self._family, self._address = resolve(parsed)
        self._selector = selector
        self._mechanism = mechanism
        self._queued: list[bytes] = []  # encoded events; they outlive a connection that breaks
        self._reconnect_at_s = 0.0
        self._connection: Connection | None = None
        self.broken_by = ""
        self._connect()

    def _connect(self) -> None:
        connecting = socket.socket(self._family, socket.SOCK_STREAM)
        connecting.setblocking(False)
        if self._family != socket.AF_UNIX:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(b"DEALER", _PEER_TYPES, mechanism=self._mechanism())
        self._connection = Connection(connecting, session, time.monotonic())
        self._events = EVENT_READ | EVENT_WRITE
        self._selector.register(self._connection, self._events, self)
        try:
            connecting.connect(self._address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._connection.broken_by = error.strerror or str(error)
            self._disconnect()

    def close(self) -> None:
        """Close the connection. Events that have not been sent are lost."""
        if self._connection is not None:
            self._disconnect()

    def _disconnect(self) -> None:
        assert self._connection is not None
        self._selector.unregister(self._connection)
        self._connection.close()
        self.broken_by = self._connection.broken_by
        self._connection = None
        self._reconnect_at_s = time.monotonic() + RECONNECT_INTERVAL_S

    @property
    def is_connected(self) -> bool:
        """Whether a connection exists or is being made."""
        return self._connection is not None

    @property
    def is_ready(self) -> bool:
        """Whether the handshake of the connection is complete."""
        return self._connection is not None and self._connection.session.is_ready

    @property
    def has_room(self) -> bool:
        """Whether the next `flush` sends at once: the handshake is complete and the system has accepted everything."""
        connection = self._connection
        return connection is not None and connection.session.is_ready and not connection.unsent_bytes

    def reconnect_if_due(self) -> None:
        """Reconnect if the connection has been gone for `RECONNECT_INTERVAL_S`."""
        if self._connection is None and time.monotonic() >= self._reconnect_at_s:
            self._connect()

    def send(self, event: bytes) -> None:
        """Queue an event for the next `flush`."""
        self._queued += encode_event(event)

    def flush(self) -> None:
        """Send what the system accepts now. A later call sends the rest."""
        connection = self._connection
        if connection is None:
            return
        session = connection.session
        if session.to_send:
            connection.enqueue_replies()
        if self._queued and session.is_ready and not connection.unsent_bytes:
            connection.enqueue(self._queued)
            self._queued.clear()
        events = EVENT_READ if connection.flush() else EVENT_READ | EVENT_WRITE
        if events != self._events:
            self._events = events
            self._selector.modify(connection, events, self)

    def receive(self) -> list[bytes]:
        """Read once; return the events that have arrived.

        Raises:
            PeerError: if the peer breaks the protocol or sends something other than events.
        """
        connection = self._connection
        assert connection is not None
        if not connection.receive(time.monotonic()):
            self._disconnect()
            return []
        messages, connection.messages = connection.messages, []
        for frames in messages:
            if len(frames) != 2 or frames[0]:
                raise PeerError(f"the peer sent {frames[0][:40]!r} instead of an empty frame and an event")
        return [event for _, event in messages]
