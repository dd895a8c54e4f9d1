"""Frames: their flags and limits, and how a message is encoded as frames. The functions keep no state.

A frame is a flags byte, a size of 1 or 8 bytes, and a body. RFC 37 calls this "framing" (section 2, "Formal Grammar").
"""

from collections.abc import Sequence

MORE = 1
"""Flag: another frame of the same message follows."""

LONG = 2
"""Flag: the size has 8 bytes instead of 1."""

COMMAND = 4
"""Flag: the frame is a command and not part of a message."""

COMMAND_FLAGS = (COMMAND, COMMAND | LONG)
"""The flags that a command may have. Commands have one frame."""

MAX_FRAMES = 64
"""Most frames in a message of a peer whose messages are limited."""

_SHORT_HEADERS = [(bytes((0, size)), bytes((MORE, size))) for size in range(256)]
_EVENT_HEADERS = [bytes((MORE, 0, 0, size)) for size in range(256)]


def encode_message(frames: Sequence[bytes]) -> list[bytes]:
    """Encode a message.

    Args:
        frames: at least one.

    Returns:
        Chunks to send in this order: a header and a body for each frame. Bodies are not copied.
    """
    chunks: list[bytes] = []
    left = len(frames)
    for frame in frames:
        left -= 1
        size = len(frame)
        chunks.append(_SHORT_HEADERS[size][left > 0] if size < 256 else _long_header(MORE if left else 0, size))
        chunks.append(frame)
    return chunks


def encode_event(event: bytes) -> tuple[bytes, bytes]:
    """Encode a message of two frames, an empty delimiter and `event`, as ZeroRPC and REQ sockets send it.

    The result means the same as `encode_message([b"", event])` but takes less time.
    """
    size = len(event)
    return (_EVENT_HEADERS[size] if size < 256 else b"\x01\x00" + _long_header(0, size)), event


def encode_frame(flags: int, body: bytes) -> bytes:
    """Encode one frame. `flags` are MORE, COMMAND or 0; this function adds LONG where it is needed."""
    size = len(body)
    return (bytes((flags, size)) if size < 256 else _long_header(flags, size)) + body


def _long_header(flags: int, size: int) -> bytes:
    return bytes((flags | LONG,)) + size.to_bytes(8, "big")
