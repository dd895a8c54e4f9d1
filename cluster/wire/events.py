"""ZeroRPC events to and from bytes. Knows msgpack and the ZeroRPC protocol; knows no socket and no broker.

An event is the msgpack array ``[header, name, args]`` (zerorpc-python, doc/protocol.md). Only what routing needs is
read: the header and the name. The arguments stay the raw bytes they were, so a hostile argument costs its sender
nothing but an error, and an honest one is copied nowhere.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from cluster.wire.pairs import LARGE_BYTES

MAX_LATER_EVENT_BYTES = 1024
"""Longest later event of a client: a heartbeat or an announcement of slots; stock clients need under 200."""

HEADER_WINDOW_BYTES = 64 * 1024
"""Bytes from the start of an event within which its header must end; stock clients need under 100."""

MAX_MESSAGE_ID_BYTES = 256
"""Longest `message_id`; Python's have 32 bytes, Node's 36."""

MAX_SLOTS = 1 << 31
"""Most free slots that one `_zpc_more` may announce; stock clients announce 100."""

# Nearly every first event comes from a stock Python client and starts with the same bytes:
# array of 3, map of 2, "message_id", bin of 32 bytes, ..., "v", 3.
_CALL_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_CALL_ID = slice(13, 47)
_CALL_VERSION = slice(47, 50)
_VERSION_3 = b"\xa1v\x03"
_CALL_NAME_AT = 50

_LONG_STRS = frozenset((0xDA, 0xDB))  # str 16 and str 32

_EMPTY_HEADER = b"\x93\x80"
_OK_HEAD = _EMPTY_HEADER + b"\xa2OK"
_REPLY_HEAD = b"\x93\x83\xabresponse_to"
_REPLY_VERSION = b"\xa1v\x03\xaamessage_id\xc4\x08"
_OWN_HEADER_KEYS = ("message_id", "response_to", "v")


TIMEOUT_KEY = "timeout_s"
"""Header key with which a client says how long it wants to wait, in seconds (a context hook of zerorpc sets it)."""

ZPC_HEARTBEAT = "_zpc_hb"
ZPC_MORE = "_zpc_more"
OK = "OK"
ERR = "ERR"
STREAM = "STREAM"
STREAM_DONE = "STREAM_DONE"


class BadFrameError(Exception):
    """Bytes that are no ZeroRPC event that could be answered; `reason` is a label of few values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadArgumentsError(Exception):
    """Arguments that cannot be read; the text says why."""


class ClientEvent:
    """The readable head of an event.

    Attributes:
        message_id: the sender's id of this event, as its msgpack bytes, so that type and length are kept.
        response_to: the id of the call it belongs to, as msgpack bytes; None for a first event.
        version: ZeroRPC protocol version, 1 where the header names none.
        name: the procedure, or the name of the event; None if it is no string.
        timeout_s: how long its sender wants to wait for the answer, in seconds; None if it does not say, and 0 if it
            says what is no such time.
        args_at: where the arguments start in the event's bytes.
    """

    __slots__ = ("args_at", "message_id", "name", "response_to", "timeout_s", "version")

    def __init__(
        self,
        message_id: bytes,
        response_to: bytes | None,
        version: int,
        name: str | None,
        args_at: int,
        timeout_s: float | None = None,
    ) -> None:
        self.message_id = message_id
        self.response_to = response_to
        self.version = version
        self.name = name
        self.args_at = args_at
        self.timeout_s = timeout_s


def read_event(payload: bytes) -> ClientEvent:
    """Read the head of an event.

    Raises:
        BadFrameError: if there is no `message_id` that an answer could name, or no event at all.
    """
    if payload.startswith(_CALL_HEAD) and payload[_CALL_VERSION] == _VERSION_3 and len(payload) > _CALL_NAME_AT:
        length = payload[_CALL_NAME_AT] ^ 0xA0  # a fixstr's length; any other type gives 32 or more
        end = _CALL_NAME_AT + 1 + length
        if length < 32 and end < len(payload):
            name = payload[_CALL_NAME_AT + 1 : end].decode("utf-8", "replace")
            return ClientEvent(payload[_CALL_ID], None, 3, name, end)
    return _read_any_event(payload)


def _read_any_event(payload: bytes) -> ClientEvent:
    window = memoryview(payload)[:HEADER_WINDOW_BYTES]
    unpacker = _bounded_unpacker(window, unicode_errors="surrogateescape")
    try:
        if unpacker.read_array_header() != 3:
            raise BadFrameError("event")
    except (ValueError, msgpack.UnpackException):
        raise BadFrameError("event") from None
    try:
        header = unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise BadFrameError("header") from None
    if not isinstance(header, dict):
        raise BadFrameError("header")
    if "message_id" not in header:
        raise BadFrameError("message_id")
    message_id = _pack_id(header["message_id"])
    response_to = header.get("response_to")
    response_to_id = None if response_to is None else _pack_id(response_to)
    version = header.get("v", 1)
    if type(version) is not int or not 0 <= version <= 255:
        raise BadFrameError("version")
    name_at = unpacker.tell()
    try:
        name = unpacker.unpack()
    except msgpack.OutOfData:
        if len(payload) <= HEADER_WINDOW_BYTES:
            raise BadFrameError("truncated") from None
        # Cut off by the window, not by its sender. No procedure has a name that long, so its start will do.
        name = (
            payload[name_at + 5 : name_at + 85].decode("utf-8", "replace") if payload[name_at] in _LONG_STRS else None
        )
        return ClientEvent(message_id, response_to_id, version, name, len(payload))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise BadFrameError("name") from None
    args_at = unpacker.tell()
    if args_at >= len(payload):
        raise BadFrameError("truncated")
    timeout_s = _timeout_s(header[TIMEOUT_KEY]) if TIMEOUT_KEY in header else None
    return ClientEvent(message_id, response_to_id, version, name if isinstance(name, str) else None, args_at, timeout_s)


def _bounded_unpacker(part: memoryview, unicode_errors: str = "strict") -> msgpack.Unpacker:
    """An unpacker of those bytes. Its limits are given, or a declared length beyond them would be believed."""
    size = len(part) or 1
    unpacker = msgpack.Unpacker(
        raw=False,
        strict_map_key=False,
        unicode_errors=unicode_errors,
        max_buffer_size=size,
        max_str_len=size,
        max_bin_len=size,
        max_array_len=size,
        max_map_len=size,
        max_ext_len=size,
    )
    unpacker.feed(part)
    return unpacker


def _timeout_s(value: object) -> float:
    is_time = type(value) in (int, float) and 0 < value < float("inf")  # type: ignore[operator]
    return float(value) if is_time else 0.0  # type: ignore[arg-type]


def _pack_id(value: object) -> bytes:
    if type(value) not in (bytes, str, int):
        raise BadFrameError("message_id")
    try:
        packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    except (OverflowError, UnicodeEncodeError):
        raise BadFrameError("message_id") from None
    if len(packed) > MAX_MESSAGE_ID_BYTES:
        raise BadFrameError("message_id")
    return packed


def encode_array_header(length: int) -> bytes:
    """The first byte of an array of that length, as msgpack writes it; none if it is longer than 15."""
    return bytes([0x90 | length]) if length < 16 else b""


def argument_count(payload: bytes, args_at: int) -> int | None:
    """How many arguments an event declares; None if they are no array, or more than its bytes could hold."""
    first = payload[args_at] if args_at < len(payload) else 0xC1
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    width = {0xDC: 2, 0xDD: 4}.get(first)
    if width is None:
        return None
    count = int.from_bytes(payload[args_at + 1 : args_at + 1 + width], "big")
    return count if count <= len(payload) - args_at - 1 - width else None


def read_arguments(payload: bytes, args_at: int) -> list[Any]:
    """Unpack the arguments of an event.

    Raises:
        BadArgumentsError: whatever is wrong with them: the text is fit for the caller.
    """
    try:
        arguments = msgpack.unpackb(memoryview(payload)[args_at:], raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadArgumentsError(f"the arguments cannot be read as msgpack: {_reason(error)}") from error
    if not isinstance(arguments, list):
        raise BadArgumentsError(f"the arguments must be an array, not {type(arguments).__name__}")
    return arguments


def read_rows(payload: bytes, args_at: int) -> Iterator[Any]:
    """The elements of an event's only argument, an array, each unpacked when it is asked for.

    Raises:
        BadArgumentsError: before the first element, if the arguments are anything else; at an element, if it has text
            that is none. The text is fit for the caller.
    """
    arguments = memoryview(payload)[args_at:]
    try:
        unpacker, count = _rows(arguments)
        for _ in range(count):
            unpacker.skip()
        if unpacker.tell() != len(arguments):
            raise BadArgumentsError("something follows the arguments")
        unpacker, count = _rows(arguments)
        del payload, arguments  # the unpacker has a copy, and whoever takes the rows may take long
        for _ in range(count):
            yield unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadArgumentsError(f"the rows cannot be read as msgpack: {_reason(error)}") from error


def _rows(arguments: memoryview) -> tuple[msgpack.Unpacker, int]:
    unpacker = _bounded_unpacker(arguments)
    count = unpacker.read_array_header()
    if count != 1:
        raise BadArgumentsError(f"1 argument is taken, {count} given")
    try:
        return unpacker, unpacker.read_array_header()
    except ValueError as error:
        raise BadArgumentsError("the argument should be a list of rows") from error


def _reason(error: Exception) -> str:
    text = str(error)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def read_slots(payload: bytes, args_at: int) -> int | None:
    """The number of free slots that a `_zpc_more` announces, clamped to `MAX_SLOTS`; None if it is no sane number."""
    try:
        arguments = read_arguments(payload, args_at)
    except BadArgumentsError:
        return None
    if not arguments or type(arguments[0]) is not int or arguments[0] < 0:
        return None
    return min(arguments[0], MAX_SLOTS)


def pack(value: object) -> bytes:
    """Pack a value as msgpack, text as str and bytes as bin."""
    packed: bytes = msgpack.packb(value)
    return packed


def _pack_body(name: str, args: object) -> bytes:
    return pack(name) + pack(args)


def encode_error_body(version: int, name: str, text: str) -> bytes:
    """The name and arguments of an ERR for a client of that protocol version.

    Version 1 carries one string (`ServerBase._print_traceback`), later ones `[name, text, traceback]`; a traceback of
    nil makes `str(RemoteError)` read "name: text".
    """
    return _pack_body(ERR, [f"{name}({text!r})"] if version < 2 else [name, text, None])


class Packed:
    """A value as msgpack bytes, for where the same one is sent again and again."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


def encode_ok_body(value: object) -> bytes:
    """The name and arguments of an OK."""
    return pack(OK) + b"\x91" + (value.value if isinstance(value, Packed) else pack(value))


def encode_heartbeat_body() -> bytes:
    """The name and arguments of a heartbeat; the 0 is for clients of version 2 (`HeartBeatOnChannel`)."""
    return _pack_body(ZPC_HEARTBEAT, [0])


def encode_reply(message_id: bytes, own_id: bytes, body: bytes) -> bytes:
    """An event for a client, with that name and arguments.

    Args:
        message_id: of the call, the client's own, as msgpack bytes.
        own_id: 8 bytes, sent as the `message_id` of the reply; clients only look whether there is one.
        body: name and arguments.
    """
    return b"".join((_REPLY_HEAD, message_id, _REPLY_VERSION, own_id, body))


def readdress(event: bytes, message_id: bytes, version: int, own_id: bytes) -> bytes:
    """A worker's event for a client; what its header holds beside the address is kept (zerorpc's context hooks).

    Args:
        event: as the worker sent it.
        message_id: of the call, the client's own, as msgpack bytes.
        version: the client's protocol version.
        own_id: 8 bytes, sent as the `message_id` of the reply.

    Raises:
        BadFrameError: if the event cannot be read.
    """
    if version < 2:
        return _for_version_1(event, message_id, own_id)
    if event[:2] == _EMPTY_HEADER:
        body = event[2:] if len(event) < LARGE_BYTES else memoryview(event)[2:]
        return b"".join((_REPLY_HEAD, message_id, _REPLY_VERSION, own_id, body))
    header, body_at = _read_header(event)
    extra = {key: value for key, value in header.items() if key not in _OWN_HEADER_KEYS}
    array_head, map_head = b"\x93", msgpack.Packer().pack_map_header(3 + len(extra))
    fields = b"".join(pack(key) + pack(value) for key, value in extra.items())
    address = _REPLY_HEAD[2:] + message_id + _REPLY_VERSION + own_id
    return b"".join((array_head, map_head, address, fields, event[body_at:]))


def _for_version_1(event: bytes, message_id: bytes, own_id: bytes) -> bytes:
    _, body_at = _read_header(event)
    if event_name(event) != ERR:
        return encode_reply(message_id, own_id, event[body_at:])
    try:
        arguments = read_arguments(event, body_at + 1 + len(ERR))
    except BadArgumentsError:
        raise BadFrameError("arguments") from None
    name, text = (part if isinstance(part, str) else "" for part in (*arguments, "", "")[:2])
    return encode_reply(message_id, own_id, encode_error_body(1, name, text))


def _read_header(event: bytes) -> tuple[dict[Any, Any], int]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=len(event) or 1)
    unpacker.feed(event)
    try:
        if unpacker.read_array_header() != 3:
            raise BadFrameError("event")
        header = unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise BadFrameError("header") from None
    if not isinstance(header, dict):
        raise BadFrameError("header")
    return header, unpacker.tell()


def event_name(event: bytes) -> str | None:
    """The name of a worker's event; None if it cannot be read."""
    if event[:5] == _OK_HEAD and len(event) > 5:
        return OK
    name_at = 2
    if event[:2] != _EMPTY_HEADER:
        try:
            _, name_at = _read_header(event)
        except BadFrameError:
            return None
    length = event[name_at] ^ 0xA0 if name_at < len(event) else 32
    end = name_at + 1 + length
    if length > 31 or end >= len(event):  # no short string, or cut off before the arguments
        return None
    return event[name_at + 1 : end].decode("ascii", "replace")


def encode_worker_error(name: str, text: str, traceback: str | None = None) -> bytes:
    """An ERR as a worker sends it."""
    return encode_worker_event(ERR, [name, text, traceback])


def encode_worker_event(name: str, args: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """An event as a worker sends it: the header is empty, the broker addresses it.

    Args:
        name: of the event.
        args: its arguments.
        default: makes a plain value of one that msgpack cannot pack.
    """
    packed: bytes = msgpack.packb(args, default=default)
    return _EMPTY_HEADER + pack(name) + packed
