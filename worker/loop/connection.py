"""The worker's connection to the broker. The only module of the worker that touches ZeroMQ."""

from typing import Protocol

import zmq
import zmq.backend
from zmq.utils import z85

from cluster.runtime import forks
from cluster.runtime.waker import Waker
from cluster.wire.pairs import LARGE_BYTES
from zmtp.curve import CurveKeys

CLOSE_LINGER_MS = 1000
"""Longest time in milliseconds for the last messages to leave when the connection is closed."""

# Plain numbers, and the methods of pyzmq's C layer: its Python layer above costs several times as much.
NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
receive_frame = zmq.backend.Socket.recv
send_frame = zmq.backend.Socket.send


class Connection(Protocol):
    """What the message loop needs of a connection. Only `wake` may be called from any thread."""

    address: str
    """The broker's."""

    def connect(self) -> None:
        """Connect again, with a new socket. Messages of the former one are dropped."""

    def send(self, frames: list[bytes]) -> bool:
        """Send a message. Returns False, and drops it, while the broker is not connected."""

    def receive(self) -> list[list[bytes]]:
        """All messages that have arrived since the last call, each as its frames."""

    def wait(self, timeout_ms: int) -> None:
        """Wait for a message, for `wake` or for a signal, at most that many milliseconds."""

    def wake(self) -> None:
        """End a wait."""


class BrokerConnection:
    """A DEALER socket. A `Connection`."""

    def __init__(self, address: str, keys: CurveKeys | None = None, broker_key: bytes = b"") -> None:
        """Build; `connect` connects.

        Args:
            address: the broker's ZeroMQ endpoint for workers.
            keys: the long-term keys of this worker, if the broker requires keys.
            broker_key: the long-term public key of the broker, 32 bytes.
        """
        self.address = address
        self._keys = keys
        self._broker_key = broker_key
        self._context = zmq.Context()
        self._dealer: zmq.Socket[bytes] | None = None
        self._poller = zmq.Poller()
        self._waker = Waker()
        forks.register(self)

    def leave_to_parent(self) -> None:
        """In a forked child: let the connection end with the parent, so that the broker sees it at once."""
        forks.hide_connections_to(self.address)

    @property
    def signal_fd(self) -> int:
        """The file descriptor to which Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._waker.signal_fd

    def connect(self) -> None:
        """Connect with a new socket. Messages of the former one, in both directions, are dropped."""
        if self._dealer is not None:
            self._dealer.close(linger=0)
        dealer = self._context.socket(zmq.DEALER)
        dealer.sndhwm = 0  # the broker bounds the calls that the worker has at once
        dealer.rcvhwm = 0
        dealer.ipv6 = True  # as well as IPv4
        dealer.immediate = True  # queue nothing while the broker is not connected
        dealer.reconnect_ivl = 100
        dealer.reconnect_ivl_max = 1000
        if self._keys is not None:
            dealer.curve_publickey = z85.encode(self._keys.public)
            dealer.curve_secretkey = z85.encode(self._keys.secret)
            dealer.curve_serverkey = z85.encode(self._broker_key)
        dealer.connect(self.address)
        self._dealer = dealer
        self._poller = zmq.Poller()
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(self._waker, zmq.POLLIN)

    def send(self, frames: list[bytes]) -> bool:
        """Send a message. Returns False, and drops it, while the broker is not connected."""
        dealer = self._dealer
        assert dealer is not None
        try:
            for frame in frames[:-1]:
                send_frame(dealer, frame, NOBLOCK_MORE)
            if len(frames[-1]) < LARGE_BYTES:
                send_frame(dealer, frames[-1], NOBLOCK)
            else:
                send_frame(dealer, frames[-1], NOBLOCK, False)
        except zmq.Again:  # at the first frame
            return False
        return True

    def receive(self) -> list[list[bytes]]:
        """All messages that have arrived since the last call, each as its frames."""
        dealer = self._dealer
        assert dealer is not None
        messages: list[list[bytes]] = []
        while True:
            frames: list[bytes] = []
            more = True
            try:
                while more:
                    frame = receive_frame(dealer, NOBLOCK, False)
                    more = frame.more
                    frames.append(frame.bytes)
            except zmq.Again:
                return messages
            messages.append(frames)

    def wait(self, timeout_ms: int) -> None:
        """Wait for a message, for `wake` or for a signal, at most that many milliseconds."""
        for source, _ in self._poller.poll(timeout_ms):
            if source == self._waker.fileno():
                self._waker.clear()

    def wake(self) -> None:
        """End a wait. For any thread."""
        self._waker.wake()

    def close(self) -> None:
        """Let the last messages leave, then close. May be called twice."""
        if self._context.closed:
            return
        if self._dealer is not None:
            self._dealer.close(linger=CLOSE_LINGER_MS)
        self._context.term()
        self._waker.close()
