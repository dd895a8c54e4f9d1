"""ZMTP 3.1 (https://rfc.zeromq.org/spec/37), the protocol between ZeroMQ sockets, on plain non-blocking sockets.

`session` is the protocol itself: bytes in, messages out, no socket (sans-IO). `connection`, `router` and `dealer` are
the socket ends that the broker, the load generator and the tests share. The package imports nothing of the rest of this
repository.
"""

from zmtp.session import PIECE_BYTES, PING, READ_BYTES, PeerError, Session, encode_event, encode_message

__all__ = ["PIECE_BYTES", "PING", "READ_BYTES", "PeerError", "Session", "encode_event", "encode_message"]
