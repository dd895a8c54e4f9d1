"""The events between the broker and stock servers, byte by byte."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import events, server_events
from cluster.wire.decodable import CHECKED_BYTES, objection
from cluster.wire.events import BadFrameError, read_event
from cluster.wire.server_events import ConversationIds, read_server_event

IDS = ConversationIds(b"\x0a\x0b\x0c\x0d")
NUMBER = (77).to_bytes(8, "big")
OWN_ID = b"\x00" * 7 + b"\x09"
PLAIN_ID = b"0123456789abcdef" * 2

context = st.dictionaries(st.text(max_size=20), st.text(max_size=20) | st.integers(0, 2**32), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=10) | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def answer(name: Any = "OK", args: Any = (3,), v: int = 3, **more: Any) -> bytes:
    header = {"message_id": PLAIN_ID, "v": v, "response_to": msgpack.unpackb(IDS.encode(NUMBER)), **more}
    packed: bytes = msgpack.packb([header, name, args])
    return packed


def test_ids_are_texts_that_lead_back_to_the_number() -> None:
    packed = IDS.encode(NUMBER, 1)
    assert msgpack.unpackb(packed) == "0a0b0c0d1000000000000004d"
    assert IDS.decode(packed) == (NUMBER, 1)
    assert ConversationIds(b"\x0a\x0b\x0c\x0e").decode(packed) is None


@given(st.binary(max_size=30))
def test_no_other_bytes_are_an_id(packed: bytes) -> None:
    assert IDS.decode(packed) is None


@given(context=context, name=st.text(min_size=1, max_size=40), args=st.lists(values, max_size=4))
def test_a_first_event_keeps_name_arguments_and_context(context: dict[str, Any], name: str, args: list[Any]) -> None:
    mine = {**context, "message_id": b"mine", "v": 2}
    payload = server_events.encode_first(msgpack.packb([mine, name, args]), IDS.encode(NUMBER))
    header, got_name, got_args = msgpack.unpackb(payload)
    assert (got_name, got_args) == (name, args)
    kept = {key: value for key, value in context.items() if key not in ("message_id", "v", "response_to", "timeout_s")}
    assert {key: header[key] for key in kept} == kept
    assert (header["message_id"], header["v"]) == ("0a0b0c0d0000000000000004d", 3)


def test_a_plain_first_event_takes_the_short_way_to_the_same_bytes() -> None:
    payload = msgpack.packb([{"message_id": PLAIN_ID, "v": 3}, "add", [1, 2]])
    assert events.plain_call_version_at(payload)
    header, name, args = msgpack.unpackb(server_events.encode_first(payload, IDS.encode(NUMBER)))
    assert (header, name, args) == ({"message_id": "0a0b0c0d0000000000000004d", "v": 3}, "add", [1, 2])


@pytest.mark.parametrize("name", ["OK", "ERR", "STREAM", "STREAM_DONE", "_zpc_hb", "_zpc_more", "add", 5, None])
@pytest.mark.parametrize("more", [{}, {"trace": "x"}])
def test_the_short_way_to_an_answers_head_finds_what_the_long_one_does(name: Any, more: dict[str, Any]) -> None:
    payload = answer(name, **more)
    event = read_server_event(payload)
    slow = read_event(payload)
    assert (event.response_to, event.version, event.name, event.args_at) == (
        slow.response_to,
        slow.version,
        slow.name,
        slow.args_at,
    )
    assert IDS.decode(event.response_to) == (NUMBER, 0)


@given(args=st.lists(values, max_size=3), more=context, version=st.sampled_from([1, 2, 3]))
def test_a_client_gets_what_the_server_said(args: list[Any], more: dict[str, Any], version: int) -> None:
    more = {key: value for key, value in more.items() if key not in ("message_id", "v", "response_to")}
    payload = answer("OK", args, **more)
    event = read_server_event(payload)
    to_client = server_events.for_client(payload, event, msgpack.packb(b"client's"), version, OWN_ID)
    header, name, got = msgpack.unpackb(to_client)
    assert (name, got) == ("OK", args)
    assert header["response_to"] == b"client's"
    if version >= 2:
        assert {key: header[key] for key in more} == more


@given(st.binary(max_size=80), st.integers(0, 200), st.sampled_from([1, 2, 3]))
def test_no_bytes_do_more_than_a_bad_frame(noise: bytes, at: int, version: int) -> None:
    for payload in (noise, answer()[:at] + noise, answer("ERR", ["E", "text", None], v=1)[:at] + noise):
        try:
            event = read_server_event(payload)
            server_events.for_client(payload, event, b"\x01", version, OWN_ID)
        except BadFrameError:
            pass
        objection(payload, min(at, len(payload)))


@pytest.mark.parametrize(
    "payload", [answer()[:-1], answer()[:62], msgpack.packb([{"message_id": b"1", "v": 3}, "OK", []])]
)
def test_what_answers_nothing_is_a_bad_frame_or_unreadable(payload: bytes) -> None:
    try:
        event = read_server_event(payload)
    except BadFrameError:
        return
    assert event.name == "OK"
    assert objection(payload, event.args_at)


@pytest.mark.parametrize(
    "value",
    [
        b"\xa2\xff\xff",  # a text that is not UTF-8
        b"\x81\x01\x02",  # a key that is a number
        b"\xc7\x00\x01",  # an error of nothing
        b"\xd4\x0a\x07",  # a regular expression
        b"\xd4\x13\x00",  # half an element of a typed array
        b"\xc7\x02\x0d\xd4\x00",  # a date around something incomplete
        b"\xd4\xff\x00",  # a time stamp of one byte
        b"\x91" * 2000 + b"\xc0",
    ],
)
def test_what_no_server_or_not_every_server_can_decode_is_named(value: bytes) -> None:
    head = b"\x93" + msgpack.packb({"message_id": b"1", "v": 3}) + b"\xa3add"
    assert objection(head + b"\x91" + value, len(head))
    in_header = b"\x93\x82\xaamessage_id\x01\xa1x" + value + b"\xa3add"
    assert objection(in_header + b"\x90", len(in_header))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, b"x" * 300]},
        {b"bytes": 1},
        msgpack.Timestamp(5, 6),
        msgpack.ExtType(0x13, b"1234"),
        msgpack.ExtType(0x0D, msgpack.packb(1.5)),
        msgpack.ExtType(0x0E, msgpack.packb({"name": "Error", "message": "m"})),
        msgpack.ExtType(0x50, b"own"),
    ],
)
def test_what_stock_clients_send_is_passed_on(value: object) -> None:
    head = b"\x93" + msgpack.packb({"message_id": b"1", "v": 3}) + b"\xa3add"
    assert objection(head + msgpack.packb([value]), len(head)) is None


def test_of_a_long_event_only_the_form_is_checked() -> None:
    head = b"\x93" + msgpack.packb({"message_id": b"1", "v": 3}) + b"\xa3add"
    assert objection(head + msgpack.packb([b"x" * CHECKED_BYTES, {1: 2}]), len(head)) is None
    assert objection(head + msgpack.packb([b"x" * CHECKED_BYTES])[:-1], len(head))


@pytest.mark.parametrize("key", [b"\xc4\x0amessage_id", b"\xc4\x0bresponse_to", b"\xc4\x01v"])
def test_a_client_cannot_set_the_brokers_keys_as_bytes(key: bytes) -> None:
    payload = b"\x93\x82" + key + b"\x05\xaamessage_id\x01" + b"\xa3add\x90"
    header, _, _ = msgpack.unpackb(server_events.encode_first(payload, IDS.encode(NUMBER)))
    assert set(header) == {"message_id", "v"}
