"""What the broker demands of the peers at each of its sockets, and grants to them."""

from dataclasses import replace
from typing import NamedTuple

from cluster.wire import protocol
from zmtp.limits import PeerLimits

_KIB = 1024
_MIB = 1024 * _KIB

CLIENTS = PeerLimits(
    heartbeat_interval_s=20.0,
    heartbeat_timeout_s=40.0,
    unacknowledged_s=7.0,
    max_message_bytes=64 * _MIB,
    max_total_unread_bytes=512 * _MIB,
    max_unsent_messages=4000,
    max_unsent_bytes=256 * _MIB,
    max_total_unsent_bytes=512 * _MIB,
)
"""Limits for clients.

ZeroMQ heartbeats are for clients without open calls; each open call has ZeroRPC heartbeats of its own. They are rare,
because a broker may have thousands of clients, and patient, because a client that computes while 1,000 messages wait
for it answers no heartbeat.

The router drops a client whose kernel has acknowledged nothing for `unacknowledged_s`: the client is cut off, or it
does not read and its kernel's buffers are full.

`max_unsent_messages` is more than the calls that one client may have in a queue (`BROKER_QUEUE_CLIENT_CALLS`), so that
all of them can be answered at one moment. A result may have 64 MiB.
"""

WORKERS = PeerLimits(
    heartbeat_interval_s=protocol.HEARTBEAT_INTERVAL_S,
    heartbeat_timeout_s=protocol.HEARTBEAT_TIMEOUT_S,
    ping_all=True,
    allows_vouching=True,
    max_router_message_bytes=256 * _MIB,
)
"""Limits for workers. A worker's capacity bounds what waits for it. A stock server, which is a ROUTER, sends one answer
in a message: too large a result is an error of its call, and only one that is absurd ends the connection."""

ADMINS = PeerLimits(
    max_message_bytes=_MIB,
    max_total_unread_bytes=16 * _MIB,
    max_unsent_messages=1000,
    max_unsent_bytes=16 * _MIB,
    max_total_unsent_bytes=16 * _MIB,
)
"""Limits for administrators."""

OWN_DESCRIPTORS = 40
"""Descriptors that the process itself needs: listeners, the state file, logs, libraries."""

MOST_HTTP_CONNECTIONS = 300


class Connections(NamedTuple):
    """How the descriptors of the process are divided, so that clients leave some to workers, pages and administrators.

    Attributes:
        clients, workers, admins: most connections at each socket.
        http: most connections of the HTTP server.
    """

    clients: int
    workers: int
    admins: int
    http: int


def divide(descriptors: int) -> Connections:
    """Divide the descriptors of the process: an eighth for workers, at most as much for HTTP, most for clients."""
    workers = descriptors // 8
    http = min(MOST_HTTP_CONNECTIONS, descriptors // 8)
    admins = min(100, descriptors // 16)
    return Connections(max(descriptors - OWN_DESCRIPTORS - workers - http - admins, 1), workers, admins, http)


def with_connections(limits: PeerLimits, most: int) -> PeerLimits:
    """Return the limits of a socket with a limit on its connections."""
    return replace(limits, max_connections=most)
