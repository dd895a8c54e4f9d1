"""A ZeroMQ DEALER on a plain socket: as much of ZMTP 3.0 (https://rfc.zeromq.org/spec/23) as putting load on a service
needs.

libzmq would serve as well, but has a thread of its own beside the caller's, and on the machine that is measured the two
took twice as much of the processor for a call as this does.
"""

import socket
import time
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

RECONNECT_S = 0.1
"""How long to wait before a connection that broke is made anew, in seconds."""

_READ_BYTES = 256 * 1024

_MORE, _LONG, _COMMAND = 1, 2, 4  # flags of a frame
_GREETING_BYTES = 64
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
_HELLO = b"".join(
    (
        _SIGNATURE,
        b"\x03\x00",  # version 3.0
        b"NULL".ljust(20, b"\0"),  # no security
        bytes(32),  # not as a server, and filler
        bytes((_COMMAND, len(_READY))),
        _READY,
    )
)
_DELIMITER = b"\x01\x00"  # an empty frame, and more to come


class PeerError(Exception):
    """Who listens there does not speak ZeroMQ, or not ZeroRPC; the text says what it said."""


class Dealer:
    """A connection that sends and receives events, each as ZeroRPC wraps it: an empty frame, then the event.

    A connection that breaks is made anew; what was leaving, or sent and not answered, is lost.
    """

    def __init__(self, address: str, selector: BaseSelector) -> None:
        """Begin to connect.

        Args:
            address: `tcp://host:port` or `ipc://path`.
            selector: is kept told what the connection waits for; the `data` of its key is this object.

        Raises:
            ValueError: if the address is none.
            OSError: if its host is not known.
        """
        self._selector = selector
        self._family, self._peer = _endpoint(address)
        self._socket: socket.socket | None = None
        self._to_send: list[bytes] = []
        self._again_s = 0.0
        self._connect()

    def _connect(self) -> None:
        self._received: list[bytes] = []
        self._received_bytes = 0
        self._wanted_bytes = _GREETING_BYTES
        self._greeted = self._ready = False
        self._leaving = memoryview(_HELLO)
        self._waits_for = EVENT_READ | EVENT_WRITE
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if self._family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, self._waits_for, self)
        try:
            self._socket.connect(self._peer)
        except BlockingIOError:
            pass
        except OSError:
            self._broke()

    def close(self) -> None:
        """Close the connection; what has not left is lost."""
        if self._socket is not None:
            self._broke()

    def _broke(self) -> None:
        assert self._socket is not None
        self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._again_s = time.monotonic() + RECONNECT_S

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._socket is not None

    def reconnect_if_due(self) -> None:
        """Make a connection that broke anew."""
        if self._socket is None and time.monotonic() >= self._again_s:
            self._connect()

    def send(self, event: bytes) -> None:
        """Send an event with the next `flush`."""
        size = len(event)
        length = bytes((0, size)) if size < 256 else b"\x02" + size.to_bytes(8, "big")
        self._to_send += (_DELIMITER, length, event)

    def flush(self) -> None:
        """Send what there is, as far as the system takes it now; what is left goes with a later call."""
        if self._socket is None:
            return
        if self._ready and self._to_send and not self._leaving:
            self._leaving = memoryview(b"".join(self._to_send))
            self._to_send.clear()
        if self._leaving:
            # What is wrong with the connection is found when it is read, after the answers that have come already.
            with suppress(OSError):
                self._leaving = self._leaving[self._socket.send(self._leaving) :]
        waits_for = EVENT_READ | EVENT_WRITE if self._leaving else EVENT_READ
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._selector.modify(self._socket, waits_for, self)

    def receive(self) -> list[bytes]:
        """The events that have come.

        Raises:
            PeerError: if they cannot be read.
        """
        assert self._socket is not None
        try:
            read = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            read = b""
        if not read:
            self._broke()
            return []
        self._received.append(read)
        self._received_bytes += len(read)
        if self._received_bytes < self._wanted_bytes:
            return []
        received = b"".join(self._received)
        events, at = self._read(received, 0 if self._greeted else self._read_greeting(received))
        self._received = [received[at:]]
        self._received_bytes = len(received) - at
        return events

    def _read_greeting(self, received: bytes) -> int:
        """Read the peer's greeting; return where it ends."""
        if received[0] != 0xFF or received[9] != 0x7F or received[10] < 3:
            raise PeerError(f"the peer does not speak ZMTP 3; it sent {received[:16]!r}")
        self._greeted = True
        return _GREETING_BYTES

    def _read(self, received: bytes, at: int) -> tuple[list[bytes], int]:
        """The events from there on that are whole, and where they end."""
        events = []
        end = len(received)
        self._wanted_bytes = 0
        while end - at >= 2:
            flags = received[at]
            if flags & _LONG:
                if end - at < 9:
                    break
                start = at + 9
                stop = start + int.from_bytes(received[at + 1 : start], "big")
            else:
                start = at + 2
                stop = start + received[at + 1]
            if stop > end:
                self._wanted_bytes = stop - at
                break
            at = stop
            if flags & _COMMAND:
                self._command(received[start:stop])
            elif not flags & _MORE:
                events.append(received[start:stop])
            elif start != stop:
                raise PeerError(f"the service sent {received[start:stop][:40]!r} where an empty frame should be")
        return events, at

    def _command(self, command: bytes) -> None:
        if command.startswith(b"\x05READY"):
            self._ready = True
        elif command.startswith(b"\x04PING"):  # of ZMTP 3.1: its time to live, then what the answer repeats
            pong = b"\x04PONG" + command[7:]
            self._to_send.append(bytes((_COMMAND, len(pong))) + pong)
        elif command.startswith(b"\x05ERROR"):
            raise PeerError(f"the peer refuses the connection: {command[7:]!r}")


def _endpoint(address: str) -> tuple[int, tuple[object, ...] | str]:
    kind, _, rest = address.partition("://")
    if kind == "ipc" and rest:
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("an address should be tcp://host:port or ipc://path")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET  # as libzmq does
    return family, socket.getaddrinfo(host.strip("[]"), int(port), family, socket.SOCK_STREAM)[0][4]
