"""Calls that go to a worker together: which, when, and what becomes of them."""

import time
from typing import Any

import msgpack
import pytest

from broker.core.scheduling import scheduler as dispatch
from broker.core.state import counters
from cluster.wire import protocol
from cluster.wire.pairs import write_pairs
from tests.unit.world import Reply, World

A, B = b"client-a", b"client-b"
W1, W2 = b"w1", b"w2"


@pytest.fixture
def world() -> World:
    return World()


def call_all(world: World, *message_ids: Any, client: bytes = A) -> None:
    for message_id in message_ids:
        assert world.call(client, message_id) == []


def batches_of(world: World, worker: bytes) -> list[list[Any]]:
    """The message ids of each batch that a worker was given since this was last asked."""
    given = [send for send in world.to_workers if send[0] == worker and send[1][0] == protocol.WORK]
    batches = []
    for send in given:
        world.to_workers.remove(send)
        alone = World(to_workers=[send])
        batches.append([work.event[0]["message_id"] for work in alone.work_of(worker)])
    return batches


def answer_all(world: World, worker: bytes) -> list[Reply]:
    in_flight = world.in_flight(worker)
    return [reply for number in list(in_flight) for reply in world.answer(worker, number)]


def test_what_waits_goes_together_as_far_as_it_fits(world: World) -> None:
    world.join(W1, max_batch_size=3)
    call_all(world, 1, 2, 3, 4, 5)
    assert batches_of(world, W1) == [[1]]
    assert [reply.name for reply in answer_all(world, W1)] == ["OK"]
    assert batches_of(world, W1) == [[2, 3, 4]]
    answer_all(world, W1)
    assert batches_of(world, W1) == [[5]]
    answer_all(world, W1)
    world.assert_at_rest()


def test_the_next_batch_waits_for_the_whole_of_the_last(world: World) -> None:
    world.join(W1, max_batch_size=2)
    call_all(world, 1, 2, 3, 4)
    answer_all(world, W1)
    assert batches_of(world, W1) == [[1], [2, 3]]
    first, second = list(world.in_flight(W1))
    world.answer(W1, first)
    assert batches_of(world, W1) == []
    world.answer(W1, second)
    assert batches_of(world, W1) == [[4]]
    answer_all(world, W1)
    world.assert_at_rest()


def test_a_batch_may_be_on_the_way_while_another_runs(world: World) -> None:
    world.join(W1, max_batch_size=2, batches_ahead=1)
    call_all(world, 1, 2, 3, 4, 5)
    assert batches_of(world, W1) == [[1], [2]]
    world.answer(W1, next(iter(world.in_flight(W1))))
    assert batches_of(world, W1) == [[3, 4]]
    answer_all(world, W1)
    assert batches_of(world, W1) == [[5]]


def test_clients_take_turns_within_a_batch(world: World) -> None:
    world.join(W1, max_batch_size=4)
    call_all(world, "runs")
    call_all(world, 1, 2, 3, 4)
    call_all(world, "b", client=B)
    answer_all(world, W1)
    assert batches_of(world, W1) == [["runs"], [1, "b", 2, 3]]


def test_a_batch_has_no_more_bytes_than_can_be_sent_in_one_piece(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_BATCH_BYTES", 100)
    world.join(W1, max_batch_size=64)
    call_all(world, "runs")
    for message_id in range(5):
        world.call(A, message_id, args=["x" * 30])
    answer_all(world, W1)
    assert batches_of(world, W1) == [["runs"], [0, 1]]


def test_calls_may_be_told_to_wait_for_company(world: World) -> None:
    world.join(W1, max_batch_size=3, batch_wait_ms=20.0)
    call_all(world, 1, 2)
    assert batches_of(world, W1) == []
    assert world.next_dispatch_s == world.now_s + 0.02
    world.now_s += 0.019
    world.flush()
    assert batches_of(world, W1) == []
    world.now_s += 0.001
    world.flush()
    assert batches_of(world, W1) == [[1, 2]]
    answer_all(world, W1)
    call_all(world, 3, 4, 5)
    assert batches_of(world, W1) == [[3, 4, 5]], "a full batch waits for nobody"
    assert world.next_dispatch_s == float("inf")


def test_calls_that_have_waited_for_company_do_not_wait_again_when_they_are_divided(world: World) -> None:
    for worker in (W1, W2):
        world.join(worker, max_batch_size=8, batch_wait_ms=20.0)
    call_all(world, 1, 2, 3, 4)
    assert world.next_dispatch_s == world.now_s + 0.02
    world.now_s += 0.02
    world.flush()
    assert sorted(batches_of(world, W1) + batches_of(world, W2)) == [[1, 2], [3, 4]]
    assert world.next_dispatch_s == float("inf")


def test_each_call_of_a_dead_workers_batch_is_tried_again_alone(world: World) -> None:
    world.join(W1, max_batch_size=8)
    call_all(world, "runs", "a", "poison", "b")
    answer_all(world, W1)
    assert batches_of(world, W1) == [["runs"], ["a", "poison", "b"]]
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    for worker, expected in ((W2, "a"), (W2, "poison"), (b"w3", "b")):
        if worker not in world.core.registry.workers:
            world.join(worker, max_batch_size=8)
        assert batches_of(world, worker) == [[expected]], "nothing shares its fate"
        if expected == "poison":
            world.core.workers.lost(worker, world.now_s)
            (reply,) = world.flush()
            assert (reply.header["response_to"], reply.args[0]) == ("poison", "WorkerLost")
        else:
            assert [reply.name for reply in answer_all(world, worker)] == ["OK"]
    assert world.outcomes() == {counters.OK: 3, counters.WORKER_LOST: 1}
    world.assert_at_rest()


def test_the_calls_of_a_dead_worker_take_turns_with_others(world: World) -> None:
    world.join(W1, max_batch_size=8)
    call_all(world, "runs", 1, 2)
    answer_all(world, W1)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    call_all(world, "new", "newer")
    world.join(W2, max_batch_size=8)
    seen = []
    for _ in range(3):
        seen += batches_of(world, W2)
        answer_all(world, W2)
    assert seen == [[1], ["new", "newer"], [2]]
    world.assert_at_rest()


def test_a_worker_is_kept_free_for_a_call_that_must_run_alone(world: World) -> None:
    world.join(W1, slots=2)
    world.join(W2, slots=2)
    call_all(world, 1, 2, 3)
    owners = {worker: batches_of(world, worker) for worker in (W1, W2)}
    busier, other = (W1, W2) if len(owners[W1]) == 2 else (W2, W1)
    world.core.workers.lost(busier, world.now_s)
    world.flush()
    assert batches_of(world, other) == [], "it has something to do"
    call_all(world, "new")
    assert batches_of(world, other) == [], "it is kept free"
    world.join(b"w3", slots=2)
    assert len(batches_of(world, b"w3")) == 1
    while world.core.calls:
        for worker in (other, b"w3"):
            answer_all(world, worker)
    world.assert_at_rest()
    assert world.outcomes() == {counters.OK: 4}


def test_a_call_that_had_a_worker_kept_free_lets_it_go_with_itself(world: World) -> None:
    world.join(W1, slots=2)
    call_all(world, 1)
    world.join(W2, slots=2)
    call_all(world, 2)
    batches_of(world, W2)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    call_all(world, 3, client=B)
    assert batches_of(world, W2) == []
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    world.flush()
    assert batches_of(world, W2) == [[3]]


def test_a_call_that_must_run_alone_waits_for_no_others_than_there_are(world: World) -> None:
    world.join(W1, max_batch_size=8)
    call_all(world, "runs", 1, 2, 3)
    answer_all(world, W1)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    workers = (W2, b"w3")
    for worker in workers:
        world.join(worker, max_batch_size=8)
    assert [batches_of(world, worker) for worker in workers] == [[[1]], [[2]]]
    call_all(world, "new")
    for worker in workers:
        (number,) = world.in_flight(worker)
        event = msgpack.packb([{}, "OK", ["y"]])
        world.core.workers.message(worker, write_pairs(protocol.REPLY, [(number, event)]), world.now_s)
    world.flush()
    assert sorted(batches_of(world, W2) + batches_of(world, b"w3"), key=str) == [["new"], [3]]


def test_to_pick_one_of_many_idle_workers_costs_no_more_than_of_few() -> None:
    def cost_s(workers: int) -> float:
        world = World()
        for i in range(workers):
            world.join(b"worker-%d" % i)
        pool = world.pool("m")
        started_s = time.process_time()
        for _ in range(2000):
            assert pool.least_loaded(world.now_s) is not None
        return time.process_time() - started_s

    assert cost_s(2000) < 5 * min(cost_s(20) for _ in range(3)), "and not 100 times as much"


def test_a_list_is_a_batch_of_its_own(world: World) -> None:
    for worker in (W1, W2):
        world.join(worker, max_batch_size=8)
    target = world.core.registry.procedures["m_predict"].target
    assert target is not None
    target.is_list = True
    call_all(world, 1, 2, 3)
    assert (batches_of(world, W1), batches_of(world, W2)) == ([[1]], [[2]])
