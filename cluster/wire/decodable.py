"""Whether a stock ZeroRPC server can decode an event.

Python's server ignores an event that it cannot decode, and its caller waits for nothing. Node's server ends, because
its decoder, msgpack-lite, raises, and the package has no handler. So the broker checks what it passes on to servers.
"""

from typing import Any

from cluster.wire.arguments import argument_count
from cluster.wire.unpacking import UNPACK_ERRORS, BoundedUnpacker, unpack

CHECKED_BYTES = 64 * 1024
"""Longest event that is read through, in bytes. Of a longer one only the form is checked, which costs little."""

# msgpack-lite, lib/ext-unpacker.js: the extensions that it decodes into objects.
_ELEMENT_BYTES = {0x13: 2, 0x14: 2, 0x15: 4, 0x16: 4, 0x17: 4, 0x18: 8}  # typed arrays, and what an element takes
_BOXED = frozenset((0x0B, 0x0C, 0x0D, 0x0F))  # Boolean, String, Date, Number around one value
_ERRORS = frozenset((0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0E))  # around a map
_REGULAR_EXPRESSION = 0x0A


def objection(payload: bytes, args_at: int) -> str | None:
    """Return why a stock server cannot decode an event, for the caller; None if it can.

    Args:
        payload: an event whose header has been read.
        args_at: index of the arguments.
    """
    if not _is_complete_array(payload, args_at):
        return "the arguments must be an array, complete and alone"
    if len(payload) > CHECKED_BYTES:
        return None
    try:
        unpack(payload, strict_map_key=True, ext_hook=_check_extension)
    except UnicodeDecodeError:
        return "a text is not UTF-8"
    except UNPACK_ERRORS as error:
        if "strict_map_key" in str(error):
            return "the keys of a map must be texts or bytes: servers for Python decode no others"
        return f"the event cannot be decoded: {error}"
    return None


def _is_complete_array(payload: bytes, args_at: int) -> bool:
    if argument_count(payload, args_at) is None:
        return False
    arguments = memoryview(payload)[args_at:]
    unpacker = BoundedUnpacker(arguments).unpacker
    try:
        unpacker.skip()
    except UNPACK_ERRORS:
        return False
    end: int = unpacker.tell()
    return end == len(arguments)


def _check_extension(kind: int, data: bytes) -> None:
    """Raise for an extension that ends a server for Node."""
    is_readable = True
    if kind in _ELEMENT_BYTES:
        is_readable = len(data) % _ELEMENT_BYTES[kind] == 0
    elif kind in _BOXED or kind in _ERRORS:
        value: Any = unpack(data, strict_map_key=True, ext_hook=_refuse_extension)
        is_readable = isinstance(value, dict) if kind in _ERRORS else not isinstance(value, dict | list)
    elif kind == _REGULAR_EXPRESSION:
        is_readable = False
    if not is_readable:
        raise ValueError(f"extension {kind} has a value that servers for Node do not decode")


def _refuse_extension(kind: int, _: bytes) -> None:
    raise ValueError(f"extension {kind} within an extension")
