"""The connection that shows the broker that the worker lives, whatever Python does. The only user of libzmq."""

import secrets

import zmq
from zmq.utils import z85

from zmtp.curve import CurveKeys

_ID_BYTES = 16
_RECONNECT_MS = 100
_LONGEST_RECONNECT_MS = 1000


class Liveness:
    """A DEALER of libzmq that carries no messages.

    libzmq answers the broker's heartbeats in a thread of its own. So the broker sees that the process lives while a
    model holds the interpreter's lock, and that it does not while it is frozen or cut off.
    """

    def __init__(self, address: str, keys: CurveKeys | None, broker_key: bytes) -> None:
        """Build; `connect` connects.

        Args:
            address: the broker's ZeroMQ endpoint for workers.
            keys: the long-term keys of this worker, if the broker requires keys.
            broker_key: the long-term public key of the broker, 32 bytes.
        """
        self._address = address
        self._keys = keys
        self._broker_key = broker_key
        self._context = zmq.Context()
        self._dealer: zmq.Socket[bytes] | None = None

    def connect(self, *, is_ipv6: bool) -> bytes:
        """Connect with a new socket, which reconnects by itself; return its routing id, which nobody can guess.

        Args:
            is_ipv6: whether the messages travel over IPv6: both connections must reach the same broker.
        """
        self._close()
        dealer = self._context.socket(zmq.DEALER)
        dealer.ipv6 = is_ipv6
        dealer.reconnect_ivl = _RECONNECT_MS
        dealer.reconnect_ivl_max = _LONGEST_RECONNECT_MS
        dealer.routing_id = routing_id = b"alive-" + secrets.token_hex(_ID_BYTES).encode()
        if self._keys is not None:
            dealer.curve_publickey = z85.encode(self._keys.public)
            dealer.curve_secretkey = z85.encode(self._keys.secret)
            dealer.curve_serverkey = z85.encode(self._broker_key)
        dealer.connect(self._address)
        self._dealer = dealer
        return routing_id

    def _close(self) -> None:
        if self._dealer is not None:
            self._dealer.close(linger=0)
            self._dealer = None

    def close(self) -> None:
        """End the connection. May be called twice."""
        if not self._context.closed:
            self._close()
            self._context.term()
