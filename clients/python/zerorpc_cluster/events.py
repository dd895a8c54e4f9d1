"""Encodes and decodes ZeroRPC events: the msgpack array `[header, name, arguments]`.

Source: zerorpc-python, doc/protocol.md. Keeps no state.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

ID_BYTES = 32

OK = "OK"
ERR = "ERR"
STREAM = "STREAM"
STREAM_DONE = "STREAM_DONE"
HEARTBEAT = "_zpc_hb"
MORE = "_zpc_more"
CANCEL = "_zpc_cancel"

OWN_KEYS = frozenset(("message_id", "response_to", "v"))
"""Keys of the header that belong to the protocol."""

# The broker recognises the calls of stock clients by their first bytes. These are the same bytes.
_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_VERSION = b"\xa1v\x03"


class BadEventError(Exception):
    """The server sent bytes that are not an event for a client."""


class Answer(NamedTuple):
    """An event of the server.

    Attributes:
        call: the id of the call that it belongs to.
        name: the name of the event.
        arguments: its arguments.
    """

    call: bytes
    name: str
    arguments: Any


def encode_body(procedure: str, arguments: tuple[Any, ...]) -> bytes:
    """Encode the name and the arguments of a first event.

    Raises:
        TypeError: if msgpack cannot encode an argument.
        ValueError: if an argument is too large or nested too deeply for msgpack.
    """
    try:
        body: bytes = msgpack.packb(procedure) + msgpack.packb(arguments)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return body


def encode_call(call: bytes, header: Mapping[str, Any] | None, body: bytes) -> bytes:
    """Encode the first event of a call.

    Args:
        call: its id, `ID_BYTES` long.
        header: further keys of the header.
        body: name and arguments.

    Raises:
        TypeError: if msgpack cannot encode the header.
        ValueError: if the header has a key of the protocol.
    """
    if not header:
        return b"".join((_HEAD, call, _VERSION, body))
    if not OWN_KEYS.isdisjoint(header):
        raise ValueError(f"the header has {sorted(OWN_KEYS & header.keys())}, which belong to the protocol")
    return b"".join((b"\x93", msgpack.packb({"message_id": call, "v": 3, **header}), body))


def encode_later(own: bytes, call: bytes, name: str, argument: Any) -> bytes:
    """Encode a later event of a call: a heartbeat, slots, or its end.

    Args:
        own: the id of this event.
        call: the id of the call.
        name: the name of the event.
        argument: its arguments. A heartbeat has 0 in their place, as that of a stock client has.
    """
    packed: bytes = msgpack.packb([{"message_id": own, "v": 3, "response_to": call}, name, argument])
    return packed


def decode(event: bytes) -> Answer:
    """Decode an event of the server.

    Raises:
        BadEventError: if it is not an event that belongs to a call.
    """
    try:
        header, name, arguments = msgpack.unpackb(event, strict_map_key=False)
        call = header["response_to"]
    except Exception as error:  # msgpack has a dozen of its own, and passes on those of Python
        raise BadEventError(f"the server sent an event that cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(call, bytes) or not isinstance(name, str):
        raise BadEventError(f"the server sent an event named {name!r} for the call {call!r}")
    return Answer(call, name, arguments)


def decode_error(arguments: Any) -> tuple[str, str, str | None]:
    """Return name, text and traceback of an ERR. A server of version 1 sends one string."""
    parts = [part if isinstance(part, str) else None for part in arguments] if isinstance(arguments, list) else []
    if len(parts) == 1:
        return "RemoteError", parts[0] or "", None
    name, text, traceback = (*parts, None, None, None)[:3]
    return name or "RemoteError", text or "", traceback
