"""Security mechanisms: how the ends of a connection authenticate each other, and how they protect frames.

A `Session` does the greeting itself. Then its mechanism runs the handshake, and afterwards it may wrap frames.
`Null` has no security; `zmtp.curve` has the two ends of CURVE.
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
        peer_name: who the peer is, as this end names the peer's key; empty if the mechanism does not tell.
        peer_key: the long-term public key of the peer; empty if there is none.
    """

    name: bytes
    as_server: bool
    wraps: bool
    peer_metadata: bytes | None
    peer_name: str
    peer_key: bytes

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

    def wrap(self, frames: bytes) -> bytes:
        """Protect whole encoded frames; return the encoded frames to send."""

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Undo the peer's `wrap` for one frame, whose flags come without LONG.

        Raises:
            PeerError: if the frame is not authentic.
        """


class Null:
    """No security: both ends send READY with their metadata. Frames stay as they are."""

    name = b"NULL"
    as_server = False
    wraps = False
    peer_name = ""
    peer_key = b""

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

    def wrap(self, frames: bytes) -> bytes:
        """Return the frames unchanged."""
        return frames

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Return the frame unchanged."""
        return flags, body
