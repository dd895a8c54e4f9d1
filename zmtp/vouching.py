"""Vouching: which connection of a peer answers heartbeats in place of another one. It knows no socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zmtp.errors import PeerError

if TYPE_CHECKING:
    from zmtp.connection import Connection

ORPHAN_TIMEOUT_S = 0.5
"""How long a connection may say nothing after the end of the one that answered heartbeats for it, in seconds."""

_NEVER_S = float("inf")


class Vouching:
    """The connections of a ROUTER whose heartbeats others answer."""

    def __init__(self, claimed: Mapping[bytes, Connection]) -> None:
        """Build.

        Args:
            claimed: the connections of the ROUTER by the routing ids that their peers have chosen.
        """
        self._claimed = claimed
        self._vouched: dict[bytes, Connection] = {}  # by the routing ids of those that answer in their place
        self._orphaned: dict[Connection, float] = {}  # those whose other connection has ended, and since when

    def add(self, connection: Connection) -> Connection | None:
        """Add a connection that names another one; return a former one of the peer, whose end was not seen yet.

        Raises:
            PeerError: if the other connection is one of another peer's, or this one may be named by others itself.
        """
        session = connection.session
        other = session.heartbeats_by
        former = self._vouched.get(other)
        if session.routing_id or (former is not None and former.session.peer_key != session.peer_key):
            session.heartbeats_by = b""
            raise PeerError(f"the connection {other[:40]!r} cannot answer the heartbeats of this one")
        self._vouched[other] = connection
        return former

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._orphaned.pop(connection, None)
        if self._vouched.get(connection.session.heartbeats_by) is connection:
            del self._vouched[connection.session.heartbeats_by]

    def other_of(self, connection: Connection) -> Connection | None:
        """Return the connection that answers in place of this one, if it is there."""
        other = self._claimed.get(connection.session.heartbeats_by)
        return other if other is not None and _are_one_peer(other, connection) else None

    def vouched_by(self, other: Connection) -> Connection | None:
        """Return the connection in place of which another one answers, if there is one."""
        connection = self._vouched.get(other.session.routing_id)
        return connection if connection is not None and _are_one_peer(other, connection) else None

    def orphan(self, connection: Connection) -> None:
        """Take note that the peer has closed the other connection. It may still have sent its last words here."""
        self._orphaned[connection] = _NEVER_S

    def lonely(self, now_s: float) -> list[Connection]:
        """Return the connections that say nothing any more and whose other one has not come back."""
        lonely = []
        for connection, since_s in list(self._orphaned.items()):
            if self.other_of(connection) is not None:
                del self._orphaned[connection]
            elif since_s == _NEVER_S:
                self._orphaned[connection] = now_s
            elif now_s - max(since_s, connection.last_received_s) >= ORPHAN_TIMEOUT_S:
                lonely.append(connection)
        return lonely


def _are_one_peer(other: Connection, connection: Connection) -> bool:
    return other.session.peer_key == connection.session.peer_key
