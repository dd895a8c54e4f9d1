"""Events to and from bytes, hostile ones among them."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.routing import Core
from cluster import events
from cluster.events import BadFrameError, read_event

ID = b"0123456789abcdef0123456789abcdef"


def packed(header: object, name: object = "p", args: object = ()) -> bytes:
    event: bytes = msgpack.packb([header, name, args])
    return event


def test_the_short_way_and_the_long_way_read_the_same() -> None:
    short = packed({"message_id": ID, "v": 3}, "iris_model_predict", [1])
    long = packed({"v": 3, "message_id": ID}, "iris_model_predict", [1])
    one, other = read_event(short), read_event(long)
    for attribute in ("message_id", "response_to", "version", "name", "args_at"):
        assert getattr(one, attribute) == getattr(other, attribute)
    assert short[one.args_at :] == msgpack.packb([1])


def test_a_long_name_and_an_empty_one_are_read() -> None:
    for name in ("", "n" * 31, "n" * 32, "n" * 300):
        event = read_event(packed({"message_id": ID, "v": 3}, name))
        assert event.name == name


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "event"),
        (b"\xc1", "event"),
        (b"random bytes", "event"),
        (msgpack.packb(7), "event"),
        (msgpack.packb(None), "event"),
        (msgpack.packb([{"message_id": ID}, "p"]), "event"),
        (packed("header"), "header"),
        (packed(None), "header"),
        (b"\x93\x81\x90\x01\xa1p\x90", "header"),
        (b"\x93" + b"\x91" * 3000, "header"),
        (packed({"v": 3}), "message_id"),
        (packed({"message_id": [1], "v": 3}), "message_id"),
        (packed({"message_id": None, "v": 3}), "message_id"),
        (packed({"message_id": b"x" * 1000, "v": 3}), "message_id"),
        (packed({"message_id": b"x" * 1_000_000, "v": 3}), "header"),
        (packed({"message_id": ID, "v": "3"}), "version"),
        (packed({"message_id": ID, "v": True}), "version"),
        (packed({"message_id": ID, "v": 3, "response_to": [1]}), "message_id"),
        (packed({"message_id": ID, "v": 3})[:20], "header"),
        (packed({"message_id": ID, "v": 3})[:-2], "truncated"),
        (packed({"message_id": ID, "v": 3})[:-1], "truncated"),
        (b"\x93" + msgpack.packb({"message_id": ID}) + b"\xc1\x90", "name"),
    ],
)
def test_what_cannot_be_answered_is_a_bad_frame(payload: bytes, reason: str) -> None:
    with pytest.raises(BadFrameError) as raised:
        read_event(payload)
    assert raised.value.reason == reason


def test_a_name_that_is_no_string_is_told_apart() -> None:
    names: list[Any] = [[1], 5, None, b"bytes", {}]
    for name in names:
        assert read_event(packed({"message_id": ID, "v": 3}, name)).name is None


@pytest.mark.parametrize(
    ("args", "count"),
    [(b"\x90", 0), (b"\x91\x01", 1), (b"\xdc\x00\x02\x01\x01", 2), (b"\xdd\x00\x00\x00\x01\x01", 1), (b"\x05", None)],
)
def test_arguments_are_counted_without_reading_them(args: bytes, count: int | None) -> None:
    assert events.argument_count(args, 0) == count


@pytest.mark.parametrize("args", [b"\xdd\x05\xf5\xe1\x00", b"\xdc\xff\xff\x01", b"", b"\xdc", b"\xc1"])
def test_more_arguments_than_bytes_is_none(args: bytes) -> None:
    assert events.argument_count(args, 0) is None


@pytest.mark.parametrize(
    "args",
    [b"\x91\xc1", b"\x91" * 2000 + b"\x90", b"\x80" * 1000, b"\x91\xa2\xff\xff", b"\x91\xdd\x05\xf5\xe1\x00", b"\x05"],
)
def test_arguments_that_cannot_be_read_are_told_in_a_sentence(args: bytes) -> None:
    with pytest.raises(events.BadArgumentsError) as raised:
        events.read_arguments(args, 0)
    assert 10 < len(str(raised.value)) < 400


@given(st.binary(max_size=200))
def test_no_bytes_confuse_the_reader(payload: bytes) -> None:
    try:
        event = read_event(payload)
    except BadFrameError:
        return
    assert 0 < event.args_at < len(payload)


_json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)
_headers = st.fixed_dictionaries(
    {}, optional={"message_id": _json_like, "v": _json_like | st.integers(0, 4), "response_to": _json_like}
)
_frames = st.binary(max_size=80) | st.builds(
    lambda event, cut: bytes(msgpack.packb(event, unicode_errors="surrogatepass"))[: cut or None],
    st.tuples(
        _headers, _json_like | st.sampled_from(["get_models", "_zerorpc_help", "_zpc_hb", "_zpc_more"]), _json_like
    ),
    st.integers(-3, 0),
)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.lists(_frames, max_size=3)), max_size=10))
def test_no_frames_of_a_client_make_the_core_raise(messages: list[tuple[bytes, list[bytes]]]) -> None:
    core = Core(max_message_bytes=100_000, no_worker_grace_s=1.0)
    for client, frames in messages:
        core.client_message(client, frames, 0.0)
        core.worker_message(client, frames, 0.0)
    to_clients, _ = core.take_sends(0.0)
    for _, (delimiter, payload) in to_clients:
        assert delimiter == b""
        header, name, _ = msgpack.unpackb(payload)
        assert header["response_to"] is not None
        assert name in ("OK", "ERR")
