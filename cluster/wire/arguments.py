"""Decodes the arguments of an event, the third element of its array.

The broker passes the arguments of a prediction on as raw bytes. It decodes only those of its own procedures; a worker
decodes those of its predictions.
"""

from collections.abc import Iterator
from typing import Any

from cluster.wire.unpacking import UNPACK_ERRORS, BoundedUnpacker, unpack

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


def read_rows(payload: bytes, args_at: int) -> Iterator[Any]:
    """Decode the elements of the only argument of an event, an array, one at a time.

    Raises:
        BadArgumentsError: before the first element, if the arguments have another form; at an element, if it holds
            text that is not UTF-8. The text may be sent to the caller.
    """
    arguments = memoryview(payload)[args_at:]
    try:
        rows, count = _rows(arguments)
        whole = BoundedUnpacker(arguments).unpacker
        whole.skip()  # all rows at once, because a large list has a million
        if whole.tell() != len(arguments):
            raise BadArgumentsError("there are bytes after the arguments")
        unpacker = rows.unpacker
        del payload, arguments, rows, whole  # free the memory: the unpacker has a copy, and the consumer may be slow
        for _ in range(count):
            yield unpacker.unpack()
    except UNPACK_ERRORS as error:
        raise BadArgumentsError(f"the rows cannot be read as msgpack: {_reason(error)}") from error


def _rows(arguments: memoryview) -> tuple[BoundedUnpacker, int]:
    rows = BoundedUnpacker(arguments)
    count = rows.unpacker.read_array_header()
    if count != 1:
        raise BadArgumentsError(f"1 argument is taken, {count} given")
    try:
        return rows, rows.unpacker.read_array_header()
    except ValueError as error:
        raise BadArgumentsError("the argument should be a list of rows") from error


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
