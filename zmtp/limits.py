"""What a ROUTER requires of its peers, and what it grants them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeerLimits:
    """Limits for every peer of one ROUTER.

    Attributes:
        max_connections: most connections at one time; further ones wait in the queue of the system until one ends. None
            for no limit but that of the system.
        heartbeat_interval_s: the ROUTER sends a PING to a peer that has been silent for this long, in seconds; 0 for no
            PINGs.
        heartbeat_timeout_s: the ROUTER drops a peer that has sent and accepted nothing for this long after a PING, in
            seconds.
        ping_all: whether peers of ZMTP 3.0 get PINGs too. libzmq 4.2.0 to 4.3.2 announces version 3.0 and still answers
            them. Without PINGs, only TCP keep-alive watches such a peer, which does not notice a frozen process.
        allows_vouching: whether a connection may name another one of the peer that answers heartbeats in its place.
        unacknowledged_s: how long the system of a peer may leave sent bytes unacknowledged, in seconds; then the
            connection ends (TCP_USER_TIMEOUT, Linux only). 0 for the default of this system.
        max_message_bytes: most bytes in a message of a peer; None if peers are trusted.
        max_router_message_bytes: likewise for a peer that is a ROUTER itself; None for `max_message_bytes`.
        max_total_unread_bytes: most bytes that the ROUTER keeps of incomplete messages, and of data that it has not
            read yet, of all peers together; 0 for no limit. Beyond it, the ROUTER drops the peer with the most bytes
            among those that have sent nothing for a second, or among all if there are none.
        max_unsent_messages: most messages that may wait for one peer that does not read; None for no limit on what
            waits, for trusted peers.
        max_unsent_bytes: most bytes that may wait for one peer.
        max_total_unsent_bytes: most bytes that may wait for all peers together. When they are reached, a peer for which
            nothing waits may still have an equal share of them.
    """

    max_connections: int | None = None
    heartbeat_interval_s: float = 0.0
    heartbeat_timeout_s: float = 0.0
    ping_all: bool = False
    allows_vouching: bool = False
    unacknowledged_s: float = 0.0
    max_message_bytes: int | None = None
    max_router_message_bytes: int | None = None
    max_total_unread_bytes: int = 0
    max_unsent_messages: int | None = None
    max_unsent_bytes: int = 0
    max_total_unsent_bytes: int = 0
