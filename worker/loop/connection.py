"""The worker's connection to the broker: messages on a plain socket, and heartbeats on one of libzmq's.

libzmq works in a thread of its own. Each message would wake it, and be woken by it, which takes a sixth of the time of
a call that comes alone.
"""

import logging
import select
import socket
import time
from contextlib import suppress
from typing import Protocol

from cluster.runtime import busy_poll, forks
from cluster.runtime.busy_poll import BusyPoll
from cluster.runtime.waker import Waker
from worker.loop.liveness import Liveness
from zmtp import Mechanism, Null, PeerError, Session, encode_message
from zmtp.connection import Connection as ZmtpConnection
from zmtp.curve import CurveClient, CurveKeys
from zmtp.endpoint import Endpoint, IpcEndpoint, parse_endpoint, resolve

log = logging.getLogger(__name__)

CLOSE_LINGER_S = 1.0
"""Longest time for the last messages to leave when the connection is closed, in seconds."""

RECONNECT_INTERVALS_S = (0.1, 0.2, 0.5, 1.0)
"""Times between the end of a connection and the attempts to make another, in seconds; the last one repeats."""

_MS = 1000


class Connection(Protocol):
    """What the message loop needs of a connection. Only `wake` may be called from any thread."""

    address: str
    """The broker's."""

    def connect(self) -> None:
        """Connect again, with a new socket. Messages of the former one are dropped."""

    def send(self, frames: list[bytes]) -> bool:
        """Send a message. Returns False, and drops it, while the broker is not connected."""

    def receive(self) -> list[list[bytes]]:
        """The messages that have arrived, each as its frames; perhaps not all of them."""

    def wait(self, timeout_ms: int, *, may_poll: bool) -> None:
        """Wait for a message, for `wake` or for a signal, at most that many milliseconds.

        Args:
            timeout_ms: the limit.
            may_poll: whether the process has nothing else to do, so that it may poll before it sleeps.
        """

    def wake(self) -> None:
        """End a wait."""


class BrokerConnection:
    """A DEALER. A `Connection`. It connects again by itself when it has lost the broker."""

    def __init__(
        self, address: str, keys: CurveKeys | None = None, broker_key: bytes = b"", *, busy_poll_us: int = 0
    ) -> None:
        """Build; `connect` connects.

        Args:
            address: the broker's ZeroMQ endpoint for workers.
            keys: the long-term keys of this worker, if the broker requires keys.
            broker_key: the long-term public key of the broker, 32 bytes.
            busy_poll_us: how long to poll before sleeping, in microseconds.
        """
        self.address = address
        self._endpoint: Endpoint = parse_endpoint(address)
        self._keys = keys
        self._broker_key = broker_key
        self._liveness = Liveness(address, keys, broker_key)
        self._heartbeats_by = b""
        self._data: ZmtpConnection | None = None
        self._attempts = 0  # since there was a connection
        self._connect_at_s = 0.0
        self._is_readable = False
        self._poller = select.poll()
        self._busy_poll = BusyPoll(self._poll, busy_poll.limit_us(busy_poll_us))
        self._waker = Waker()
        self._poller.register(self._waker, select.POLLIN)
        self._watched = 0  # events for which the poller watches the data connection
        self._complaint = ""  # the last line of the log about the broker
        self._is_closed = False
        forks.register(self)

    def leave_to_parent(self) -> None:
        """In a forked child: let the connection end with the parent, so that the broker sees it at once."""
        forks.hide_connections_to(self.address)

    @property
    def signal_fd(self) -> int:
        """The file descriptor to which Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._waker.signal_fd

    # -- connecting -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect with new sockets. Messages of the former ones, in both directions, are dropped."""
        self._disconnect()
        self._attempts = 0
        self._heartbeats_by = b""
        self._dial()

    def _dial(self) -> None:
        """Begin to connect; if that fails at once, `wait` tries again."""
        self._connect_at_s = (
            time.monotonic() + RECONNECT_INTERVALS_S[min(self._attempts, -1 + len(RECONNECT_INTERVALS_S))]
        )
        self._attempts += 1
        try:
            # The name may not be known yet, for instance of a container that starts later.
            family, address = resolve(self._endpoint)
            connecting = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._complain(error.strerror or str(error))
            return
        if not self._heartbeats_by:
            self._heartbeats_by = self._liveness.connect(is_ipv6=family == socket.AF_INET6)
        connecting.setblocking(False)
        if not isinstance(self._endpoint, IpcEndpoint):
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(b"DEALER", (b"ROUTER",), mechanism=self._mechanism(), heartbeats_by=self._heartbeats_by)
        self._data = ZmtpConnection(connecting, session, time.monotonic())
        with suppress(BlockingIOError):
            try:
                connecting.connect(address)
            except BlockingIOError:
                raise
            except OSError as error:
                self._lose(error.strerror or str(error))
                return
        self._watch(select.POLLIN | select.POLLOUT)

    def _mechanism(self) -> Mechanism:
        return Null() if self._keys is None else CurveClient(self._keys, self._broker_key)

    def _watch(self, events: int) -> None:
        assert self._data is not None
        if events != self._watched:
            self._watched = events
            self._poller.register(self._data, events)

    def _disconnect(self) -> None:
        if self._data is not None:
            if self._watched:
                self._poller.unregister(self._data)
            self._data.close()
        self._data = None
        self._watched = 0
        self._is_readable = False

    def _lose(self, complaint: str) -> None:
        """The broker has ended the connection, or has broken the protocol."""
        self._disconnect()
        self._complain(complaint)

    def _complain(self, complaint: str) -> None:
        """Log why there is no connection, once."""
        if complaint and complaint != self._complaint:
            self._complaint = complaint
            log.warning("no connection to the broker at %s: %s", self.address, complaint)

    # -- messages -------------------------------------------------------------------------------------------------

    def send(self, frames: list[bytes]) -> bool:
        """Send a message. Returns False, and drops it, while the broker is not connected."""
        data = self._data
        if data is None or not data.session.is_ready:
            return False
        data.enqueue(encode_message(frames))
        if not data.flush():
            self._watch(select.POLLIN | select.POLLOUT)
        return True

    def receive(self) -> list[list[bytes]]:
        """Read once; return the messages that have arrived, each as its frames."""
        data = self._data
        if data is None or not (self._is_readable or data.session.has_buffered):
            return []
        self._is_readable = False
        try:
            is_open = data.receive(time.monotonic())
        except PeerError as error:
            self._lose(str(error))
            return []
        messages, data.messages = data.messages, []
        if data.session.to_send:
            data.enqueue_replies()
            self._flush(data)
        if messages:
            self._attempts = 0
            self._complaint = ""
        if not is_open:
            refusal = "" if data.session.is_ready else "it has ended the handshake; its log says why"
            self._lose(data.broken_by or refusal)
        return messages

    def _flush(self, data: ZmtpConnection) -> None:
        self._watch(select.POLLIN if data.flush() else select.POLLIN | select.POLLOUT)

    def wait(self, timeout_ms: int, *, may_poll: bool) -> None:
        """Wait for a message, for `wake` or for a signal; see `Connection`."""
        if self._data is None:
            left_s = self._connect_at_s - time.monotonic()
            if left_s <= 0:
                self._dial()
            else:
                timeout_ms = min(timeout_ms, 1 + int(left_s * _MS))
        for descriptor, events in self._busy_poll.wait(timeout_ms / _MS, may_poll=may_poll):
            if descriptor == self._waker.fileno():
                self._waker.clear()
                continue
            data = self._data
            assert data is not None
            if events & select.POLLOUT:
                data.enqueue_replies()
                self._flush(data)
            if events & ~select.POLLOUT:
                self._is_readable = True

    def _poll(self, timeout_s: float) -> list[tuple[int, int]]:
        return self._poller.poll(timeout_s * _MS)

    def wake(self) -> None:
        """End a wait. For any thread."""
        self._waker.wake()

    def close(self) -> None:
        """Let the last messages leave, then close. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._data is not None:
            self._linger(self._data)
        self._disconnect()
        self._liveness.close()
        self._waker.close()

    @staticmethod
    def _linger(data: ZmtpConnection) -> None:
        """Send what is left, as long as the broker takes it."""
        until_s = time.monotonic() + CLOSE_LINGER_S
        poller = select.poll()
        poller.register(data, select.POLLOUT)
        while not data.flush() and (left_s := until_s - time.monotonic()) > 0:
            if any(events & ~select.POLLOUT for _, events in poller.poll(left_s * _MS)):
                return  # the connection is broken
