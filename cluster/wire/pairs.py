"""Encodes and decodes the (call number, event) pairs of WORK, REPLY and REFUSE; docs/protocol.md shows the frames.

Small events share one frame, because each frame costs about as much CPU time as the rest of a call. A large event has a
frame of its own, so that it is never copied.
"""

import struct
from collections.abc import Sequence

from cluster.wire.protocol import NUMBER_BYTES, ProtocolError

LARGE_BYTES = 16 * 1024
"""An event of this size or more, in bytes, has a frame of its own."""

_ROW = struct.Struct(f">{NUMBER_BYTES}sI")


def write_pairs(kind: bytes, pairs: Sequence[tuple[bytes, bytes]], *between: bytes) -> list[bytes]:
    """Encode a message that carries pairs.

    Args:
        kind: the first frame.
        pairs: (call number, event).
        between: frames between the kind and the table, such as the procedure of WORK.

    Returns:
        The frames: kind, `between`, the table of call numbers and sizes, the events.
    """
    if len(pairs) == 1:
        number, event = pairs[0]
        return [kind, *between, _ROW.pack(number, len(event)), event]
    rows: list[bytes] = []
    table_at = 1 + len(between)
    frames = [kind, *between, b""]
    small: list[bytes] = []
    for number, event in pairs:
        size = len(event)
        rows.append(_ROW.pack(number, size))
        if size < LARGE_BYTES:
            small.append(event)
            continue
        if small:
            frames.append(b"".join(small))
            small = []
        frames.append(event)
    if small:
        frames.append(b"".join(small))
    frames[table_at] = b"".join(rows)
    return frames


def read_pairs(parts: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Decode the (call number, event) pairs of a message.

    Args:
        parts: the frames of the message from its table on.

    Raises:
        ProtocolError: if the table and the events do not match.
    """
    if len(parts) < 2 or not parts[0] or len(parts[0]) % _ROW.size:
        raise ProtocolError(f"expected a table with rows of {_ROW.size} bytes, and events")
    table, frame = parts[0], parts[1]
    following = iter(parts[2:])
    pairs: list[tuple[bytes, bytes]] = []
    at = 0
    for number, size in _ROW.iter_unpack(table):
        if at == len(frame) and size:
            frame, at = next(following, frame[:0]), 0
        end = at + size
        if end > len(frame):
            raise ProtocolError(f"an event of {size} bytes is missing or cut off")
        pairs.append((number, frame[at:end]))
        at = end
    if at != len(frame) or next(following, None) is not None:
        raise ProtocolError("there are more events than the table names")
    return pairs
