"""The events between the broker and a stock ZeroRPC server, to which the broker is a client.

Bytes in, values out. An event is the msgpack array ``[header, name, args]`` (zerorpc-python, doc/protocol.md). The
broker passes names, arguments and context on as the bytes they were, and puts its own ids into the header.
"""

from cluster.wire import events
from cluster.wire.events import BadFrameError
from cluster.wire.protocol import NUMBER_BYTES

INSTANCE_BYTES = 4
"""Length of what makes the ids of one broker different from those of all others, in bytes."""

_ID_HEAD = b"\xb9"  # str of 25 bytes
_ID_BYTES = 1 + 2 * INSTANCE_BYTES + 1 + 2 * NUMBER_BYTES

_DIGIT_0 = 0x30

_MESSAGE_ID = b"\xaamessage_id"
_RESPONSE_TO = b"\xabresponse_to"
_VERSION_3 = b"\xa1v\x03"

# Most answers come from stock Python servers and start with the same bytes: array of 3, map of 3, "message_id", bin of
# 32 bytes, ..., "v", 3, "response_to", str of 25 bytes, the instance.
_ANSWER_HEAD = b"\x93\x83" + _MESSAGE_ID + b"\xc4\x20"
_ANSWER_ADDRESS_AT, _ANSWER_ADDRESS_END = 47, 63  # without the instance
_ADDRESS = _VERSION_3 + _RESPONSE_TO + _ID_HEAD
_ANSWER_ID_AT = 62
_ANSWER_NAME_AT = _ANSWER_ID_AT + _ID_BYTES

_EVENT_NAMES = {
    events.pack(name): name for name in (events.OK, events.ERR, events.STREAM, events.STREAM_DONE, events.ZPC_HEARTBEAT)
}


class ConversationIds:
    """The ids by which servers know the calls of one broker.

    An id is a text, because the server for Node makes a text of it. It begins with the instance of the broker: a server
    may be connected to several brokers, and keeps a conversation for some seconds after its broker has gone. For the
    same reason, it has a digit that tells a second attempt of a call from the first: both may reach the same server,
    over two connections.
    """

    def __init__(self, instance: bytes) -> None:
        """Build.

        Args:
            instance: `INSTANCE_BYTES` bytes that no other broker has.
        """
        self._head = _ID_HEAD + instance.hex().encode()

    def encode(self, number: bytes, attempt: int = 0) -> bytes:
        """Return the id of a call number and an attempt, which is 0 to 9, as msgpack bytes."""
        return b"%b%d%b" % (self._head, attempt, number.hex().encode())

    def decode(self, packed: bytes) -> tuple[bytes, int] | None:
        """Return the call number and the attempt of an id; None if it is none of this broker's."""
        at = len(self._head)
        if len(packed) != _ID_BYTES or not packed.startswith(self._head):
            return None
        try:
            return bytes.fromhex(packed[at + 1 :].decode("ascii")), packed[at] - _DIGIT_0
        except ValueError:
            return None


class ServerEvent:
    """The decoded head of an event of a server.

    Attributes:
        response_to: the id of the conversation that it belongs to, as msgpack bytes.
        version: the server's ZeroRPC protocol version.
        name: the name of the event; None if it is not a string.
        name_at: index of the name if the header has no context; 0 if it may have some.
        args_at: index of the arguments.
    """

    __slots__ = ("args_at", "name", "name_at", "response_to", "version")

    def __init__(self, response_to: bytes, version: int, name: str | None, args_at: int, name_at: int = 0) -> None:
        self.response_to = response_to
        self.version = version
        self.name = name
        self.name_at = name_at
        self.args_at = args_at


def read_server_event(payload: bytes) -> ServerEvent:
    """Decode the head of an event of a server.

    Raises:
        BadFrameError: if the bytes are not an event of a conversation.
    """
    if payload.startswith(_ANSWER_HEAD) and payload[_ANSWER_ADDRESS_AT:_ANSWER_ADDRESS_END] == _ADDRESS:
        length = payload[_ANSWER_NAME_AT] ^ 0xA0 if len(payload) > _ANSWER_NAME_AT else 32
        end = _ANSWER_NAME_AT + 1 + length
        name = _EVENT_NAMES.get(payload[_ANSWER_NAME_AT:end])
        if name is not None and end < len(payload):
            return ServerEvent(payload[_ANSWER_ID_AT:_ANSWER_NAME_AT], 3, name, end, _ANSWER_NAME_AT)
    event = events.read_event(payload)
    if event.response_to is None:
        raise BadFrameError("unexpected_event")
    return ServerEvent(event.response_to, event.version, event.name, event.args_at)


def encode_first(payload: bytes, conversation: bytes) -> bytes:
    """Address a client's first event to a server, and keep the other keys of its header (zerorpc's context hooks).

    The broker speaks version 3 to every server, whatever the client speaks.

    Args:
        payload: the event from the client, of which `read_event` has decoded the head.
        conversation: the id for the server, as msgpack bytes.
    """
    plain_at = events.plain_call_version_at(payload)
    if plain_at:
        return b"".join((b"\x93\x82", _MESSAGE_ID, conversation, memoryview(payload)[plain_at:]))
    extra, fields, name_at = events.scan_header(payload)
    head = events.encode_map_header(2 + extra)
    return b"".join(
        (b"\x93", head, _MESSAGE_ID, conversation, _VERSION_3, fields, memoryview(payload)[name_at:]),
    )


def encode_question(conversation: bytes, name: str, args: object) -> bytes:
    """Encode a first event of the broker's own."""
    return b"".join((b"\x93\x82", _MESSAGE_ID, conversation, _VERSION_3, events.pack(name), events.pack(args)))


def encode_later(conversation: bytes, own_id: bytes, name: str, args: object) -> bytes:
    """Encode a heartbeat or a `_zpc_more` for a server.

    Args:
        conversation: the id of the conversation, as msgpack bytes.
        own_id: the `message_id` of this event, 8 bytes; servers only check that there is one.
        name: the name of the event.
        args: its arguments.
    """
    head = b"\x93\x83" + _RESPONSE_TO + conversation + _VERSION_3 + _MESSAGE_ID + b"\xc4\x08"
    return b"".join((head, own_id, events.pack(name), events.pack(args)))


def encode_slots(conversation: bytes, own_id: bytes, slots: int, version: int) -> bytes:
    """Encode what tells a server that its client can take more events.

    Before version 3, heartbeats did that (zerorpc-python, `HeartBeatOnChannel`).
    """
    name = events.ZPC_MORE if version >= 3 else events.ZPC_HEARTBEAT
    return encode_later(conversation, own_id, name, [slots])


def for_client(payload: bytes, event: ServerEvent, message_id: bytes, version: int, own_id: bytes) -> bytes:
    """Address a server's event to a client, and keep the other keys of its header.

    Args:
        payload: the event from the server.
        event: its head.
        message_id: the client's id of the call, as msgpack bytes.
        version: the client's protocol version.
        own_id: the `message_id` of the new event, 8 bytes.

    Raises:
        BadFrameError: if the event cannot be decoded.
    """
    if event.name == events.ERR and event.version < 2:
        # Version 1 has one text (`ServerBase._print_traceback`); clients call such an error RemoteError.
        text = events.read_error_text(payload, event.args_at)
        args = ["RemoteError", text, None] if version >= 2 else [text]
        return events.encode_reply(message_id, own_id, events.pack(events.ERR) + events.pack(args))
    if event.name_at and version >= 2:
        return events.encode_reply(message_id, own_id, memoryview(payload)[event.name_at :])
    return events.readdress(payload, message_id, version, own_id)
