"""Decodes the arguments of an event, the third element of its array.

The broker passes the arguments of a prediction on as raw bytes. It decodes only those of its own procedures; a worker
decodes those of its predictions.
"""

from collections.abc import Iterator
from typing import Any

from cluster.wire.unpacking import UNPACK_ERRORS, BoundedUnpacker, frugal_unpacker, unpack

MAX_SLOTS = 1 << 31
"""Largest number of slots that one `_zpc_more` announces; stock clients announce 100."""


class BadArgumentsError(Exception):
    """Arguments that cannot be decoded; the text names the cause."""


def encode_array_header(length: int) -> bytes:
    """Encode the header of an array of up to 15 elements, one byte; empty if the array is longer."""
    return bytes([0x90 | length]) if length < 16 else b""


def argument_count(payload: bytes, args_at: int) -> int | None:
    """Return how many arguments an event declares; None if they are not an array, or more than its bytes can hold."""
    first = payload[args_at] if args_at < len(payload) else 0xC1
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    width = {0xDC: 2, 0xDD: 4}.get(first)
    if width is None:
        return None
    count = int.from_bytes(payload[args_at + 1 : args_at + 1 + width], "big")
    return count if count <= len(payload) - args_at - 1 - width else None


def read_arguments(payload: bytes, args_at: int) -> list[Any]:
    """Decode the arguments of an event.

    Raises:
        BadArgumentsError: if they cannot be decoded; the text may be sent to the caller.
    """
    try:
        arguments = unpack(memoryview(payload)[args_at:])
    except UNPACK_ERRORS as error:
        raise BadArgumentsError(f"the arguments cannot be read as msgpack: {_reason(error)}") from error
    if not isinstance(arguments, list):
        raise BadArgumentsError(f"the arguments must be an array, not {type(arguments).__name__}")
    return arguments


class Batch:
    """Some rows of an event in one list.

    Attributes:
        rows: the decoded rows. Whoever gets the list may change it and the rows.
    """

    __slots__ = ("_count", "_encoded", "rows")

    def __init__(self, rows: list[Any], encoded: memoryview) -> None:
        self.rows = rows
        self._count = len(rows)
        self._encoded = encoded

    def decode_again(self) -> list[Any]:
        """Return the rows as they were sent, whatever has happened to `rows`."""
        unpacker = BoundedUnpacker(self._encoded).unpacker
        return [unpacker.unpack() for _ in range(self._count)]


def read_batches(payload: bytes, args_at: int, size: int) -> Iterator[Batch]:
    """Decode the elements of the only argument of an event, an array, in batches.

    Args:
        payload: the event.
        args_at: where its arguments begin.
        size: rows of a batch; the last one may have fewer.

    Raises:
        BadArgumentsError: before the first batch, if the arguments have another form; at a batch, if it holds text that
            is not UTF-8. The text may be sent to the caller.
    """
    try:
        arguments = memoryview(payload)[args_at:]
        count, first_at = _check_rows(arguments)
        encoded = arguments[first_at:]
        unpacker = frugal_unpacker(encoded)  # a stream keeps its arguments for long, so it should keep them once
        begin = 0
        for done in range(0, count, size):
            rows = [unpacker.unpack() for _ in range(min(size, count - done))]
            end = unpacker.tell()
            yield Batch(rows, encoded[begin:end])
            begin = end
    except UNPACK_ERRORS as error:
        raise BadArgumentsError(f"the rows cannot be read as msgpack: {_reason(error)}") from error


def _check_rows(arguments: memoryview) -> tuple[int, int]:
    """Return how many rows the only argument has, and where the first one begins."""
    unpacker = BoundedUnpacker(arguments).unpacker
    count = unpacker.read_array_header()
    if count != 1:
        raise BadArgumentsError(f"1 argument is taken, {count} given")
    try:
        rows, first_at = unpacker.read_array_header(), unpacker.tell()
    except ValueError as error:
        raise BadArgumentsError("the argument should be a list of rows") from error
    whole = BoundedUnpacker(arguments).unpacker
    whole.skip()  # all rows at once, because a large list has a million
    if whole.tell() != len(arguments):
        raise BadArgumentsError("there are bytes after the arguments")
    return rows, first_at


def read_slots(payload: bytes, args_at: int) -> int | None:
    """Decode the slots that a `_zpc_more` announces, at most `MAX_SLOTS`; None if they are not a number from 0 up."""
    try:
        arguments = read_arguments(payload, args_at)
    except BadArgumentsError:
        return None
    if not arguments or type(arguments[0]) is not int or arguments[0] < 0:
        return None
    return min(arguments[0], MAX_SLOTS)


def _reason(error: Exception) -> str:
    text = str(error)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
