"""Events are encoded and decoded; hostile bytes cause only errors."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.state import counters
from cluster.wire import events, protocol
from cluster.wire.arguments import BadArgumentsError, argument_count, read_arguments
from cluster.wire.events import BadFrameError, read_event
from tests.unit.world import World

ID = b"0123456789abcdef0123456789abcdef"


def packed(header: object, name: object = "p", args: object = ()) -> bytes:
    event: bytes = msgpack.packb([header, name, args])
    return event


def test_the_fast_and_the_general_decoder_agree() -> None:
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
def test_an_event_that_cannot_be_answered_is_a_bad_frame(payload: bytes, reason: str) -> None:
    with pytest.raises(BadFrameError) as raised:
        read_event(payload)
    assert raised.value.reason == reason


def test_a_name_that_is_not_a_string_is_none() -> None:
    names: list[Any] = [[1], 5, None, b"bytes", {}]
    for name in names:
        assert read_event(packed({"message_id": ID, "v": 3}, name)).name is None


@pytest.mark.parametrize(
    ("args", "count"),
    [(b"\x90", 0), (b"\x91\x01", 1), (b"\xdc\x00\x02\x01\x01", 2), (b"\xdd\x00\x00\x00\x01\x01", 1), (b"\x05", None)],
)
def test_arguments_are_counted_without_reading_them(args: bytes, count: int | None) -> None:
    assert argument_count(args, 0) == count


@pytest.mark.parametrize("args", [b"\xdd\x05\xf5\xe1\x00", b"\xdc\xff\xff\x01", b"", b"\xdc", b"\xc1"])
def test_a_count_beyond_the_bytes_is_none(args: bytes) -> None:
    assert argument_count(args, 0) is None


@pytest.mark.parametrize(
    "args",
    [b"\x91\xc1", b"\x91" * 2000 + b"\x90", b"\x80" * 1000, b"\x91\xa2\xff\xff", b"\x91\xdd\x05\xf5\xe1\x00", b"\x05"],
)
def test_arguments_that_cannot_be_decoded_are_an_error_with_a_cause(args: bytes) -> None:
    with pytest.raises(BadArgumentsError) as raised:
        read_arguments(args, 0)
    assert 10 < len(str(raised.value)) < 400


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_bad_frame(payload: bytes) -> None:
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


_nested = st.builds(
    lambda byte, depth: byte * depth + b"\x90", st.sampled_from([b"\x91", b"\x81\x01"]), st.integers(0, 1100)
)
_arguments = st.binary(max_size=20) | _nested.map(lambda nested: b"\x91" + nested)
_calls = st.builds(
    lambda call, name, args: (
        b"\x93" + bytes(msgpack.packb({"message_id": call, "v": 3})) + bytes(msgpack.packb(name)) + args
    ),
    st.integers(0, 3),
    st.sampled_from(["m_predict", "get_model_metadata", "_zerorpc_help", "_zerorpc_args", "_zerorpc_inspect"]),
    _arguments,
)
_later = st.builds(
    lambda call, name, args: (
        b"\x93"
        + bytes(msgpack.packb({"message_id": 9, "v": 3, "response_to": call}))
        + bytes(msgpack.packb(name))
        + args
    ),
    st.integers(0, 3),
    st.sampled_from(["_zpc_hb", "_zpc_more", "OK"]),
    _arguments,
)
_answers = st.builds(
    lambda name, args: b"\x93\x80" + bytes(msgpack.packb(name)) + args,
    st.sampled_from(["OK", "ERR", "STREAM", "STREAM_DONE", "_zpc_hb", "O" * 40]),
    _arguments,
)
_steps = st.lists(
    st.tuples(st.just("client"), st.sampled_from([b"a", b"b"]), st.one_of(_frames, _calls, _later))
    | st.tuples(st.just("answer"), st.sampled_from([protocol.REPLY, protocol.REFUSE]), _answers | _frames)
    | st.tuples(st.just("worker"), st.sampled_from([b"w1", b"a"]), _frames)
    | st.tuples(st.just("lost"), st.sampled_from([b"w1", b"a", b"b"]), st.just(b"")),
    max_size=15,
)


@given(_steps)
def test_no_bytes_make_the_core_raise(steps: list[tuple[str, bytes, bytes]]) -> None:
    world = World()
    world.join(b"w1", slots=2)
    given_work: list[bytes] = []
    for what, who, payload in steps:
        if what == "client":
            world.say_bytes(who, payload)
        elif what == "answer" and given_work:
            world.from_worker(b"w1", who, given_work.pop(0), payload)
        elif what == "worker":
            world.from_worker(who, *[payload[i : i + 1] for i in range(len(payload))][:1], payload[1:])
        elif what == "lost":
            world.core.clients.lost(who, counters.UNREACHABLE, world.now_s)
            world.core.workers.lost(who, world.now_s)
        world.pass_time(0.25)
        given_work += [work.number for work in world.work_of(b"w1")]
        pool = world.pool("m")
        assert 0 <= pool.free <= 2 * len(pool.replicas)


# -- the cost of hostile bytes ----------------------------------------------------------------------------------------

ADDRESSED = b"\x93\x82\xaamessage_id\xc4\x20" + ID


def nested_arrays(size: int) -> bytes:
    """Headers of arrays, one in the other; each declares as many elements as there are bytes."""
    return b"\xdd" + (size - 5).to_bytes(4, "big") + (b"\xdc" + min(size, 0xFFFF).to_bytes(2, "big")) * 1000


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "nested arrays as a value of the header": lambda size: ADDRESSED + b"\xa1x" + nested_arrays(size),
    "nested arrays as a key of the header": lambda size: ADDRESSED + nested_arrays(size),
    "nested arrays as the id": lambda size: b"\x93\x82\xaamessage_id" + nested_arrays(size),
    "nested arrays as the header": lambda size: b"\x93" + nested_arrays(size),
    "nested arrays as the name": lambda size: b"\x93\x81" + ADDRESSED[2:] + nested_arrays(size),
    "a header of many keys": lambda size: b"\x93\xde\xff\xff" + b"\x01" * size,
    "many headers of empty maps": lambda size: b"\x93\x8f" + b"\x80" * size,
}


@pytest.mark.parametrize("size", [3_000, 60_000])
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_event_costs_no_more_than_its_bytes(hostile: Callable[[int], bytes], size: int) -> None:
    def read(payload: bytes) -> None:
        with suppress(BadFrameError):
            read_event(payload)

    assert microseconds_per_kb(read, hostile(size)) < 5 * flat_microseconds_per_kb(size)


@pytest.mark.parametrize("size", [16_000, 1_000_000])
def test_hostile_arguments_cost_no_more_than_their_bytes(size: int) -> None:
    def read(payload: bytes) -> None:
        with suppress(BadArgumentsError):
            read_arguments(payload, 0)

    assert microseconds_per_kb(read, b"\x91" + nested_arrays(size)) < 5 * flat_microseconds_per_kb(size)


@pytest.mark.parametrize("size", [3_000, 60_000])
def test_a_hostile_answer_of_a_worker_costs_no_more_than_its_bytes(size: int) -> None:
    def read(event: bytes) -> None:
        with suppress(BadFrameError):
            events.readdress(event, b"\x01", 3, b"12345678")
        events.event_name(event)

    for hostile in HOSTILE.values():
        assert microseconds_per_kb(read, hostile(size)) < 10 * flat_microseconds_per_kb(size)


def flat_microseconds_per_kb(size: int) -> float:
    """What it costs to decode one flat array of small integers; some 10 microseconds per KB."""
    return microseconds_per_kb(msgpack.unpackb, msgpack.packb([300] * (size // 3)))


def microseconds_per_kb(read: Callable[[bytes], object], payload: bytes) -> float:
    """The least of several measurements, so that other programs do not count."""
    least_s = float("inf")
    for _ in range(10):
        started_s = time.perf_counter()
        read(payload)
        least_s = min(least_s, time.perf_counter() - started_s)
    return 1e6 * least_s / (len(payload) / 1000)


def test_the_header_of_a_workers_answer_keeps_its_other_keys() -> None:
    event = packed({"message_id": "mine", "trace": ["a", 1], "v": 3, "user": {"b": None}}, "OK", [1])
    assert msgpack.unpackb(events.readdress(event, b"\x01", 3, b"12345678")) == [
        {"response_to": 1, "v": 3, "message_id": b"12345678", "trace": ["a", 1], "user": {"b": None}},
        "OK",
        [1],
    ]
