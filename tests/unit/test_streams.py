"""Streams in the routing core: whose they are, what room they take, and how long they may last."""

from typing import Any

import pytest

from broker.core.scheduling.unread import UNREAD_S
from cluster.wire import protocol
from tests.unit.world import LIMITS, Reply, World

UNREAD_PATIENCE_S = LIMITS.unread_timeout_s

A, B, C = b"client-a", b"client-b", b"client-c"
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
    assert world.call(b"another", b"id", STREAM, ["x" * 800]) == [], "a client with less than its part gets in"
    (reply,) = world.call(B, b"much", STREAM, ["x" * 800])
    assert (reply.args[0], "the open streams of m have" in reply.args[1]) == ("ServerBusy", True)
    for work in world.work_of(W1):
        world.answer(W1, work.number, "STREAM_DONE", None)
    assert world.call(A, b"again", STREAM, ["x" * 800]) == []
    (work,) = world.work_of(W1)
    world.answer(W1, work.number, "STREAM_DONE", None)
    world.assert_at_rest()


@pytest.mark.fault(48)
def test_a_client_that_opens_all_streams_leaves_some_to_others() -> None:
    world = World()
    world.core.clients.address_of = lambda identity: identity.decode().partition("@")[2]
    world.join(W1, max_streams=40)
    for i in range(50):
        world.call(b"a@one", i, STREAM)
    assert len(world.work_of(W1)) == 36, "the last tenth is for clients with few"
    for client in (b"b@one", b"c@one", b"d@two", b"e@two", b"f@three"):
        for i in range(2):
            world.call(client, i, STREAM)
    given = world.work_of(W1)
    open_by = world.core.calls.shares[world.stream_pool()].by_client()
    assert len(given) == 4
    assert open_by == {("one", b"a@one"): 36, ("one", b"b@one"): 2, ("two", b"d@two"): 1, ("three", b"f@three"): 1}


@pytest.mark.fault(48)
def test_clients_with_fewer_open_streams_come_first() -> None:
    world = World()
    world.join(W1, max_streams=5)
    for i in range(5):
        world.call(A if i < 4 else B, i, STREAM)
    for i in range(2):
        for client in (A, B, C):
            world.call(client, b"waits-%d" % i, STREAM)
    number = world.work_of(W1)[0].number
    order = []
    for _ in range(5):
        world.answer(W1, number, "STREAM_DONE", None)
        (work,) = world.work_of(W1)
        number = work.number
        order.append(world.core.calls._open[number].owner.identity)
    assert order == [A, B, C, C, B], "after its first turn, A gives up one for each stream that it has open"


def test_a_stream_that_waited_for_the_reserved_part_begins_when_a_lost_worker_makes_that_smaller() -> None:
    world = World()
    world.join(W1, max_streams=5)
    world.join(W2, max_streams=5)
    for i in range(10):
        world.call(A, i, STREAM)
    begun = {identity: world.work_of(identity) for identity in (W1, W2)}
    (full,) = [identity for identity, work in begun.items() if len(work) == 5]
    (other,) = [identity for identity, work in begun.items() if len(work) == 4]
    for work in begun[full]:
        world.answer(full, work.number, "STREAM", "item")  # so that they are not retried
    world.core.workers.lost(full, world.now_s)
    world.flush()
    assert len(world.work_of(other)) == 1, "one of five is free, and a tenth of five is none"


@pytest.mark.fault(48)
def test_an_unread_stream_gives_way_when_a_client_with_fewer_waits() -> None:
    world = World()
    world.join(W1, max_streams=5)
    for i in range(5):
        number = begin(world, A, b"%d" % i)
        world.answer(W1, number, "STREAM", "item")
        if i < 2:
            more(world, A, b"%d" % i, 10)
    world.pass_time(UNREAD_S + 1)
    assert world.orders_of(W1, protocol.CANCEL) == [], "nobody waits"
    for i in range(2):
        world.call(B, b"%d" % i, STREAM)
    world.pass_time(0.3)
    cancelled = world.orders_of(W1, protocol.CANCEL)
    assert len(cancelled) == 2, "as many as wait, and only of those that are not read"
    world.pass_time(2)
    assert world.orders_of(W1, protocol.CANCEL) == [], "two are on their way"
    for (number,) in cancelled:
        world.reply(W1, number, b"\x93\x80\xa3ERR\x93\xa1E\xa1t\xc0", protocol.REFUSE)
    assert len(world.work_of(W1)) == 2, "the streams that have waited"
    (error,) = more(world, A, b"2", 1)
    assert (error.name, error.args[0]) == ("ERR", "DeadlineExceeded")
    assert "was not read for 1" in error.args[1]
    world.call(C, b"0", STREAM)
    world.pass_time(UNREAD_S + 1)
    assert len(world.orders_of(W1, protocol.CANCEL)) == 1, "A has three, C none"
    world.call(B, b"again", STREAM)
    world.pass_time(UNREAD_S + 1)
    assert world.orders_of(W1, protocol.CANCEL) == [], "A does not have more than one above B's two"


def test_a_reader_with_heartbeats_is_given_up_after_an_hour_too(world: World) -> None:
    number = begin(world, A, b"id")
    world.answer(W1, number, "STREAM", "item")
    for _ in range(370):
        world.pass_time(10, step_s=5)
        if world.core.calls.clients:
            send_heartbeat(world, A, b"id")
    assert len(world.core.calls) == 0
