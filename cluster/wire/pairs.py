"""Pairs of call number and event to and from the frames of WORK, REPLY and REFUSE (docs/protocol.md).

Many small events share one frame, because a frame costs as much as the rest of a call; a large one has its own, so that
it is copied nowhere.
"""

import struct
from collections.abc import Iterable, Sequence

from cluster.wire.protocol import NUMBER_BYTES, ProtocolError

LARGE_BYTES = 16 * 1024
"""From this size on an event has a frame of its own."""

_ROW = struct.Struct(f">{NUMBER_BYTES}sI")


def write_pairs(kind: bytes, pairs: Iterable[tuple[bytes, bytes]], *between: bytes) -> list[bytes]:
    """The frames of a message with those (call number, event): kind, what stands between, table, events."""
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
    """Each (call number, event) of a message, from its table on.

    Raises:
        ProtocolError: if table and events do not fit each other.
    """
    if len(parts) < 2 or not parts[0] or len(parts[0]) % _ROW.size:
        raise ProtocolError(f"a table of rows of {_ROW.size} bytes, and events, should come here")
    table, frame = parts[0], parts[1]
    following = iter(parts[2:])
    pairs: list[tuple[bytes, bytes]] = []
    at = 0
    for number, size in _ROW.iter_unpack(table):
        if at == len(frame) and size:
            frame, at = next(following, frame[:0]), 0
        end = at + size
        if end > len(frame):
            raise ProtocolError(f"an event of {size} bytes is not there")
        pairs.append((number, frame[at:end]))
        at = end
    if at != len(frame) or next(following, None) is not None:
        raise ProtocolError("more events than the table names")
    return pairs
