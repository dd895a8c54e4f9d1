"""Encodes and decodes ZeroRPC events. Knows msgpack and the ZeroRPC protocol, but no socket and no broker.

An event is the msgpack array ``[header, name, args]`` (zerorpc-python, doc/protocol.md). The broker decodes only the
header and the name. It passes the arguments on as raw bytes, so it never copies them, and arguments that cannot be
decoded cause an error for their sender only.
"""

from collections.abc import Callable
from typing import Any

import msgpack

from cluster.wire.arguments import BadArgumentsError, read_arguments
from cluster.wire.pairs import LARGE_BYTES
from cluster.wire.unpacking import NOT_A_SCALAR, UNPACK_ERRORS, BoundedUnpacker

MAX_LATER_EVENT_BYTES = 1024
"""Longest heartbeat or `_zpc_more` of a client, in bytes; stock clients need under 200."""

HEADER_WINDOW_BYTES = 64 * 1024
"""Number of bytes from the start of an event in which its header must end; stock clients need under 100."""

MAX_HEADER_KEYS = 64
"""Most keys of a header. Stock clients send two or three; context hooks of zerorpc may add some."""

MAX_MESSAGE_ID_BYTES = 256
"""Longest `message_id`, in bytes; those of Python clients have 32, those of Node clients 36."""

# Nearly all first events come from stock Python clients and start with the same bytes: array of 3, map of 2,
# "message_id", bin of 32 bytes, ..., "v", 3.
_CALL_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_CALL_ID_AT, _CALL_VERSION_AT = 13, 47
_VERSION_3 = b"\xa1v\x03"
_CALL_NAME_AT = 50

_LONG_STRS = frozenset((0xDA, 0xDB))  # str 16 and str 32

_EMPTY_HEADER = b"\x93\x80"
_OK_HEAD = _EMPTY_HEADER + b"\xa2OK"
_REPLY_HEAD = b"\x93\x83\xabresponse_to"
_REPLY_VERSION = b"\xa1v\x03\xaamessage_id\xc4\x08"
_OWN_HEADER_KEYS = frozenset(("message_id", "response_to", "v"))

TIMEOUT_KEY = "timeout_s"
"""Header key for the time a client wants to wait, in seconds; a context hook of zerorpc can set it."""

_KNOWN_HEADER_KEYS = _OWN_HEADER_KEYS | {TIMEOUT_KEY}

ZPC_HEARTBEAT = "_zpc_hb"
ZPC_MORE = "_zpc_more"
ZPC_CANCEL = "_zpc_cancel"
"""Ends a call that its client does not wait for any more (`clients/python`).

A stock client has no such event: it only stops its heartbeats. A stock server ignores it.
"""
OK = "OK"
ERR = "ERR"
STREAM = "STREAM"
STREAM_DONE = "STREAM_DONE"


class BadFrameError(Exception):
    """Bytes that are not a ZeroRPC event which can be answered; `reason` is one of a few metric labels."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ClientEvent:
    """The decoded head of an event: all except its arguments.

    Attributes:
        message_id: the sender's id of this event, as msgpack bytes, which keeps its type and length.
        response_to: the id of the call that the event belongs to, as msgpack bytes; None for a first event.
        version: the ZeroRPC protocol version; 1 if the header does not name one.
        name: the procedure, or the name of the event; None if it is not a string.
        timeout_s: how long the sender wants to wait for the answer, in seconds; None if the header does not name a
            time, 0 if the value is not a positive number.
        args_at: index of the arguments in the bytes of the event.
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
    """Decode the head of an event.

    Raises:
        BadFrameError: if the bytes are not an event, or have no `message_id` that an answer could name.
    """
    end = _plain_arguments_at(payload)
    if end:
        name = payload[_CALL_NAME_AT + 1 : end].decode("utf-8", "replace")
        return ClientEvent(payload[_CALL_ID_AT:_CALL_VERSION_AT], None, 3, name, end)
    return _read_any_event(payload)


def arguments_at(payload: bytes) -> int:
    """Return where the arguments of an event begin.

    Raises:
        BadFrameError: as in `read_event`.
    """
    return _plain_arguments_at(payload) or _read_any_event(payload).args_at


def _plain_arguments_at(payload: bytes) -> int:
    """Return where the arguments of a plain first event of a Python client begin; 0 if the event is any other."""
    if (
        payload.startswith(_CALL_HEAD)
        and payload[_CALL_VERSION_AT:_CALL_NAME_AT] == _VERSION_3
        and len(payload) > _CALL_NAME_AT
    ):
        length = payload[_CALL_NAME_AT] ^ 0xA0  # length of a fixstr; any other type gives 32 or more
        end = _CALL_NAME_AT + 1 + length
        if length < 32 and end < len(payload):
            return end
    return 0


def plain_call_version_at(payload: bytes) -> int:
    """Return where the version of a plain first event of a Python client begins; 0 if the event is any other.

    Such an event has the header `{"message_id": 32 bytes, "v": 3}`.
    """
    is_plain = payload.startswith(_CALL_HEAD) and payload[_CALL_VERSION_AT:_CALL_NAME_AT] == _VERSION_3
    return _CALL_VERSION_AT if is_plain else 0


def _read_any_event(payload: bytes) -> ClientEvent:
    window = memoryview(payload)[:HEADER_WINDOW_BYTES]
    reader = BoundedUnpacker(window, unicode_errors="surrogateescape")
    try:
        if reader.unpacker.read_array_header() != 3:
            raise BadFrameError("event")
    except UNPACK_ERRORS:
        raise BadFrameError("event") from None
    header = _read_header(reader)
    if "message_id" not in header:
        raise BadFrameError("message_id")
    message_id = _pack_id(header["message_id"])
    response_to = header.get("response_to")
    response_to_id = None if response_to is None else _pack_id(response_to)
    version = header.get("v", 1)
    if type(version) is not int or not 0 <= version <= 255:
        raise BadFrameError("version")
    name_at = reader.unpacker.tell()
    try:
        name = reader.scalar()
    except msgpack.OutOfData:
        if len(payload) <= HEADER_WINDOW_BYTES:
            raise BadFrameError("truncated") from None
        # The window cuts the name off, not the sender. No procedure has a name that long, so its start is enough.
        name = (
            payload[name_at + 5 : name_at + 85].decode("utf-8", "replace") if payload[name_at] in _LONG_STRS else None
        )
        return ClientEvent(message_id, response_to_id, version, name, len(payload))
    except UNPACK_ERRORS:
        raise BadFrameError("name") from None
    args_at = reader.unpacker.tell()
    if args_at >= len(payload):
        raise BadFrameError("truncated")
    timeout_s = _timeout_s(header[TIMEOUT_KEY]) if TIMEOUT_KEY in header else None
    return ClientEvent(message_id, response_to_id, version, name if isinstance(name, str) else None, args_at, timeout_s)


def _read_header(reader: BoundedUnpacker) -> dict[str, Any]:
    """Read the keys of a header that the broker knows, and skip all other values."""
    header: dict[str, Any] = {}
    try:
        for _ in range(_read_header_size(reader)):
            key = _read_header_key(reader)
            if key in _KNOWN_HEADER_KEYS:
                header[key] = reader.scalar()
            else:
                reader.unpacker.skip()
    except UNPACK_ERRORS:
        raise BadFrameError("header") from None
    return header


def _read_header_size(reader: BoundedUnpacker) -> int:
    count: int = reader.unpacker.read_map_header()
    if count > MAX_HEADER_KEYS:
        raise BadFrameError("header")
    return count


def _read_header_key(reader: BoundedUnpacker) -> Any:
    key = reader.scalar()
    if key is NOT_A_SCALAR:
        raise BadFrameError("header")
    return key


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


def encode_map_header(length: int) -> bytes:
    """Encode the header of a map."""
    head: bytes = msgpack.Packer().pack_map_header(length)
    return head


def read_error_text(event: bytes, args_at: int) -> str:
    """Decode the only argument of an ERR of protocol version 1.

    Raises:
        BadFrameError: if it is no text.
    """
    try:
        arguments = read_arguments(event, args_at)
    except BadArgumentsError:
        raise BadFrameError("arguments") from None
    if not arguments or not isinstance(arguments[0], str):
        raise BadFrameError("arguments")
    return arguments[0]


def pack(value: object) -> bytes:
    """Encode a value as msgpack: text as str, bytes as bin."""
    packed: bytes = msgpack.packb(value)
    return packed


def _pack_body(name: str, args: object) -> bytes:
    return pack(name) + pack(args)


def encode_error_body(version: int, name: str, text: str) -> bytes:
    """Encode the name and arguments of an ERR for a client of this protocol version.

    Version 1 has one string (`ServerBase._print_traceback`), later versions have `[name, text, traceback]`. With nil as
    the traceback, `str(RemoteError)` is "name: text".
    """
    return _pack_body(ERR, [f"{name}({text!r})"] if version < 2 else [name, text, None])


class Packed:
    """A value that is already encoded as msgpack, because it is sent often."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


def encode_ok_body(value: object) -> bytes:
    """Encode the name and arguments of an OK."""
    return pack(OK) + b"\x91" + (value.value if isinstance(value, Packed) else pack(value))


def encode_heartbeat_body() -> bytes:
    """Encode the name and arguments of a heartbeat; clients of version 2 expect the 0 (`HeartBeatOnChannel`)."""
    return _pack_body(ZPC_HEARTBEAT, [0])


def encode_reply(message_id: bytes, own_id: bytes, body: bytes | memoryview) -> bytes:
    """Encode an event for a client.

    Args:
        message_id: the client's id of the call, as msgpack bytes.
        own_id: the `message_id` of this event, 8 bytes; clients only check that there is one.
        body: name and arguments.
    """
    return b"".join((_REPLY_HEAD, message_id, _REPLY_VERSION, own_id, body))


def readdress(event: bytes, message_id: bytes, version: int, own_id: bytes) -> bytes:
    """Address a worker's event to a client, and keep the other keys of its header (zerorpc's context hooks).

    Args:
        event: the event from the worker.
        message_id: the client's id of the call, as msgpack bytes.
        version: the client's protocol version.
        own_id: the `message_id` of the new event, 8 bytes.

    Raises:
        BadFrameError: if the event cannot be decoded.
    """
    if version < 2:
        return _readdress_for_version_1(event, message_id, own_id)
    if event[:2] == _EMPTY_HEADER:
        body = event[2:] if len(event) < LARGE_BYTES else memoryview(event)[2:]
        return b"".join((_REPLY_HEAD, message_id, _REPLY_VERSION, own_id, body))
    extra, fields, body_at = scan_header(event)
    map_head = encode_map_header(3 + extra)
    address = _REPLY_HEAD[2:] + message_id + _REPLY_VERSION + own_id
    return b"".join((b"\x93", map_head, address, fields, memoryview(event)[body_at:]))


def _readdress_for_version_1(event: bytes, message_id: bytes, own_id: bytes) -> bytes:
    _, _, body_at = scan_header(event)
    if event_name(event) != ERR:
        return encode_reply(message_id, own_id, event[body_at:])
    try:
        arguments = read_arguments(event, body_at + 1 + len(ERR))
    except BadArgumentsError:
        raise BadFrameError("arguments") from None
    name, text = (part if isinstance(part, str) else "" for part in (*arguments, "", "")[:2])
    return encode_reply(message_id, own_id, encode_error_body(1, name, text))


def scan_header(event: bytes) -> tuple[int, bytes, int]:
    """Return the keys of a header that the broker passes on (how many, and their bytes), and where the header ends.

    Raises:
        BadFrameError: if there is no header.
    """
    window = memoryview(event)[:HEADER_WINDOW_BYTES]
    reader = BoundedUnpacker(window, unicode_errors="surrogateescape")
    unpacker = reader.unpacker
    kept: list[memoryview] = []
    try:
        if unpacker.read_array_header() != 3:
            raise BadFrameError("event")
        for _ in range(_read_header_size(reader)):
            key_at = unpacker.tell()
            key = _read_header_key(reader)
            unpacker.skip()
            # Node's decoder makes texts of keys that are bytes.
            if (key.decode("utf-8", "replace") if isinstance(key, bytes) else key) not in _OWN_HEADER_KEYS:
                kept.append(window[key_at : unpacker.tell()])
    except UNPACK_ERRORS:
        raise BadFrameError("header") from None
    return len(kept), b"".join(kept), unpacker.tell()


def event_name(event: bytes) -> str | None:
    """Decode the name of a worker's event; None if that fails."""
    if event[:5] == _OK_HEAD and len(event) > 5:
        return OK
    name_at = 2
    if event[:2] != _EMPTY_HEADER:
        try:
            _, _, name_at = scan_header(event)
        except BadFrameError:
            return None
    length = event[name_at] ^ 0xA0 if name_at < len(event) else 32
    end = name_at + 1 + length
    if length > 31 or end >= len(event):  # not a short string, or cut off before the arguments
        return None
    return event[name_at + 1 : end].decode("ascii", "replace")


def encode_worker_error(name: str, text: str, traceback: str | None = None) -> bytes:
    """Encode an ERR as a worker sends it."""
    return encode_worker_event(ERR, [name, text, traceback])


def encode_worker_event(name: str, args: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Encode an event as a worker sends it. Its header is empty; the broker addresses it (`readdress`).

    Args:
        name: the name of the event.
        args: its arguments.
        default: converts a value that msgpack cannot encode.
    """
    packed: bytes = msgpack.packb(args, default=default)
    return _EMPTY_HEADER + pack(name) + packed
