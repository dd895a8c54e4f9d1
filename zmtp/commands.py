"""Commands: READY and its metadata, PING, PONG and ERROR, as bodies of command frames. Keeps no state."""

from collections.abc import Mapping

from zmtp.errors import PeerError
from zmtp.frames import COMMAND, encode_frame

_TTL_BYTES = 2
_MAX_CONTEXT_BYTES = 16
_SHOWN_BYTES = 80
_STATUSES = {b"300": " (temporary failure)", b"400": " (the key is not accepted)", b"500": " (internal failure)"}


def encode_command(name: bytes, body: bytes = b"") -> bytes:
    """Encode a command: its name, then its body."""
    return bytes((len(name),)) + name + body


def split_command(command: bytes) -> tuple[bytes, bytes]:
    """Split a command into name and body; both are empty if the command is empty."""
    if not command:
        return b"", b""
    body_at = 1 + command[0]
    return command[1:body_at], command[body_at:]


PING = encode_frame(COMMAND, encode_command(b"PING", bytes(_TTL_BYTES)))
"""A whole frame with a heartbeat. It has neither a time to live nor a context."""


def encode_pong(ping: bytes) -> bytes:
    """Encode the answer to a PING with this body: it repeats the PING's context."""
    return encode_command(b"PONG", ping[_TTL_BYTES : _TTL_BYTES + _MAX_CONTEXT_BYTES])


def encode_error(reason: bytes) -> bytes:
    """Encode an ERROR, which ends a handshake.

    Args:
        reason: at most 255 bytes.
    """
    return encode_command(b"ERROR", bytes((len(reason),)) + reason)


def error_reason(body: bytes) -> str:
    """The reason in the body of an ERROR, shortened to what a log line can take; statuses of RFC 27 are explained."""
    reason = body[1 : 1 + _SHOWN_BYTES]
    return f"{reason!r}{_STATUSES.get(reason, '')}"


def encode_metadata(properties: Mapping[bytes, bytes]) -> bytes:
    """Encode the properties that an end sends of itself, for instance its socket type."""
    return b"".join(
        bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value for name, value in properties.items()
    )


def parse_metadata(metadata: bytes) -> dict[bytes, bytes]:
    """Parse the properties of a peer. The names become lower case, because ZMTP ignores their case.

    Raises:
        PeerError: if a property is incomplete.
    """
    properties = {}
    at = 0
    while at < len(metadata):
        value_at = at + 1 + metadata[at] + 4
        stop = value_at + int.from_bytes(metadata[value_at - 4 : value_at], "big")
        if value_at > len(metadata) or stop > len(metadata):
            raise PeerError("the metadata of the peer is incomplete")
        properties[metadata[at + 1 : value_at - 4].lower()] = metadata[value_at:stop]
        at = stop
    return properties
