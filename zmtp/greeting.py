"""The greeting, the first 64 bytes that each end sends: the version and the security mechanism. Keeps no state."""

from typing import NamedTuple

from zmtp.errors import PeerError

GREETING_BYTES = 64

VERSION_BYTES = 12
"""The part of the greeting that a peer of any version reads first: the signature and the version."""

EXPLANATION = b"\r\nThis port speaks ZMTP, the protocol of ZeroMQ, and neither HTTP nor plain text.\r\n"
"""For a person who tries the port with a browser, curl or nc."""

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = b"\x03\x01"
_VERSION_AT, _MECHANISM_AT, _AS_SERVER_AT = 10, 12, 32
_MECHANISM_BYTES = _AS_SERVER_AT - _MECHANISM_AT
_SHOWN_BYTES = 16


class Greeting(NamedTuple):
    """What a greeting contains.

    Attributes:
        version: major and minor.
        mechanism: the name of the security mechanism, without padding.
        as_server: whether this end is the server of that mechanism. NULL ignores it.
    """

    version: tuple[int, int]
    mechanism: bytes
    as_server: bool


def encode_greeting(mechanism: bytes, as_server: bool) -> bytes:
    """Encode the greeting of an end that uses ZMTP 3.1."""
    head = _SIGNATURE + _VERSION + mechanism.ljust(_MECHANISM_BYTES, b"\0") + bytes((as_server,))
    return head.ljust(GREETING_BYTES, b"\0")


def check_signature(data: bytes) -> None:
    """Check the first bytes of a peer; there may be less of them than a greeting has, but at least one.

    Raises:
        PeerError: if they cannot begin a greeting.
    """
    if data[0] != 0xFF or (len(data) > 9 and data[9] & 1 == 0):
        raise PeerError(f"the peer does not speak ZMTP; it began with {data[:_SHOWN_BYTES]!r}")


def parse_greeting(data: bytes) -> Greeting:
    """Parse the first `GREETING_BYTES` of `data`.

    Raises:
        PeerError: if they are not a greeting of ZMTP 3.
    """
    check_signature(data)
    if data[_VERSION_AT] < 3:
        raise PeerError(f"the peer speaks version {data[_VERSION_AT]} of ZMTP; version 3 is required")
    return Greeting(
        version=(data[_VERSION_AT], data[_VERSION_AT + 1]),
        mechanism=data[_MECHANISM_AT:_AS_SERVER_AT].rstrip(b"\0"),
        as_server=bool(data[_AS_SERVER_AT] & 1),
    )
