"""ZMTP 3.1, the protocol of ZeroMQ sockets (https://rfc.zeromq.org/spec/37), without I/O.

These names are the protocol itself: a `Session` takes the bytes of a peer and returns messages. `zmtp.router` and
`zmtp.dealer` are ends with sockets; import them by their modules. The package depends on no other package of this
repository. `docs/zmtp.md` says what it covers.
"""

from zmtp.commands import PING
from zmtp.errors import PeerError, StalledError, UnreachableError, ZmtpError
from zmtp.frames import encode_event, encode_message
from zmtp.mechanism import Mechanism, Null
from zmtp.session import PIECE_BYTES, READ_BYTES, Session

__all__ = [
    "PIECE_BYTES",
    "PING",
    "READ_BYTES",
    "Mechanism",
    "Null",
    "PeerError",
    "Session",
    "StalledError",
    "UnreachableError",
    "ZmtpError",
    "encode_event",
    "encode_message",
]
