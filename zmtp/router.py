"""A ZeroMQ ROUTER on plain sockets: those who connected to one address, each by its identity.

libzmq would do, but passes every message through a thread of its own, and to wake that thread and to be woken by it
takes longer than the rest of what a broker does for a call that comes alone (docs/performance.md). The workers keep
libzmq: there its thread says that the process is alive while a model holds the interpreter.
"""

import errno
import itertools
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

import zmtp
from cluster.runtime.settings import split_host_port
from cluster.wire.pairs import LARGE_BYTES
from zmtp.connection import Connection
from zmtp.session import PeerError, Session

HANDSHAKE_S = 5.0
"""How long a connection may take to say that it speaks ZeroMQ, in seconds; then it is closed."""

MOST_LOOK_S = 1.0
"""How often a router looks who has been silent for too long, in seconds; a quarter of the heartbeat if that is less."""

ACCEPT_AGAIN_S = 1.0
"""How long nobody is accepted where the system had no descriptor left, in seconds."""

IN_TURN = 16
"""Messages and commands that are read of one connection before the others have their turn."""

ACCEPTED_AT_ONCE = 256
"""Connections that are made before those that are there have their turn."""

KEEPALIVE_S = 30
"""A peer's system is asked after so many seconds of silence whether it is there, for peers that know no heartbeats.

Later than these come: where there is an `unread_s`, one question without an answer ends the connection.
"""

_KEEPALIVES = 3  # that may stay without an answer elsewhere
_BACKLOG = 4096  # connections that wait to be accepted; the system may allow fewer
_PARTNERS = (b"DEALER", b"REQ", b"ROUTER")
_numbers = itertools.count(1)


class UnreachableError(Exception):
    """There is no connection of that identity."""


class StalledError(Exception):
    """The peer does not read, and more waits for it than may."""


@dataclass(frozen=True)
class PeerLimits:
    """What is asked of peers, and granted to them.

    Attributes:
        heartbeat_s: a peer that was silent for so long gets a heartbeat, in seconds; 0 for none.
        silence_s: a peer from which nothing comes for so long after one, and which takes nothing, is dropped.
        asks_all: whether heartbeats go to those as well that do not say that they know them; the system looks after
            these otherwise, which does not notice who is frozen.
        unread_s: how long a peer's system may confirm no byte of what was sent to it, in seconds; then the connection
            is closed. 0 for as long as it likes.
        largest_bytes: what a message of a peer may have; None if peers are trusted.
        waiting_messages: how many may wait for one peer that does not read; None if peers are trusted.
        waiting_bytes: how many bytes may wait for one peer.
        all_waiting_bytes: how many bytes may wait for all; beyond that, one for which nothing waits still gets an equal
            share of it.
    """

    heartbeat_s: float = 0.0
    silence_s: float = 0.0
    asks_all: bool = False
    unread_s: float = 0.0
    largest_bytes: int | None = None
    waiting_messages: int | None = None
    waiting_bytes: int = 0
    all_waiting_bytes: int = 0


class Router:
    """Listens at an address; receives from, and sends to, those who connect to it.

    Attributes:
        lost: identities whose connections are gone, for the caller to take out.
        refused: what peers did whose connections were closed for it, for the caller to take out.
    """

    def __init__(self, endpoint: str, selector: BaseSelector, limits: PeerLimits) -> None:
        """Listen.

        Args:
            endpoint: `tcp://host:port` or `ipc://path`; the host may be * for all addresses of this machine.
            selector: is told what to wait for; the `data` of its keys is to be called with what has happened and with
                the time.
            limits: for all peers.

        Raises:
            OSError: if the address cannot be bound.
        """
        self._selector = selector
        self._limits = limits
        self._listener = _listen(endpoint)
        self._selector.register(self._listener, EVENT_READ, self._accept)
        self._path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else None
        self._connections: dict[bytes, Connection] = {}
        self._claimed: dict[bytes, Connection] = {}  # by the routing ids that peers have given themselves
        self._with_messages: deque[Connection] = deque()
        self._to_flush: dict[Connection, None] = {}
        self._stalled: dict[Connection, None] = {}
        self._waiting_bytes = 0  # for all
        self._look_s = min(limits.heartbeat_s / 4, MOST_LOOK_S) if limits.heartbeat_s else MOST_LOOK_S
        self._looked_s = float("-inf")
        self._accept_again_s: float | None = None  # if there was no descriptor left
        self.lost: list[bytes] = []
        self.refused: list[str] = []

    # -- receiving ------------------------------------------------------------------------------------------------

    @property
    def has_messages(self) -> bool:
        """Whether there is something to `take`."""
        return bool(self._with_messages)

    def take(self, most: int) -> list[tuple[bytes, list[bytes]]]:
        """Messages that have come, about so many at the most, each with the identity of its sender."""
        taken: list[tuple[bytes, list[bytes]]] = []
        left = most
        while self._with_messages and left > 0:
            connection = self._with_messages.popleft()
            identity, messages = connection.identity, connection.messages
            connection.messages = []
            for frames in messages:
                taken.append((identity, frames))
            left -= len(messages) or 1
            if connection.session.has_buffered:
                self._receive(connection, connection.last_received_s)
        return taken

    def _accept(self, _on_io_event: int, now_s: float) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connected, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # it is gone again
                continue
            except OSError:  # there is no descriptor left, until somebody goes
                self._pause_accepting(now_s)
                return
            self._add(connected, now_s)

    def _add(self, connected: socket.socket, now_s: float) -> None:
        connected.setblocking(False)
        with suppress(OSError):  # gone again, which is found when it is read
            if connected.family != socket.AF_UNIX:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if sys.platform == "linux":
                    self._set_times(connected)
        identity = b"\0" + next(_numbers).to_bytes(8, "big")
        session = Session(b"ROUTER", _PARTNERS, self._limits.largest_bytes, IN_TURN)
        connection = Connection(identity, connected, session, now_s)
        self._connections[identity] = connection
        self._selector.register(connection, EVENT_READ, partial(self._on_io_event, connection))
        self._answer(connection)

    def _set_times(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // _KEEPALIVES)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVES)
        if self._limits.unread_s:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * self._limits.unread_s))

    def _on_io_event(self, connection: Connection, happened: int, now_s: float) -> None:
        if happened & EVENT_WRITE:
            before = connection.waiting_bytes
            self._flush(connection)
            if connection.waiting_bytes < before:
                connection.last_received_s = (
                    now_s  # who takes a large message is there; a heartbeat would wait behind it
                )
        if happened & EVENT_READ and not connection.has_pending:  # or that has its turn first
            self._receive(connection, now_s)

    def _receive(self, connection: Connection, now_s: float) -> None:
        session = connection.session
        was_ready = session.is_ready
        try:
            is_there = connection.receive(now_s)
            if not was_ready and session.is_ready:
                self._claim(connection)
        except PeerError as error:
            self.refused.append(str(error))
            is_there = False
        if not is_there:
            self._drop(connection)
            return
        if session.to_send:
            self._answer(connection)
        if connection.has_pending:
            self._with_messages.append(connection)

    def _claim(self, connection: Connection) -> None:
        """Let nobody claim a routing id that another has; the router itself goes by its own identities."""
        routing_id = connection.session.routing_id
        if routing_id and self._claimed.setdefault(routing_id, connection) is not connection:
            connection.messages.clear()
            raise PeerError(f"the routing id {routing_id[:40]!r} is taken by another connection")

    def _answer(self, connection: Connection) -> None:
        """Send what the session itself has to say; who does not read gets no answers to heartbeats, either."""
        if not connection.waiting_bytes:
            connection.put(connection.session.to_send)
            self._to_flush[connection] = None
        connection.session.to_send.clear()

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection)
        connection.close()
        del self._connections[connection.identity]
        if self._claimed.get(connection.session.routing_id) is connection:
            del self._claimed[connection.session.routing_id]
        self._to_flush.pop(connection, None)
        self._stalled.pop(connection, None)
        self._waiting_bytes -= connection.waiting_bytes
        self.lost.append(connection.identity)

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, identity: bytes, chunks: Sequence[bytes]) -> None:
        """Send a message, as `zmtp` has written it, with the next `flush`.

        Raises:
            UnreachableError: if there is no connection of that identity.
            StalledError: if too much waits for it already.
        """
        connection = self._connections.get(identity)
        if connection is None:
            raise UnreachableError
        is_large = len(chunks[-1]) >= LARGE_BYTES
        if is_large and not connection.waiting_bytes:
            self._flush(connection)  # what is there already, so that what waits is known
        if (is_large or connection.waiting_bytes) and not self._has_room(connection, chunks):
            raise StalledError
        self._put(connection, chunks)
        if is_large and not connection.waiting_bytes:
            self._flush(connection)
        else:
            self._to_flush[connection] = None

    def _put(self, connection: Connection, chunks: Sequence[bytes]) -> None:
        before = connection.waiting_bytes
        connection.put(chunks)
        self._waiting_bytes += connection.waiting_bytes - before

    def _has_room(self, connection: Connection, chunks: Sequence[bytes]) -> bool:
        limits = self._limits
        if limits.waiting_messages is None:
            return True
        if connection.waiting_chunks >= 2 * limits.waiting_messages:
            return False
        size = sum(map(len, chunks))
        if self._waiting_bytes + size > limits.all_waiting_bytes:
            return not connection.waiting_bytes and size <= limits.all_waiting_bytes // (len(self._stalled) + 1)
        return connection.waiting_bytes + size <= limits.waiting_bytes

    def flush(self) -> None:
        """Send what there is, as far as the system takes it now; what is left goes when it takes more."""
        for connection in self._to_flush:
            if connection not in self._stalled:  # that is told when it takes more
                self._flush(connection)
        self._to_flush.clear()

    def _flush(self, connection: Connection) -> None:
        before = connection.waiting_bytes
        is_all = connection.flush()
        self._waiting_bytes += connection.waiting_bytes - before
        if is_all:
            if connection in self._stalled:
                del self._stalled[connection]
                self._selector.modify(connection, EVENT_READ, self._selector.get_key(connection).data)
        elif connection not in self._stalled:
            self._stalled[connection] = None
            both = EVENT_READ | EVENT_WRITE
            self._selector.modify(connection, both, self._selector.get_key(connection).data)

    @property
    def is_stalled(self) -> bool:
        """Whether something waits for a peer that takes no more just now."""
        return bool(self._stalled)

    # -- time -----------------------------------------------------------------------------------------------------

    def check_timeouts(self, now_s: float) -> None:
        """Drop who is silent; ask who has been for a while."""
        if now_s - self._looked_s < self._look_s:
            return
        self._looked_s = now_s
        if self._accept_again_s is not None and now_s >= self._accept_again_s:
            self._accept_again_s = None
            self._selector.register(self._listener, EVENT_READ, self._accept)
        for connection in list(self._connections.values()):
            if not connection.session.is_ready:
                if now_s - connection.accepted_s >= HANDSHAKE_S:
                    self._drop(connection)
            elif now_s - connection.last_received_s >= self._limits.heartbeat_s > 0:
                self._ask(connection, now_s)

    def _ask(self, connection: Connection, now_s: float) -> None:
        if not (connection.session.knows_heartbeats or self._limits.asks_all):
            return
        if connection.has_pending:  # and perhaps still more, not read yet
            return
        if connection.asked_s <= connection.last_received_s:
            connection.asked_s = now_s
            self._put(connection, (zmtp.PING,))
            self._to_flush[connection] = None
        elif now_s - connection.asked_s >= self._limits.silence_s:
            self._receive(connection, now_s)  # this process may have been the one that was away
            if connection.last_received_s < now_s and connection.identity in self._connections:
                self._drop(connection)

    def _pause_accepting(self, now_s: float) -> None:
        self._selector.unregister(self._listener)
        self._accept_again_s = now_s + ACCEPT_AGAIN_S

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections, and listen no more; what has not left is lost."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        if self._accept_again_s is None:
            self._selector.unregister(self._listener)
        self._listener.close()
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)


def _listen(endpoint: str) -> socket.socket:
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        listener = socket.socket(socket.AF_UNIX)
        if Path(path).is_socket():
            Path(path).unlink()  # nobody listens there any more
        try:
            listener.bind(path)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    else:
        listener = _listen_tcp(*split_host_port(endpoint.removeprefix("tcp://")))
    listener.setblocking(False)
    return listener


def _listen_tcp(host: str, port: int) -> socket.socket:
    if host == "*":
        try:
            return _listen_tcp("::", port)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # as where IPv6 is switched off
                raise
            return _listen_tcp("0.0.0.0", port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
