"""Security mechanisms: how the ends of a connection authenticate each other, and how they protect frames.

A `Session` does the greeting itself. Then its mechanism runs the handshake, and afterwards it may wrap frames.
`Null` is the only mechanism now. CURVE (RFC 25 and 26) will be a second class with the same interface.
"""

from typing import Protocol

from zmtp.commands import encode_command
from zmtp.errors import PeerError
from zmtp.greeting import Greeting

_SHOWN_BYTES = 20


class Mechanism(Protocol):
    """One end of one connection's security.

    Attributes:
        name: the name in the greeting, at most 20 bytes.
        as_server: whether this end is the server of the mechanism.
        wraps: whether the mechanism changes frames after the handshake. If False, the session calls neither `wrap` nor
            `unwrap`, and reads frames on its fast path.
        peer_metadata: the encoded properties of the peer; None until the handshake is complete.
    """

    name: bytes
    as_server: bool
    wraps: bool
    peer_metadata: bytes | None

    def begin(self, peer: Greeting, metadata: bytes) -> list[bytes]:
        """Begin the handshake, after the greeting of the peer.

        Args:
            peer: the greeting. Its mechanism is this one.
            metadata: the encoded properties of this end, for the handshake command that carries them.

        Returns:
            The commands to send now, encoded by `encode_command`.

        Raises:
            PeerError: if the peer's role does not fit.
        """

    def receive(self, name: bytes, body: bytes) -> list[bytes]:
        """Take a handshake command of the peer, and return the commands to send in answer.

        Raises:
            PeerError: if the command is wrong or comes out of turn.
        """

    def wrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Protect a frame: take its flags (MORE or COMMAND) and body, return the flags and body to send."""

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Undo the peer's `wrap`.

        Raises:
            PeerError: if the frame is not authentic.
        """


class Null:
    """No security: both ends send READY with their metadata. Frames stay as they are."""

    __slots__ = ("peer_metadata",)

    name = b"NULL"
    as_server = False
    wraps = False

    def __init__(self) -> None:
        self.peer_metadata: bytes | None = None

    def begin(self, peer: Greeting, metadata: bytes) -> list[bytes]:
        """Send READY. The greeting of the peer does not matter."""
        return [encode_command(b"READY", metadata)]

    def receive(self, name: bytes, body: bytes) -> list[bytes]:
        """Take the READY of the peer.

        Raises:
            PeerError: if it is another command.
        """
        if name != b"READY":
            raise PeerError(f"the command {name[:_SHOWN_BYTES]!r} came before the READY")
        self.peer_metadata = body
        return []

    def wrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Return the frame unchanged."""
        return flags, body

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Return the frame unchanged."""
        return flags, body
