"""ZMTP, what ZeroMQ sockets say to each other (https://rfc.zeromq.org/spec/37): one end of a connection, as bytes.

As much of version 3.1 as DEALER, REQ and ROUTER need, without security (the mechanism NULL). A peer of version 3.0 is
served as well; it need not know heartbeats, though libzmq 4.2.0 to 4.3.2, which says that it is of 3.0, answers them.
What libzmq brings beyond it, a thread that sends and receives for its socket, is what this is there to do without:
docs/performance.md says why.
"""

import sys
from collections.abc import Collection, Sequence

READ_BYTES = 64 * 1024
"""How much to read at one time; what a frame has beyond it is read by itself, in larger pieces."""

PIECE_BYTES = 1024 * 1024
"""How much to read of a large frame at one time."""

PING = b"\x04\x07\x04PING\x00\x00"
"""A heartbeat, ready to be sent: no time to live, no context."""

_MORE, _LONG, _COMMAND = 1, 2, 4  # flags of a frame
_OF_COMMANDS = (_COMMAND, _COMMAND | _LONG)
_GREETING_BYTES = 64
_SMALL_PIECE_BYTES = 4096
_VERSION_AT, _MECHANISM_AT = 10, 12
_NULL = b"NULL".ljust(20, b"\0")
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + _NULL + bytes(32)  # signature, 3.1, not as a server, filler
_MOST_FRAMES = 64
_MOST_ID_BYTES = 255  # of a routing id, as the protocol has it
_SHOWN_BYTES = 80  # of what a peer has sent, in a text
_SHORT = [(bytes((0, size)), bytes((_MORE, size))) for size in range(256)]
_EVENT = [bytes((_MORE, 0, 0, size)) for size in range(256)]


class PeerError(Exception):
    """The peer does not speak this protocol; the text says what it did."""


def encode_message(frames: Sequence[bytes]) -> list[bytes]:
    """What to send for a message of those frames, in the order of sending; a frame is not copied."""
    chunks: list[bytes] = []
    left = len(frames)
    for frame in frames:
        left -= 1
        size = len(frame)
        chunks.append(_SHORT[size][left > 0] if size < 256 else _long(_MORE if left else 0, size))
        chunks.append(frame)
    return chunks


def encode_event(event: bytes) -> tuple[bytes, bytes]:
    """What to send for an event as ZeroRPC wraps it: an empty frame, then the event. The quick way to do so."""
    size = len(event)
    return (_EVENT[size] if size < 256 else b"\x01\x00" + _long(0, size)), event


def _long(flags: int, size: int) -> bytes:
    return bytes((flags | _LONG,)) + size.to_bytes(8, "big")


class Session:
    """One end of a connection: it is fed what was received, and tells the messages and what to send.

    Attributes:
        is_ready: whether the peer has said who it is; before, no message may be sent.
        has_buffered: whether there is more in what was received; then `go_on` comes before anything else is received.
        routing_id: that the peer has given itself; empty if none.
        knows_heartbeats: whether the peer says that it answers a `PING`.
        to_send: what this end has to send by itself, before anything else; whoever sends it empties it.
    """

    __slots__ = (
        "_at",
        "_frames",
        "_greeted",
        "_largest_bytes",
        "_missing_bytes",
        "_more_follow",
        "_most_at_once",
        "_partners",
        "_pieces",
        "_received",
        "_socket_type",
        "_wanted_bytes",
        "has_buffered",
        "is_ready",
        "knows_heartbeats",
        "routing_id",
        "to_send",
    )

    def __init__(
        self,
        socket_type: bytes,
        partners: Collection[bytes],
        largest_bytes: int | None = None,
        most_at_once: int = sys.maxsize,
    ) -> None:
        """Make this end.

        Args:
            socket_type: this end's, such as b"ROUTER".
            partners: the socket types that the peer may have.
            largest_bytes: what a message may have; None for a peer that is trusted.
            most_at_once: so many messages and commands are read at one time, however many have come.
        """
        self._socket_type = socket_type
        self._partners = partners
        self._largest_bytes = largest_bytes
        self._most_at_once = most_at_once
        self._received = b""  # the beginning of what is not whole yet, or what is still to be read
        self._at = 0  # there what is still to be read begins
        self._wanted_bytes = _GREETING_BYTES  # how much is needed to go on; 0 if that is not known
        self._greeted = False
        self._frames: list[bytes] = []  # of a message that is not whole
        self._pieces: list[bytes] = []  # of a large frame that is not whole
        self._missing_bytes = 0  # of that frame; 0 if there is none
        self._more_follow = False  # that frame
        self.has_buffered = False
        self.is_ready = False
        self.routing_id = b""
        self.knows_heartbeats = False
        self.to_send: list[bytes] = [_GREETING]

    @property
    def read_bytes(self) -> int:
        """How much to read next at the most: no more than what is left of a large frame."""
        return min(self._missing_bytes, PIECE_BYTES) or READ_BYTES

    def received(self, received: bytes) -> list[list[bytes]]:
        """These bytes came, `read_bytes` at the most; return messages that are whole now, as lists of frames.

        Raises:
            PeerError: if they cannot be read; the connection is to be closed.
        """
        if self._missing_bytes:
            return self._go_on_large(received)
        if self._received:
            received = self._received + received
        if len(received) < self._wanted_bytes:
            self._received = received
            if not self._greeted:
                _check_signature(received)
            return []
        return self._read(received, 0 if self._greeted else self._read_greeting(received))

    def go_on(self) -> list[list[bytes]]:
        """Return more messages of what was received; only if it `has_buffered`.

        Raises:
            PeerError: as `received`.
        """
        return self._read(self._received, self._at)

    def _read(self, received: bytes, at: int) -> list[list[bytes]]:
        end = len(received)
        left = self._most_at_once
        self._wanted_bytes = 0
        messages: list[list[bytes]] = []
        frames = self._frames
        while left and end - at >= 2:
            flags = received[at]
            if flags & _LONG:
                if end - at < 9:
                    break
                start = at + 9
                stop = start + int.from_bytes(received[at + 1 : start], "big")
            else:
                start = at + 2
                stop = start + received[at + 1]
            if flags >= _COMMAND or not self.is_ready:
                self._check(flags)
            if stop > end:
                self._wanted_bytes = stop - at
                break
            if flags >= _COMMAND:
                self._command(received[start:stop])
                left -= 1
            elif flags & _MORE:
                frames.append(received[start:stop])
                self._check_count(frames)
            else:
                frames.append(received[start:stop])
                messages.append(frames)
                frames = []
                left -= 1
            at = stop
        self._frames = frames
        self.has_buffered = not left and at < end
        if self.has_buffered:
            self._received, self._at = received, at
            return messages
        if self._wanted_bytes > READ_BYTES:
            self._begin_large(flags, received[start:], stop - start)
            at = end
        self._received = received[at:]
        return messages

    def _check(self, flags: int) -> None:
        if flags >= _COMMAND and flags not in _OF_COMMANDS:
            raise PeerError(f"a frame has the flags {flags:#04x}")
        if flags < _COMMAND and not self.is_ready:
            raise PeerError("a message came before the READY")

    def _check_count(self, frames: list[bytes]) -> None:
        if len(frames) >= _MOST_FRAMES and self._largest_bytes is not None:
            raise PeerError(f"a message has {_MOST_FRAMES} frames and more")

    def _begin_large(self, flags: int, begun: bytes, size: int) -> None:
        self._wanted_bytes = 0
        if flags >= _COMMAND:
            raise PeerError(f"a command has {size} bytes; it may have {READ_BYTES}")
        if self._largest_bytes is not None:
            whole = size + sum(len(frame) for frame in self._frames)
            if whole > self._largest_bytes:
                raise PeerError(f"a message has {whole} bytes and more; it may have {self._largest_bytes}")
        # Memory is taken for what has come; a promise of bytes takes none.
        self._pieces.append(begun)
        self._missing_bytes = size - len(begun)
        self._more_follow = bool(flags & _MORE)

    def _go_on_large(self, piece: bytes) -> list[list[bytes]]:
        self._missing_bytes -= len(piece)
        assert self._missing_bytes >= 0
        if len(piece) < _SMALL_PIECE_BYTES and len(self._pieces[-1]) < READ_BYTES:
            self._pieces[-1] += piece  # each by itself would take many times the memory of what is in it
        else:
            self._pieces.append(piece)
        if self._missing_bytes:
            return []
        self._frames.append(b"".join(self._pieces))
        self._pieces = []
        if self._more_follow:
            self._check_count(self._frames)
            return []
        message, self._frames = self._frames, []
        return [message]

    def _read_greeting(self, received: bytes) -> int:
        _check_signature(received)
        if received[_VERSION_AT] < 3:
            raise PeerError(f"the peer speaks version {received[_VERSION_AT]} of ZMTP; it should speak 3")
        mechanism = received[_MECHANISM_AT : _MECHANISM_AT + len(_NULL)]
        if mechanism != _NULL:
            raise PeerError(f"the peer wants the security {mechanism.rstrip(bytes(1))!r}; there is none here")
        self._greeted = True
        self.knows_heartbeats = received[_VERSION_AT : _VERSION_AT + 2] >= b"\x03\x01"
        ready = b"".join((b"\x05READY", *_metadata(b"Socket-Type", self._socket_type), *_metadata(b"Identity", b"")))
        self.to_send.append(bytes((_COMMAND, len(ready))) + ready)
        return _GREETING_BYTES

    def _command(self, command: bytes) -> None:
        name, body = command[1 : 1 + command[0]] if command else b"", command[1 + command[0] :] if command else b""
        if name == b"ERROR":
            raise PeerError(f"the peer refuses the connection: {body[1 : 1 + _SHOWN_BYTES]!r}")
        if not self.is_ready:
            if name != b"READY":
                raise PeerError(f"the command {name[:20]!r} came before the READY")
            properties = _read_metadata(body)
            socket_type = properties.get(b"socket-type", b"")
            if socket_type not in self._partners:
                raise PeerError(f"the peer is a {socket_type[:20]!r} socket")
            self.routing_id = properties.get(b"identity", b"")
            if len(self.routing_id) > _MOST_ID_BYTES:
                size = len(self.routing_id)
                raise PeerError(f"the peer's routing id has {size} bytes; it may have {_MOST_ID_BYTES}")
            self.is_ready = True
        elif name == b"PING":  # its time to live, then what the answer repeats
            pong = b"\x04PONG" + body[2:18]
            self.to_send.append(bytes((_COMMAND, len(pong))) + pong)


def _check_signature(received: bytes) -> None:
    """Whether this is how a peer begins, as far as it has."""
    if received[0] != 0xFF or (len(received) > 9 and received[9] & 1 == 0):
        raise PeerError(f"the peer does not speak ZMTP; it began with {received[:16]!r}")


def _metadata(name: bytes, value: bytes) -> tuple[bytes, ...]:
    return bytes((len(name),)), name, len(value).to_bytes(4, "big"), value


def _read_metadata(body: bytes) -> dict[bytes, bytes]:
    """The properties of a READY; names in small letters, for they are compared so."""
    properties = {}
    at = 0
    while at < len(body):
        value_at = at + 1 + body[at] + 4
        stop = value_at + int.from_bytes(body[value_at - 4 : value_at], "big")
        if value_at > len(body) or stop > len(body):
            raise PeerError("the properties of the peer's READY are cut off")
        properties[body[at + 1 : value_at - 4].lower()] = body[value_at:stop]
        at = stop
    return properties
