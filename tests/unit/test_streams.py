"""Streams in the routing core: whose they are, what room they take, and how long they may last."""

from typing import Any

import pytest

from cluster.wire import protocol
from tests.unit.world import LIMITS, Reply, World

UNREAD_PATIENCE_S = LIMITS.unread_timeout_s

A, B = b"client-a", b"client-b"
W1, W2 = b"w1", b"w2"
STREAM = "m_predict_stream"


@pytest.fixture
def world() -> World:
    made = World()
    made.join(W1, timeout_s=60.0, max_streams=3)
    return made


def more(world: World, client: bytes, message_id: bytes, slots: int) -> list[Reply]:
    return world.send_event(client, {"message_id": b"more", "v": 3, "response_to": message_id}, "_zpc_more", [slots])


def send_heartbeat(world: World, client: bytes, message_id: bytes) -> list[Reply]:
    return world.send_event(client, {"message_id": b"beat", "v": 3, "response_to": message_id}, "_zpc_hb", [0])


def begin(world: World, client: bytes, message_id: bytes, args: Any = ("x",)) -> bytes:
    """Ask for a stream; the number of the call."""
    world.call(client, message_id, STREAM, args)
    (work,) = world.work_of(W1)
    return work.number


def errors(replies: list[Reply]) -> list[Any]:
    return [reply.args[0] for reply in replies if reply.name == "ERR"]


def test_streams_take_no_room_of_calls_nor_calls_of_streams(world: World) -> None:
    for i in range(5):
        world.call(A, b"stream %d" % i, STREAM)
    assert len(world.work_of(W1)) == 3, "as many as the worker serves beside each other"
    world.call(A, b"call")
    (call,) = world.work_of(W1)
    assert world.answer(W1, call.number)[0].args == ["y"]


def test_a_stream_that_ends_makes_room_for_one_that_waits(world: World) -> None:
    for i in range(4):
        world.call(A, b"%d" % i, STREAM)
    first, *_ = world.work_of(W1)
    world.answer(W1, first.number, "STREAM_DONE", None)
    assert len(world.work_of(W1)) == 1


def test_streams_go_to_the_worker_with_the_fewest(world: World) -> None:
    world.join(W2, timeout_s=60.0, max_streams=3)
    for i in range(4):
        world.call(A, b"%d" % i, STREAM)
    assert (len(world.work_of(W1)), len(world.work_of(W2))) == (2, 2)


def test_a_stream_may_last_as_long_as_it_brings_something(world: World) -> None:
    number = begin(world, A, b"id")
    more(world, A, b"id", 100)
    for _ in range(10):
        assert errors(world.pass_time(50)) == []
        world.answer(W1, number, "STREAM", "item")
    assert errors(world.pass_time(70)) == ["DeadlineExceeded"]
    assert [frames for _, frames in world.to_workers if frames[0] == protocol.CANCEL] == [[protocol.CANCEL, number]]


def test_a_reader_may_take_its_time(world: World) -> None:
    number = begin(world, A, b"id")
    world.answer(W1, number, "STREAM", "item")
    for _ in range(100):
        assert errors(world.pass_time(10)) == []
        send_heartbeat(world, A, b"id")
    more(world, A, b"id", 1)
    (reply,) = world.answer(W1, number, "STREAM", "another")
    assert reply.args == "another"


def test_a_reader_without_heartbeats_is_given_up_in_the_end(world: World) -> None:
    number = begin(world, A, b"id")
    world.answer(W1, number, "STREAM", "item")
    world.pass_time(UNREAD_PATIENCE_S - 5)
    assert len(world.core.calls) == 1, "it may yet make room"
    world.pass_time(10)
    assert len(world.core.calls) == 0
    assert (W1, [protocol.CANCEL, number]) in world.to_workers
    world.reply(W1, number, b"\x93\x80\xa3ERR\x93\xa1E\xa1t\xc0", protocol.REFUSE)
    assert world.outcomes(STREAM) == {"cancelled": 1}
    world.assert_at_rest()


def test_an_error_that_finds_no_room_is_dropped_in_the_end(world: World) -> None:
    number = begin(world, A, b"id")
    world.answer(W1, number, "STREAM", "item")
    world.core.workers.lost(W1, world.now_s)
    world.pass_time(UNREAD_PATIENCE_S + 10)
    assert len(world.core.calls) == 0
    assert world.outcomes(STREAM) == {"worker_lost": 1}
    world.assert_at_rest()


def test_streams_of_a_dead_worker_that_have_not_begun_go_on_beside_each_other(world: World) -> None:
    begun = begin(world, A, b"begun")
    begin(world, A, b"one")
    begin(world, B, b"two")
    world.answer(W1, begun, "STREAM", "item")
    world.join(W2, timeout_s=60.0, max_streams=3)
    world.core.workers.lost(W1, world.now_s)
    assert errors(world.flush()) == [], "the reader of the one that had begun has no room for it"
    assert errors(more(world, A, b"begun", 1)) == ["WorkerLost"]
    assert len(world.work_of(W2)) == 2


def test_what_was_asked_is_kept_no_longer_than_it_may_be_asked_again(world: World) -> None:
    number = begin(world, A, b"id", ["x" * 1000])
    (call,) = world.core.calls.clients[A].open.values()
    assert len(call.event) > 1000
    world.answer(W1, number, "STREAM", "item")
    assert call.event == b""


def test_what_open_streams_ask_is_bounded_in_bytes() -> None:
    world = World()
    world.join(W1, max_streams=100)
    for i in range(2):
        assert world.call(A, i, STREAM, ["x" * 800]) == []
    (reply,) = world.call(A, b"much", STREAM, ["x" * 800])
    assert (reply.args[0], "this client's open streams have" in reply.args[1]) == ("ServerBusy", True)
    assert world.call(B, b"id", STREAM, ["x" * 800]) == []
    (reply,) = world.call(b"another", b"much", STREAM, ["x" * 800])
    assert (reply.args[0], "the open streams of m have" in reply.args[1]) == ("ServerBusy", True)
    for work in world.work_of(W1):
        world.answer(W1, work.number, "STREAM_DONE", None)
    assert world.call(A, b"again", STREAM, ["x" * 800]) == []
    (work,) = world.work_of(W1)
    world.answer(W1, work.number, "STREAM_DONE", None)
    world.assert_at_rest()


def test_a_reader_with_heartbeats_is_given_up_after_an_hour_too(world: World) -> None:
    number = begin(world, A, b"id")
    world.answer(W1, number, "STREAM", "item")
    for _ in range(370):
        world.pass_time(10, step_s=5)
        if world.core.calls.clients:
            send_heartbeat(world, A, b"id")
    assert len(world.core.calls) == 0
