"""Decodes msgpack of peers that are not trusted, in time and memory that are linear in the bytes.

The C decoder of msgpack allocates an array in its declared length as soon as it has read the header. An event of 3 KB
can have 1,000 nested headers that declare 3,000 elements each, and takes 14 ms. Skipping a value allocates nothing. So
the functions here skip the values that nobody needs, and decode arrays only after they have skipped them once: then
each declared element is there, with at least one byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

UNPACK_ERRORS = (ValueError, TypeError, RecursionError, msgpack.UnpackException)
"""What msgpack raises for bytes that cannot be decoded."""

SMALL_BYTES = 256
"""Values up to this size are decoded at once. In so few bytes, nested headers cannot declare much."""


_READ_BYTES = 64 * 1024
_ARRAY_OF_1 = 0x91


class NotAScalar:
    """Stands for an array, a map or an extension that was skipped."""


NOT_A_SCALAR = NotAScalar()


class BoundedUnpacker:
    """Reads values of untrusted bytes one after the other.

    Attributes:
        unpacker: the decoder of msgpack. None of its lengths may go beyond the bytes.
        data: the bytes.
    """

    __slots__ = ("data", "unpacker")

    def __init__(self, data: bytes | memoryview, unicode_errors: str = "strict") -> None:
        self.data = data
        self.unpacker = _unpacker(len(data), unicode_errors=unicode_errors)
        self.unpacker.feed(data)

    def scalar(self) -> Any:
        """Read a nil, boolean, number, string or binary; `NOT_A_SCALAR` for any other value, which is skipped.

        Raises:
            UNPACK_ERRORS: if there is no complete value.
        """
        at = self.unpacker.tell()
        if at < len(self.data) and not _is_scalar(self.data[at]):
            self.unpacker.skip()
            return NOT_A_SCALAR
        return self.unpacker.unpack()


class _Chunks:
    """The bytes of a buffer, in pieces, in the form in which msgpack reads a file."""

    def __init__(self, data: memoryview) -> None:
        self._left = data

    def read(self, size: int) -> bytes:
        chunk, self._left = self._left[:size], self._left[size:]
        return bytes(chunk)


def frugal_unpacker(data: memoryview) -> msgpack.Unpacker:
    """Return a decoder that copies only a piece of the bytes at a time, and not all of them at the start."""
    size = len(data)
    return _unpacker(size, file_like=_Chunks(data), read_size=min(size or 1, _READ_BYTES))


def _unpacker(size: int, **options: Any) -> msgpack.Unpacker:
    """Return a decoder whose lengths go up to that many bytes."""
    most = size or 1
    return msgpack.Unpacker(
        raw=False,
        strict_map_key=False,
        max_buffer_size=most,
        max_str_len=most,
        max_bin_len=most,
        max_array_len=most,
        max_map_len=most,
        max_ext_len=most,
        **options,
    )


def _is_scalar(first: int) -> bool:
    """Whether a value that begins with this byte is a scalar (msgpack specification, section "Formats")."""
    if first < 0xC0:
        return first < 0x80 or first >= 0xA0  # not fixmap, not fixarray
    return not (0xC7 <= first <= 0xC9 or 0xD4 <= first <= 0xD8 or 0xDC <= first <= 0xDF)  # ext, fixext, array, map


def _holds_one_scalar(data: bytes | memoryview) -> bool:
    """Whether the value is an array of one scalar, such as a large binary: then no header can declare much."""
    return data[0] == _ARRAY_OF_1 and _is_scalar(data[1])


def unpack(
    data: bytes | memoryview,
    *,
    strict_map_key: bool = False,
    ext_hook: Callable[[int, bytes], object] = msgpack.ExtType,
) -> Any:
    """Decode one value that takes all of the bytes.

    Raises:
        UNPACK_ERRORS: if the bytes are anything else.
    """
    if len(data) > SMALL_BYTES and not _holds_one_scalar(data):
        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            raise ValueError("Unpack failed: incomplete input") from None
    return msgpack.unpackb(data, raw=False, strict_map_key=strict_map_key, ext_hook=ext_hook)
