"""Large calls beside small ones: they take no batch and no last worker from them."""

import pytest

from broker.core.core import Core
from broker.core.scheduling.admission import QueueLimits
from broker.core.scheduling.scheduler import SMALL_CALLS_S
from broker.core.state.call_table import LARGE_BYTES
from tests.unit.world import World

A, B, C = b"client-a", b"client-b", b"client-c"
W1, W2 = b"w1", b"w2"
LARGE = "x" * (LARGE_BYTES + 1)


@pytest.fixture
def world() -> World:
    limits = QueueLimits(
        no_worker_grace_s=10.0,
        queue_timeout_s=4000.0,
        queue_calls=100,
        queue_bytes=100 * LARGE_BYTES,
        client_calls=100,
        client_bytes=100 * LARGE_BYTES,
    )
    return World(core=Core(max_message_bytes=2 * LARGE_BYTES, limits=limits))


def answer_all(world: World, identity: bytes) -> None:
    for number in world.in_flight(identity):
        world.answer(identity, number)


@pytest.mark.fault(56)
def test_large_calls_leave_a_worker_to_small_ones(world: World) -> None:
    world.join(W1)
    world.join(W2)
    world.call(A, b"small")
    for worker in (W1, W2):
        answer_all(world, worker)
    for number in range(4):
        world.call(A, b"large-%d" % number, args=[LARGE])
    assert len(world.in_flight(W1)) + len(world.in_flight(W2)) == 1, "one worker is left"
    busy, left = (W1, W2) if world.in_flight(W1) else (W2, W1)
    world.call(B, b"1")
    world.call(C, b"2")
    assert len(world.in_flight(left)) == 1, "a small call is given out at once, although large ones have waited longer"
    answer_all(world, left)
    assert len(world.in_flight(left)) == 1, "the next small call"
    answer_all(world, left)
    assert not world.in_flight(left)
    answer_all(world, busy)
    assert len(world.in_flight(busy) + world.in_flight(left)) == 1, "one large call at a time"


def test_large_calls_get_all_workers_if_there_are_no_small_ones(world: World) -> None:
    world.join(W1)
    world.join(W2)
    for number in range(2):
        world.call(A, b"large-%d" % number, args=[LARGE])
    assert world.in_flight(W1)
    assert world.in_flight(W2)


def test_large_calls_get_the_last_worker_when_small_ones_stop(world: World) -> None:
    world.join(W1)
    world.join(W2)
    world.call(A, b"small")
    for worker in (W1, W2):
        answer_all(world, worker)
    for number in range(2):
        world.call(A, b"large-%d" % number, args=[LARGE])
    assert len(world.in_flight(W1) + world.in_flight(W2)) == 1
    assert world.next_dispatch_s == world.now_s + SMALL_CALLS_S
    world.now_s += SMALL_CALLS_S + 0.01
    world.flush()
    assert world.in_flight(W1)
    assert world.in_flight(W2)


def test_a_single_worker_serves_large_calls(world: World) -> None:
    world.join(W1)
    world.call(A, b"small")
    answer_all(world, W1)
    world.call(A, b"large", args=[LARGE])
    assert world.in_flight(W1)


def test_a_large_call_is_a_batch_of_its_own(world: World) -> None:
    world.join(W1, max_batch_size=8)
    world.call(A, b"running")
    for number, argument in enumerate([LARGE, "x", "x", LARGE]):
        world.call(b"client-%d" % number, b"1", args=[argument])
    sizes = []
    while world.in_flight(W1):
        sizes.append(len(world.in_flight(W1)))
        answer_all(world, W1)
    assert sizes in ([1, 1, 2, 1], [1, 2, 1, 1]), "no small call shares a batch with a large one"
