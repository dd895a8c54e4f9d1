"""One end of a connection as a state machine: bytes of the peer in, messages out. It knows no socket and no clock."""

import sys
from collections.abc import Collection, Mapping, Sequence

from zmtp.commands import encode_error, encode_metadata, encode_pong, error_reason, parse_metadata, split_command
from zmtp.errors import MECHANISM, PeerError
from zmtp.frames import COMMAND, COMMAND_FLAGS, LONG, MAX_FRAMES, MORE, encode_frame
from zmtp.greeting import EXPLANATION, GREETING_BYTES, VERSION_BYTES, check_signature, encode_greeting, parse_greeting
from zmtp.mechanism import Mechanism, Null

READ_BYTES = 64 * 1024
"""How much to read at once, in bytes. A frame that is larger is then read on its own, in larger pieces."""

PIECE_BYTES = 1024 * 1024
"""How much of a large frame to read at once, in bytes."""

_HEARTBEATS_BY = b"X-Heartbeats-By"  # RFC 37: the names of properties that are no part of it begin with X-
_SMALL_PIECE_BYTES = 4096
_MAX_ROUTING_ID_BYTES = 255  # RFC 37: the Identity property has 0 to 255 bytes
_SHOWN_BYTES = 20


class Session:
    """One end of a connection.

    The caller moves the bytes: it sends what is in `to_send`, gives what it receives to `receive_data`, and sends
    messages, encoded by `encode_message`, as soon as the session `is_ready`.

    Attributes:
        is_ready: whether the handshake is complete. Before that, no message may be sent.
        has_buffered: whether received data may contain more messages. If so, call `read_buffered` before the next
            `receive_data`.
        peer_type: the socket type of the peer, for instance b"DEALER"; empty before the handshake is complete.
        routing_id: the routing id that the peer has chosen for itself; empty if it has not.
        heartbeats_by: the routing id of another connection of the peer, which answers heartbeats in place of this one;
            empty if it has none. It is the property `X-Heartbeats-By`.
        supports_heartbeats: whether the peer speaks ZMTP 3.1, so that it must answer a PING.
        wraps: whether messages must go through `wrap` before they are sent.
        to_send: chunks that the session itself must send: the greeting, the handshake, PONGs and a last word. Send them
            before any message, unwrapped, and then clear the list.
    """

    __slots__ = (
        "_at",
        "_data",
        "_expects_greeting",
        "_frames",
        "_large_bytes",
        "_large_flags",
        "_max_bytes_by_type",
        "_max_message_bytes",
        "_mechanism",
        "_missing_bytes",
        "_needed_bytes",
        "_peer_types",
        "_pieces",
        "_properties",
        "_read_limit",
        "_rest_of_greeting",
        "_slow_flags",
        "has_buffered",
        "heartbeats_by",
        "is_ready",
        "peer_type",
        "routing_id",
        "supports_heartbeats",
        "to_send",
        "wraps",
    )

    def __init__(
        self,
        socket_type: bytes,
        peer_types: Collection[bytes],
        *,
        max_message_bytes: int | None = None,
        max_bytes_by_type: Mapping[bytes, int | None] | None = None,
        read_limit: int = sys.maxsize,
        mechanism: Mechanism | None = None,
        heartbeats_by: bytes = b"",
    ) -> None:
        """Make one end and put its greeting into `to_send`.

        Args:
            socket_type: the type of this end, for instance b"ROUTER".
            peer_types: the socket types that the peer may have.
            max_message_bytes: most bytes in a message of the peer, for a peer that is not trusted. Then a message also
                has at most `MAX_FRAMES` frames. None for no limit.
            max_bytes_by_type: limits in place of `max_message_bytes` for peers of some socket types.
            read_limit: most messages and commands that one call reads. The rest stays buffered.
            mechanism: the security of this end; `Null` by default.
            heartbeats_by: routing id of another connection of this end that answers heartbeats in place of this one.
        """
        self._peer_types = peer_types
        self._max_message_bytes = max_message_bytes
        self._max_bytes_by_type = max_bytes_by_type or {}
        self._read_limit = read_limit
        self._mechanism: Mechanism = mechanism or Null()
        self._data = b""  # received and not read yet
        self._at = 0  # where the unread part of it begins
        self._needed_bytes = GREETING_BYTES  # how much `_data` must have before reading makes sense; 0 if unknown
        self._expects_greeting = True
        # Frames with these flags, or higher, leave the fast path: at first all frames, after the handshake commands.
        self._slow_flags = 0
        self._frames: list[bytes] = []  # of an incomplete message
        self._pieces: list[bytes] = []  # of an incomplete large frame
        self._missing_bytes = 0  # of that frame; 0 if there is no such frame
        self._large_bytes = 0  # how many bytes that frame has
        self._large_flags = 0
        self.has_buffered = False
        self.is_ready = False
        self._properties = {b"Socket-Type": socket_type, b"Identity": b""}
        if heartbeats_by:
            self._properties[_HEARTBEATS_BY] = heartbeats_by
        self.routing_id = b""
        self.heartbeats_by = b""
        self.peer_type = b""
        self.supports_heartbeats = False
        self.wraps = False
        greeting = encode_greeting(self._mechanism.name, self._mechanism.as_server)
        # libzmq closes a connection without a word when it reads another mechanism than its own. So a server first
        # sends the version alone, and learns the peer's mechanism, which the log should name, before it tells its own.
        at = VERSION_BYTES if self._mechanism.as_server else GREETING_BYTES
        self.to_send: list[bytes] = [greeting[:at]]
        self._rest_of_greeting = greeting[at:]

    @property
    def peer_name(self) -> str:
        """Who the peer is, as this end names its key; empty without keys, and before the handshake is complete."""
        return self._mechanism.peer_name

    @property
    def peer_key(self) -> bytes:
        """The long-term public key of the peer; empty without keys, and before the handshake is complete."""
        return self._mechanism.peer_key

    # -- receiving ------------------------------------------------------------------------------------------------

    @property
    def read_bytes(self) -> int:
        """How much to read next at most, in bytes: never more than the rest of a large frame."""
        return min(self._missing_bytes, PIECE_BYTES) or READ_BYTES

    @property
    def unread_bytes(self) -> int:
        """How many bytes the session keeps: of an incomplete message, and received data that may contain more."""
        size = len(self._data)
        if self._missing_bytes:
            size += self._large_bytes - self._missing_bytes
        for frame in self._frames:
            size += len(frame)
        return size

    def receive_data(self, data: bytes) -> list[list[bytes]]:
        """Take data of the peer and return the messages that are complete now.

        Args:
            data: at least one byte, and at most `read_bytes`.

        Returns:
            Messages, each a list of frames.

        Raises:
            PeerError: if the data breaks the protocol. `to_send` may then have a last word for the peer.
        """
        if self._missing_bytes:
            return self._continue_large(data)
        if self._data:
            data = self._data + data
        if len(data) < self._needed_bytes:
            self._data = data
            if self._expects_greeting:
                self._check_signature(data)
            return []
        return self._read(data, self._read_greeting(data) if self._expects_greeting else 0)

    def read_buffered(self) -> list[list[bytes]]:
        """Return more messages of the data that was received. Call it only if the session `has_buffered`.

        Raises:
            PeerError: if the data breaks the protocol.
        """
        return self._read(self._data, self._at)

    def _read(self, data: bytes, at: int) -> list[list[bytes]]:
        """Read messages from `data`, beginning at `at`. This is the hot path: it makes no call for a plain message."""
        end = len(data)
        left = self._read_limit
        self._needed_bytes = 0
        messages: list[list[bytes]] = []
        frames = self._frames
        while left and end - at >= 2:
            flags = data[at]
            if flags & LONG:
                if end - at < 9:
                    break
                start = at + 9
                stop = start + int.from_bytes(data[at + 1 : start], "big")
            else:
                start = at + 2
                stop = start + data[at + 1]
            is_slow = flags >= self._slow_flags
            if is_slow and not self.wraps:
                self._check_flags(flags)
            if stop > end:
                self._needed_bytes = stop - at
                break
            if is_slow:
                messages += self._read_slow(flags, data[start:stop])
                left -= 1
            elif flags & MORE:
                frames.append(data[start:stop])
                if len(frames) >= MAX_FRAMES:
                    self._check_count(frames)
            else:
                frames.append(data[start:stop])
                messages.append(frames)
                frames = []
                left -= 1
            at = stop
        self._frames = frames
        self.has_buffered = not left and at < end
        if self.has_buffered:
            self._data, self._at = data, at
            return messages
        if self._needed_bytes > READ_BYTES:
            self._begin_large(flags, data[start:], stop - start)
            at = end
        self._data = data[at:]
        return messages

    def _check_flags(self, flags: int) -> None:
        if flags >= COMMAND and flags not in COMMAND_FLAGS:
            raise PeerError(f"a frame has the flags {flags:#04x}")
        if flags < COMMAND and not self.is_ready:
            raise PeerError("a message came before the READY")

    def _check_count(self, frames: list[bytes]) -> None:
        """Check a message that is incomplete with these frames."""
        if len(frames) >= MAX_FRAMES and self._max_message_bytes is not None:
            raise PeerError(f"a message has more than {MAX_FRAMES} frames")

    def _read_slow(self, flags: int, body: bytes) -> list[list[bytes]]:
        """Read a command, or any frame of a mechanism that wraps; return the message that it completes, if any."""
        if self.wraps:
            flags, body = self._mechanism.unwrap(flags & ~LONG, body)
        if flags >= COMMAND:
            self._on_command(body)
            return []
        frames = self._frames  # `_read` holds the same list, so it is changed in place
        frames.append(body)
        if flags & MORE:
            self._check_count(frames)
            return []
        message = frames[:]
        frames.clear()
        return [message]

    # -- large frames ---------------------------------------------------------------------------------------------

    def _begin_large(self, flags: int, begun: bytes, size: int) -> None:
        self._needed_bytes = 0
        if flags >= COMMAND:
            raise PeerError(f"a command has {size} bytes; the limit is {READ_BYTES}")
        if self._max_message_bytes is not None:
            message_bytes = size + sum(len(frame) for frame in self._frames)
            if message_bytes > self._max_message_bytes:
                raise PeerError(f"a message has at least {message_bytes} bytes; the limit is {self._max_message_bytes}")
        # The session allocates memory for what has arrived. An announced size alone allocates nothing.
        self._pieces.append(begun)
        self._missing_bytes = size - len(begun)
        self._large_bytes = size
        self._large_flags = flags

    def _continue_large(self, piece: bytes) -> list[list[bytes]]:
        self._missing_bytes -= len(piece)
        assert self._missing_bytes >= 0
        if len(piece) < _SMALL_PIECE_BYTES and len(self._pieces[-1]) < READ_BYTES:
            self._pieces[-1] += piece  # many small objects would take a multiple of the memory of their content
        else:
            self._pieces.append(piece)
        if self._missing_bytes:
            return []
        body = b"".join(self._pieces)
        self._pieces = []
        return self._read_slow(self._large_flags, body)

    # -- handshake and commands -----------------------------------------------------------------------------------

    def _check_signature(self, data: bytes) -> None:
        try:
            check_signature(data)
        except PeerError:
            self.to_send.append(EXPLANATION)
            raise

    def _read_greeting(self, data: bytes) -> int:
        """Read the peer's greeting, begin the handshake, and return where the rest of `data` begins."""
        self._check_signature(data)
        greeting = parse_greeting(data)
        mechanism = self._mechanism
        if self._rest_of_greeting:
            self.to_send.append(self._rest_of_greeting)
        if greeting.mechanism != mechanism.name:
            text = f"the peer uses the mechanism {greeting.mechanism!r}; this end uses {mechanism.name!r}"
            if mechanism.as_server:
                self._send_commands([encode_error(f"this port requires {mechanism.name.decode()}".encode())])
            raise PeerError(text, MECHANISM)
        self._expects_greeting = False
        self.supports_heartbeats = greeting.version >= (3, 1)
        self._send_commands(mechanism.begin(greeting, encode_metadata(self._properties)))
        return GREETING_BYTES

    def _on_command(self, command: bytes) -> None:
        name, body = split_command(command)
        if name == b"ERROR":
            raise PeerError(f"the peer refused the connection: {error_reason(body)}")
        if not self.is_ready:
            self._send_commands(self._mechanism.receive(name, body))
            if self._mechanism.peer_metadata is not None:
                self._complete_handshake(self._mechanism.peer_metadata)
        elif name == b"PING":
            self._send_commands([encode_pong(body)])

    def _complete_handshake(self, metadata: bytes) -> None:
        properties = parse_metadata(metadata)
        socket_type = properties.get(b"socket-type", b"")
        if socket_type not in self._peer_types:
            raise PeerError(f"the peer is a {socket_type[:_SHOWN_BYTES]!r} socket")
        self.peer_type = socket_type
        self._max_message_bytes = self._max_bytes_by_type.get(socket_type) or self._max_message_bytes
        self.heartbeats_by = properties.get(_HEARTBEATS_BY.lower(), b"")
        self.routing_id = properties.get(b"identity", b"")
        size = max(len(self.routing_id), len(self.heartbeats_by))
        if size > _MAX_ROUTING_ID_BYTES:
            raise PeerError(f"the routing id of the peer has {size} bytes; the limit is {_MAX_ROUTING_ID_BYTES}")
        self.is_ready = True
        self.wraps = self._mechanism.wraps
        self._slow_flags = 0 if self.wraps else COMMAND

    # -- sending --------------------------------------------------------------------------------------------------

    def _send_commands(self, commands: Sequence[bytes]) -> None:
        for command in commands:
            frame = encode_frame(COMMAND, command)
            self.to_send += self.wrap((frame,)) if self.wraps else (frame,)

    def wrap(self, chunks: Sequence[bytes]) -> list[bytes]:
        """Protect encoded frames. Call it for every message if the mechanism `wraps`."""
        return [self._mechanism.wrap(b"".join(chunks))]
