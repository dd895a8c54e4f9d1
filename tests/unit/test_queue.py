"""What waits: turns, bounds and deadlines."""

from typing import Any

import pytest

from broker.core.core import Core
from broker.core.state import counters, fair_queue
from broker.settings import BrokerSettings
from cluster.wire import protocol
from tests.unit.world import LIMITS, World

A, B, C = b"client-a", b"client-b", b"client-c"
W1, W2 = b"w1", b"w2"


@pytest.fixture
def world() -> World:
    made = World()
    made.join(W1, timeout_s=60.0)
    return made


def run_all(world: World) -> list[tuple[bytes, Any]]:
    """Answer whatever the worker gets until it gets no more; what was run, in order."""
    ran = []
    while work := world.work_of(W1):
        for one in work:
            ran += [(reply.client, reply.header["response_to"]) for reply in world.answer(W1, one.number)]
    return ran


def test_clients_take_turns_however_much_one_has_asked_for(world: World) -> None:
    for i in range(4):
        world.call(A, i)
    for i in range(2):
        world.call(B, i)
    world.call(C, 0)
    assert run_all(world) == [(A, 0), (A, 1), (B, 0), (C, 0), (A, 2), (B, 1), (A, 3)]
    world.assert_at_rest()


def test_a_client_beyond_its_share_is_refused_and_others_are_not(world: World) -> None:
    world.call(C, b"runs")
    for i in range(LIMITS.client_calls):
        assert world.call(A, i) == []
    (refusal,) = world.call(A, b"one more")
    assert refusal.args[0] == "ServerBusy"
    assert "10 calls of m by this client wait already" in refusal.args[1]
    assert world.call(B, b"another") == []
    assert world.outcomes() == {counters.BUSY: 1}
    assert len(run_all(world)) == LIMITS.client_calls + 2
    world.assert_at_rest()


def test_by_default_a_client_alone_may_have_a_thousand_calls_and_a_crowd_ten_thousand() -> None:
    settings = BrokerSettings.model_construct()
    world = World(core=Core(max_message_bytes=settings.max_message_bytes, limits=settings.limits()))
    world.join(W1)
    assert [reply for i in range(1_001) for reply in world.call(A, i)] == []
    assert [reply for i in range(9_000) for reply in world.call(b"client-%d" % (i % 1_999), i)] == []


def test_a_full_queue_refuses_those_who_have_their_part(world: World) -> None:
    world.call(C, b"runs")
    for i in range(LIMITS.queue_calls):
        assert world.call(b"client-%d" % (i % 4), i) == []
    (refusal,) = world.call(b"client-1", b"one more")
    assert refusal.args[0] == "ServerBusy"
    part = LIMITS.queue_calls // 5
    for i in range(part):
        assert world.call(B, i) == [], "a client with nothing in the queue gets an equal part of it"
    (refusal,) = world.call(B, b"one more")
    assert refusal.args[0] == "ServerBusy"
    assert len(run_all(world)) == LIMITS.queue_calls + part + 1
    assert world.call(B, b"one more") == []


def at(address: str, number: int) -> bytes:
    """A connection of an address; `with_addresses` has the core know it."""
    return f"{number}@{address}".encode()


def with_addresses(world: World) -> World:
    world.core.clients.address_of = lambda identity: identity.decode().partition("@")[2]
    return world


@pytest.mark.fault(55)
def test_addresses_take_turns_and_then_their_connections(world: World) -> None:
    with_addresses(world)
    for number in range(4):
        for i in range(2):
            world.call(at("many", number), i)
    for i in range(3):
        world.call(at("one", 0), i)
    ran = [client.decode().partition("@")[2] for client, _ in run_all(world)]
    assert ran[1:7] == ["many", "one", "many", "one", "many", "one"]
    world.assert_at_rest()


@pytest.mark.fault(55)
def test_many_connections_of_one_address_leave_room_for_another(world: World) -> None:
    with_addresses(world)
    replies = [reply for number in range(12) for i in range(10) for reply in world.call(at("many", number), i)]
    assert {reply.args[0] for reply in replies} == {"ServerBusy"}
    assert [reply for i in range(LIMITS.queue_calls // 2) for reply in world.call(at("one", 0), i)] == []
    assert len(list(world.core.calls.queues[world.pool()])) <= 2.5 * LIMITS.queue_calls


@pytest.mark.fault(56)
def test_a_large_call_takes_several_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "TURN_BYTES", 100)
    world.call(C, b"runs")
    for i in range(3):
        world.call(A, i, args=["x" * 200])
        world.call(B, i)
    world.call(B, 3)
    assert run_all(world)[1:] == [(A, 0), (B, 0), (B, 1), (B, 2), (A, 1), (B, 3), (A, 2)]
    world.assert_at_rest()


def test_large_calls_of_all_take_turns_without_delay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "TURN_BYTES", 10)
    world.call(C, b"runs")
    for i in range(3):
        world.call(A, i, args=["x" * 200])
        world.call(B, i, args=["x" * 200])
    assert run_all(world)[1:] == [(A, 0), (B, 0), (A, 1), (B, 1), (A, 2), (B, 2)]
    world.assert_at_rest()


def test_a_small_call_may_be_preferred(world: World) -> None:
    world.call(C, b"runs")
    queue = world.core.calls.queues[world.pool()]
    world.call(A, 0, args=["x" * 200])
    assert not queue.prefer(lambda call: call.size < 100)
    world.call(B, 1)
    assert queue.prefer(lambda call: call.size < 100)
    assert run_all(world)[1:] == [(B, 1), (A, 0)]
    world.assert_at_rest()


@pytest.mark.parametrize(
    ("clients", "says"), [((A, A, A), "this client's calls"), ((A, B, C), "the calls of m that wait have")]
)
def test_bytes_are_bounded_too(world: World, clients: tuple[bytes, ...], says: str) -> None:
    world.call(b"other", b"runs")
    replies = []
    for i, client in enumerate(clients):
        size = 900 if len(set(clients)) == 1 else 1200
        replies += world.call(client, i, args=["x" * size])
    assert [reply.args[0] for reply in replies] == ["ServerBusy"]
    assert says in replies[0].args[1]
    assert len(run_all(world)) == len(clients)
    world.assert_at_rest()


def test_what_a_client_took_back_makes_room(world: World) -> None:
    world.call(C, b"runs")
    for i in range(LIMITS.client_calls):
        world.call(A, i)
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    pool = world.pool("m")
    queue = world.core.calls.queues[pool]
    assert (queue.calls, queue.bytes) == (0, 0)
    assert world.call(A, b"new") == []


def test_a_call_that_waits_too_long_is_told_so_and_never_executed() -> None:
    world = World()
    world.join(W1, timeout_s=2 * LIMITS.queue_timeout_s)
    world.call(A, b"runs")
    world.call(B, b"waits")
    assert not [reply for reply in world.pass_time(LIMITS.queue_timeout_s - 1, step_s=1.0) if reply.name == "ERR"]
    (reply,) = [reply for reply in world.pass_time(2.0) if reply.name == "ERR"]
    assert (reply.client, reply.args[0]) == (B, "DeadlineExceeded")
    assert "it was not executed" in reply.args[1]
    assert run_all(world) == [(A, b"runs")]
    world.assert_at_rest()


def call_with_timeout(world: World, client: bytes, call: bytes, timeout_s: Any) -> list[Any]:
    return list(world.send_event(client, {"message_id": call, "v": 3, "timeout_s": timeout_s}, "m_predict", ["x"]))


def test_a_caller_may_wait_for_less(world: World) -> None:
    world.call(A, b"runs")
    call_with_timeout(world, B, b"waits", 2)
    assert world.pass_time(1.9) == []
    (reply,) = world.pass_time(0.5)
    assert (reply.client, reply.args[0]) == (B, "DeadlineExceeded")
    assert "waited 2." in reply.args[1]
    assert world.outcomes() == {counters.DEADLINE: 1}
    assert run_all(world) == [(A, b"runs")]
    world.assert_at_rest()


def test_a_callers_time_counts_on_while_its_call_runs(world: World) -> None:
    call_with_timeout(world, A, b"id", 1.5)
    (work,) = world.work_of(W1)
    (reply,) = world.pass_time(2)
    assert reply.args[0] == "DeadlineExceeded"
    assert "it may still end" in reply.args[1]
    assert (W1, [protocol.CANCEL, work.number]) in world.to_workers
    assert world.pool("m").free == 0, "the worker is still at it"
    assert world.answer(W1, work.number) == []
    assert world.core.counters.late_replies == 1
    assert world.outcomes() == {counters.DEADLINE: 1}
    world.assert_at_rest()


def test_a_call_that_has_expired_is_not_given_out_even_before_it_is_told(world: World) -> None:
    world.call(A, b"runs")
    call_with_timeout(world, B, b"waits", 1)
    world.now_s += 1.0
    (work,) = world.work_of(W1)
    replies = world.answer(W1, work.number)
    assert [(reply.client, reply.name) for reply in replies] == [(A, "OK"), (B, "ERR")]
    assert world.work_of(W1) == []
    world.assert_at_rest()


@pytest.mark.parametrize("timeout_s", [0, -1, "2", None, True, float("nan"), float("inf"), [1]])
def test_a_time_that_is_none_is_a_bad_request(world: World, timeout_s: Any) -> None:
    (reply,) = call_with_timeout(world, A, b"id", timeout_s)
    assert reply.args[0] == "BadRequest"
    assert "timeout_s" in reply.args[1]


def test_a_call_that_runs_too_long_is_told_so_and_not_tried_again_when_its_worker_is_replaced(world: World) -> None:
    world.join(W2, timeout_s=60.0)
    world.call(A, b"hangs")
    owner = W1 if world.core.registry.workers[W1].in_flight else W2
    other = W2 if owner == W1 else W1
    replies = [reply for reply in world.pass_time(61) if reply.name == "ERR"]
    assert [reply.args[0] for reply in replies] == ["DeadlineExceeded"]
    world.core.workers.lost(owner, world.now_s)
    world.flush()
    assert world.work_of(other) == []
    assert world.outcomes() == {counters.DEADLINE: 1}
    assert world.core.counters.retries == 0
    world.assert_at_rest()


def test_a_stream_beyond_its_callers_time_ends_when_its_reader_has_room(world: World) -> None:
    call_with_timeout(world, A, b"id", 65.0)
    world.answer(W1, world.work_of(W1)[0].number, "STREAM", 1)
    assert [reply for reply in world.pass_time(70) if reply.name == "ERR"] == []
    assert [frames[0] for _, frames in world.to_workers].count(protocol.CANCEL) == 1
    number = next(frames[1] for _, frames in world.to_workers if frames[0] == protocol.CANCEL)
    assert world.answer(W1, number, "STREAM", 2) == [], "there is no room for it at the client"
    assert world.answer(W1, number, "STREAM_DONE", None) == [], "nor for this, and the call has failed"
    (reply,) = world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [5])
    assert reply.args[0] == "DeadlineExceeded"
    assert world.outcomes() == {counters.DEADLINE: 1}
    world.assert_at_rest()


def test_a_failure_that_waits_for_room_is_not_replaced_by_the_death_of_its_worker(world: World) -> None:
    call_with_timeout(world, A, b"id", 65.0)
    world.answer(W1, world.work_of(W1)[0].number, "STREAM", 1)
    world.pass_time(70)
    world.core.workers.lost(W1, world.now_s)
    (reply,) = world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [5])
    assert reply.args[0] == "DeadlineExceeded"
    assert world.outcomes() == {counters.DEADLINE: 1}
    world.assert_at_rest()


def test_a_call_that_is_tried_again_goes_before_all_that_wait(world: World) -> None:
    for i in range(3):
        world.call(A, i)
    world.call(B, 0)
    world.core.workers.lost(W1, world.now_s)
    world.join(W1)
    assert run_all(world)[0] == (A, 0)
    world.assert_at_rest()
