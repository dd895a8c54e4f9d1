"""A ROUTER on plain sockets: it listens at one endpoint and knows each connection by an identity.

libzmq passes every message through a thread of its own. For a call that comes alone, the wake-ups of that thread take
longer than everything else a broker does (docs/performance.md).
"""

import itertools
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from zmtp.commands import PING
from zmtp.connection import LARGE_BYTES, Connection
from zmtp.endpoint import IpcEndpoint, parse_endpoint
from zmtp.errors import PeerError, StalledError, UnreachableError
from zmtp.limits import PeerLimits
from zmtp.listen import bound_endpoint, listen
from zmtp.mechanism import Mechanism, Null
from zmtp.session import PIECE_BYTES, READ_BYTES, Session
from zmtp.vouching import Vouching

HANDSHAKE_TIMEOUT_S = 5.0
"""How long the handshake of a connection may take, in seconds. Then the router drops the connection."""

MAX_CHECK_INTERVAL_S = 1.0
"""Time between two checks of the timeouts, in seconds. A quarter of the heartbeat interval, if that is shorter."""

ACCEPT_RETRY_S = 1.0
"""How long the router accepts no connections after the system had no descriptor left, in seconds."""

INCOMPLETE_TIMEOUT_S = 10.0
"""How long a message may stay incomplete without a further byte, in seconds. Then the router drops the connection."""

TURN_BYTES = 8 * PIECE_BYTES
"""Most bytes that the router reads of large messages at once, of all connections together. If many send large messages,
it reads smaller pieces, but at least `READ_BYTES` of each."""

STALL_S = 1.0
"""A peer that has sent nothing for this long, in seconds, is the first to be dropped when too much input is kept."""

MESSAGES_PER_TURN = 16
"""Most messages and commands that the router reads from one connection before it reads from the others."""

ACCEPTS_PER_TURN = 256
"""Most connections that the router accepts before it serves the existing ones."""

HANDSHAKES_PER_TURN = 64
"""Most steps of handshakes in a turn. A step of CURVE takes some 0.1 ms, and thousands of peers may connect at once."""

KEEPALIVE_S = 30
"""TCP keep-alive asks the system of a silent peer after this time, in seconds. It is for peers without heartbeats.

It is longer than the interval of the heartbeats, because with a limit on unacknowledged bytes, one keep-alive probe
without an answer ends the connection.
"""

_KEEPALIVE_PROBES = 3  # without an answer, before the system ends a connection that has no such limit
_PEER_TYPES = (b"DEALER", b"REQ", b"ROUTER")
_NEVER_S = float("inf")
_numbers = itertools.count(1)


class Router:
    """Receives messages from the peers that connect to an endpoint, and sends messages to them.

    Attributes:
        endpoint: where the router listens. If the port was given as 0, this has the port that the system chose.
        disconnected: identities of connections that have ended. The caller empties the list.
        timed_out: those of them whose peers have not answered a heartbeat. The caller empties the set.
        routers: identities of new peers that are ROUTERs themselves, which wait to be spoken to first. The caller
            empties the list.
        peer_errors: what the peers of closed connections did wrong. The caller empties the list.
        accept_pauses: how often it has stopped accepting connections, because it had `max_connections` or the system
            had no descriptor left.
    """

    def __init__(
        self,
        endpoint: str,
        selector: BaseSelector,
        limits: PeerLimits,
        mechanism: Callable[[], Mechanism] = Null,
    ) -> None:
        """Listen.

        Args:
            endpoint: `tcp://host:port` or `ipc://path`; the host * means every address of this machine.
            selector: the router registers its sockets there. The `data` of each key is a function; the caller calls it
                with the events of the key and the monotonic time in seconds.
            limits: for every peer.
            mechanism: makes the security of each connection.

        Raises:
            ValueError: if the endpoint is malformed.
            OSError: if the endpoint cannot be bound.
        """
        parsed = parse_endpoint(endpoint)
        self._selector = selector
        self._limits = limits
        self._mechanism = mechanism
        self._listener = listen(parsed)
        self._selector.register(self._listener, EVENT_READ, self._accept)
        self._path = Path(parsed.path) if isinstance(parsed, IpcEndpoint) else None
        self._connections: dict[bytes, Connection] = {}
        self._claimed: dict[bytes, Connection] = {}  # by the routing ids that peers have chosen for themselves
        self._vouching = Vouching(self._claimed)
        self._with_messages: deque[Connection] = deque()
        self._to_flush: dict[Connection, None] = {}
        self._stalled: dict[Connection, None] = {}
        self._unsent_bytes = 0  # of all connections
        self._unread: dict[Connection, None] = {}  # the connections of which input waits
        self._unread_bytes = 0  # of all connections
        self._handshakes_left = HANDSHAKES_PER_TURN
        self._check_interval_s = min(limits.heartbeat_interval_s / 4 or MAX_CHECK_INTERVAL_S, MAX_CHECK_INTERVAL_S)
        self._checked_s = float("-inf")
        self._is_accepting = True
        self._accept_retry_at_s = _NEVER_S  # if the system had no descriptor left
        self.accept_pauses = 0
        self.endpoint = str(bound_endpoint(parsed, self._listener))
        self.disconnected: list[bytes] = []
        self.timed_out: set[bytes] = set()
        self.routers: list[bytes] = []
        self.peer_errors: list[PeerError] = []

    # -- connections ----------------------------------------------------------------------------------------------

    def _accept(self, _events: int, now_s: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if len(self._connections) == self._limits.max_connections:
                self._pause_accepting()
                return
            try:
                connected, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # the peer has closed it already
                continue
            except OSError:  # the system has no descriptor left
                self._pause_accepting()
                self._accept_retry_at_s = now_s + ACCEPT_RETRY_S
                return
            self._add(connected, address[0] if isinstance(address, tuple) else "", now_s)

    def _pause_accepting(self) -> None:
        self._selector.unregister(self._listener)
        self._is_accepting = False
        self.accept_pauses += 1

    def _accept_again(self) -> None:
        self._selector.register(self._listener, EVENT_READ, self._accept)
        self._is_accepting = True
        self._accept_retry_at_s = _NEVER_S

    def _may_accept_again(self, now_s: float) -> bool:
        if self._accept_retry_at_s != _NEVER_S:
            return now_s >= self._accept_retry_at_s
        return len(self._connections) != self._limits.max_connections

    @property
    def connections(self) -> int:
        """The number of connections, with those whose handshake is under way."""
        return len(self._connections)

    def _add(self, connected: socket.socket, address: str, now_s: float) -> None:
        connected.setblocking(False)
        with suppress(OSError):  # the peer may have closed it already; the first read finds that
            if connected.family != socket.AF_UNIX:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if sys.platform == "linux":
                    self._set_tcp_timeouts(connected)
        identity = b"\0" + next(_numbers).to_bytes(8, "big")
        session = Session(
            b"ROUTER",
            _PEER_TYPES,
            max_message_bytes=self._limits.max_message_bytes,
            max_bytes_by_type={b"ROUTER": self._limits.max_router_message_bytes},
            read_limit=MESSAGES_PER_TURN,
            mechanism=self._mechanism(),
        )
        connection = Connection(connected, session, now_s, identity, address)
        self._connections[identity] = connection
        self._selector.register(connection, EVENT_READ, partial(self._on_io_event, connection))
        self._send_replies(connection)

    def _set_tcp_timeouts(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // _KEEPALIVE_PROBES)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
        if self._limits.unacknowledged_s:
            timeout_ms = round(1000 * self._limits.unacknowledged_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    def _claim_routing_id(self, connection: Connection) -> None:
        """Refuse a routing id that another connection uses. The router itself knows connections by its own identities.

        Raises:
            PeerError: if the routing id is taken.
        """
        routing_id = connection.session.routing_id
        if routing_id and self._claimed.setdefault(routing_id, connection) is not connection:
            connection.messages.clear()
            raise PeerError(f"the routing id {routing_id[:40]!r} is taken by another connection")

    def _note_heartbeats(self, connection: Connection) -> None:
        """Take note of another connection of the peer that answers heartbeats in place of this one.

        Raises:
            PeerError: if it cannot.
        """
        if not self._limits.allows_vouching:
            connection.session.heartbeats_by = b""
        if connection.session.heartbeats_by:
            former = self._vouching.add(connection)
            if former is not None:
                self._drop(former)

    def _drop(self, connection: Connection) -> None:
        """End a connection, and the one that it answers heartbeats for. A second call has no effect."""
        if self._connections.pop(connection.identity, None) is None:
            return
        self._selector.unregister(connection)
        connection.close()
        if self._claimed.get(connection.session.routing_id) is connection:
            del self._claimed[connection.session.routing_id]
            self._end_vouched(connection)
        self._to_flush.pop(connection, None)
        self._stalled.pop(connection, None)
        self._unsent_bytes -= connection.unsent_bytes
        self._unread_bytes -= connection.unread_bytes
        self._unread.pop(connection, None)
        self.disconnected.append(connection.identity)
        self._vouching.remove(connection)

    def _end_vouched(self, other: Connection) -> None:
        """End the connection that another one has answered heartbeats for: at once if the peer is silent."""
        connection = self._vouching.vouched_by(other)
        if connection is None:
            return
        if other.identity in self.timed_out:
            self.timed_out.add(connection.identity)
            self._drop(connection)
        else:
            self._vouching.orphan(connection)

    def close(self) -> None:
        """Close all connections and stop listening. Unsent messages are lost."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        if self._is_accepting:
            self._selector.unregister(self._listener)
            self._is_accepting = False
        self._listener.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def address_of(self, identity: bytes) -> str:
        """Return the IP address of a peer; empty if it uses a Unix socket, or is not connected any more."""
        connection = self._connections.get(identity)
        return connection.address if connection is not None else ""

    def name_of(self, identity: bytes) -> str:
        """Return who a peer is, by its key; empty without keys, or if it is not connected any more."""
        connection = self._connections.get(identity)
        return connection.session.peer_name if connection is not None else ""

    def drop_keys(self, name_of: Callable[[bytes], str | None]) -> list[bytes]:
        """Drop the peers whose keys are not accepted any more, or have another name; return their identities.

        Args:
            name_of: returns the name of a long-term public key; None if it is not accepted.
        """
        sessions = [(one, one.session) for one in self._connections.values() if one.session.peer_key]
        refused = [one for one, session in sessions if name_of(session.peer_key) != session.peer_name]
        for connection in refused:
            connection.messages.clear()
            self._drop(connection)
        return [connection.identity for connection in refused]

    # -- receiving ------------------------------------------------------------------------------------------------

    @property
    def has_messages(self) -> bool:
        """Whether `take` may return messages."""
        return bool(self._with_messages)

    def take(self, limit: int) -> list[tuple[bytes, list[bytes]]]:
        """Take received messages, each with the identity of its sender.

        Args:
            limit: when this many are taken, the rest stays for the next call. A few more may be returned.
        """
        taken: list[tuple[bytes, list[bytes]]] = []
        left = limit
        while self._with_messages and left > 0:
            connection = self._with_messages.popleft()
            identity, messages = connection.identity, connection.messages
            connection.messages = []
            for frames in messages:
                taken.append((identity, frames))
            left -= len(messages) or 1
            if connection.session.has_buffered and identity in self._connections:
                self._receive(connection, connection.last_received_s)
        return taken

    def _on_io_event(self, connection: Connection, events: int, now_s: float) -> None:
        if connection.identity not in self._connections:
            return  # it was dropped after the selector had reported it
        if events & EVENT_WRITE:
            before = connection.unsent_bytes
            self._flush(connection)
            if connection.unsent_bytes < before:
                # The peer is reading a large message, so it is alive. A PING would wait behind that message.
                connection.last_received_s = now_s
        if events & EVENT_READ and not connection.has_pending:  # pending messages are taken first
            if not connection.session.is_ready:
                if not self._handshakes_left:
                    return  # the selector reports it again in the next turn
                self._handshakes_left -= 1
            self._receive(connection, now_s)

    def _receive(self, connection: Connection, now_s: float) -> None:
        session = connection.session
        was_ready = session.is_ready
        try:
            is_open = connection.receive(now_s, max(READ_BYTES, TURN_BYTES // (len(self._unread) + 1)))
            if not was_ready and session.is_ready:
                self._claim_routing_id(connection)
                self._note_heartbeats(connection)
                if session.peer_type == b"ROUTER":
                    self.routers.append(connection.identity)
        except PeerError as error:
            self.peer_errors.append(error)
            is_open = False
            self._send_replies(connection)  # the session may have a last word
            self._flush(connection)
        if not is_open:
            self._drop(connection)
            return
        if session.to_send:
            self._send_replies(connection)
        if connection.has_pending:
            self._with_messages.append(connection)
        unread_bytes = session.unread_bytes
        if unread_bytes != connection.unread_bytes:
            self._count_unread(connection, unread_bytes, now_s)

    def _count_unread(self, connection: Connection, unread_bytes: int, now_s: float) -> None:
        """Note how much input of a connection waits; drop connections while that is too much in all."""
        self._unread_bytes += unread_bytes - connection.unread_bytes
        connection.unread_bytes = unread_bytes
        if unread_bytes:
            self._unread[connection] = None
        else:
            del self._unread[connection]
        limit = self._limits.max_total_unread_bytes
        while limit and self._unread_bytes > limit:
            stalled = [one for one in self._unread if now_s - one.last_received_s >= STALL_S]
            largest = max(stalled or self._unread, key=lambda one: one.unread_bytes)
            self.peer_errors.append(PeerError(f"{self._unread_bytes} bytes of input wait; the limit is {limit}"))
            self._drop(largest)

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, identity: bytes, chunks: Sequence[bytes]) -> None:
        """Queue a message for the next `flush`.

        Args:
            identity: the connection.
            chunks: the message, encoded by `encode_message` or `encode_event`.

        Raises:
            UnreachableError: if no connection has this identity.
            StalledError: if the peer does not read and the limit of unsent messages is reached.
        """
        connection = self._connections.get(identity)
        if connection is None:
            raise UnreachableError
        is_large = len(chunks[-1]) >= LARGE_BYTES
        if is_large and not connection.unsent_bytes:
            self._flush(connection)  # send what is queued, so that `unsent_bytes` is exact
        if (is_large or connection.unsent_bytes) and not self._may_enqueue(connection, chunks):
            raise StalledError
        self._enqueue(connection, chunks)
        if is_large and not connection.unsent_bytes:
            self._flush(connection)
        else:
            self._to_flush[connection] = None

    def _may_enqueue(self, connection: Connection, chunks: Sequence[bytes]) -> bool:
        limits = self._limits
        if limits.max_unsent_messages is None:
            return True
        if connection.queued_chunks >= 2 * limits.max_unsent_messages:
            return False
        size = sum(map(len, chunks))
        if self._unsent_bytes + size > limits.max_total_unsent_bytes:
            share = limits.max_total_unsent_bytes // (len(self._stalled) + 1)
            return not connection.unsent_bytes and size <= share
        return connection.unsent_bytes + size <= limits.max_unsent_bytes

    def _enqueue(self, connection: Connection, chunks: Sequence[bytes]) -> None:
        before = connection.unsent_bytes
        connection.enqueue(chunks)
        self._unsent_bytes += connection.unsent_bytes - before

    def _send_replies(self, connection: Connection) -> None:
        """Queue what the session itself has to send. A peer that does not read gets no PONGs."""
        if not connection.unsent_bytes:
            connection.enqueue_replies()
            self._to_flush[connection] = None
        connection.session.to_send.clear()

    def flush(self) -> None:
        """End a turn: send what the systems accept now. The selector reports when a system accepts more."""
        self._handshakes_left = HANDSHAKES_PER_TURN
        for connection in self._to_flush:
            if connection not in self._stalled:  # the selector reports when a stalled one accepts more
                self._flush(connection)
        self._to_flush.clear()

    def _flush(self, connection: Connection) -> None:
        before = connection.unsent_bytes
        is_all_sent = connection.flush()
        self._unsent_bytes += connection.unsent_bytes - before
        if is_all_sent:
            if connection in self._stalled:
                del self._stalled[connection]
                self._selector.modify(connection, EVENT_READ, self._selector.get_key(connection).data)
        elif connection not in self._stalled:
            self._stalled[connection] = None
            both = EVENT_READ | EVENT_WRITE
            self._selector.modify(connection, both, self._selector.get_key(connection).data)

    @property
    def is_stalled(self) -> bool:
        """Whether a message waits for a peer whose system accepts no more at the moment."""
        return bool(self._stalled)

    # -- timeouts -------------------------------------------------------------------------------------------------

    def check_timeouts(self, now_s: float) -> None:
        """Drop connections that have timed out, send PINGs to silent peers, and accept again after a pause.

        Call it often. It returns at once if the last check was less than a check interval ago.
        """
        if now_s - self._checked_s < self._check_interval_s:
            return
        self._checked_s = now_s
        if not self._is_accepting and self._may_accept_again(now_s):
            self._accept_again()
        for connection in self._vouching.lonely(now_s):
            self._drop(connection)
        for connection in list(self._connections.values()):
            if not connection.session.is_ready:
                if now_s - connection.connected_s >= HANDSHAKE_TIMEOUT_S:
                    self._drop(connection)
            elif now_s - connection.last_received_s >= self._limits.heartbeat_interval_s > 0:
                self._check_heartbeat(connection, now_s)
        for connection in list(self._unread):
            if connection.session.heartbeats_by:
                continue  # the peer lives, and cannot send: a model may hold the interpreter of a worker
            if now_s - connection.last_received_s >= INCOMPLETE_TIMEOUT_S and not connection.has_pending:
                self._drop_incomplete(connection, now_s)

    def _drop_incomplete(self, connection: Connection, now_s: float) -> None:
        """Drop a peer that does not complete its message, unless the rest has arrived while this process was paused."""
        self._receive(connection, now_s)
        if connection.last_received_s < now_s and connection.identity in self._connections:
            self.peer_errors.append(PeerError(f"a message stayed incomplete for {INCOMPLETE_TIMEOUT_S:g} s"))
            self._drop(connection)

    def _check_other(self, connection: Connection, now_s: float) -> None:
        """Drop a silent peer whose other connection, which should answer heartbeats, has not come."""
        is_late = now_s - connection.connected_s >= self._limits.heartbeat_timeout_s
        if is_late and self._vouching.other_of(connection) is None:
            self.timed_out.add(connection.identity)
            self._drop(connection)

    def _check_heartbeat(self, connection: Connection, now_s: float) -> None:
        """Send a PING to a silent peer, or drop the peer if it has not reacted to the last one."""
        if connection.session.heartbeats_by:
            self._check_other(connection, now_s)
            return
        if not (connection.session.supports_heartbeats or self._limits.ping_all):
            return
        if connection.has_pending:  # there may be more that has not been read yet
            return
        if connection.ping_sent_s <= connection.last_received_s:
            connection.ping_sent_s = now_s
            self._enqueue(connection, (PING,))
            self._to_flush[connection] = None
        elif now_s - connection.ping_sent_s >= self._limits.heartbeat_timeout_s:
            self._receive(connection, now_s)  # if this process was paused, the answer may be there unread
            if connection.last_received_s < now_s and connection.identity in self._connections:
                self.timed_out.add(connection.identity)
                self._drop(connection)
