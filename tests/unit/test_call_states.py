"""A call's states: only the transitions of the table happen, and every state is reached."""

import pytest

from broker.core.state.calls import CANCELLED, ENDED, FAILING, QUEUED, RUNNING, STREAMING, TRANSITIONS, Call, CallState
from cluster.wire import protocol
from tests.unit.test_streams import STREAM, more
from tests.unit.world import World

A = b"client-a"
W1, W2 = b"w1", b"w2"


@pytest.fixture
def world() -> World:
    world = World()
    world.join(W1)
    return world


def the_call(world: World) -> Call:
    (call,) = (call for calls in world.core.calls.in_flight.values() for call in calls.values())
    return call


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(CallState)
    assert {state for successors in TRANSITIONS.values() for state in successors} == set(CallState)
    assert [state for state, successors in TRANSITIONS.items() if not successors] == [ENDED]


@pytest.mark.parametrize("state", CallState)
def test_a_call_makes_no_transition_that_the_table_does_not_have(world: World, state: CallState) -> None:
    world.call(A, b"id")
    call = the_call(world)
    for other in CallState:
        call.state = state
        if other in TRANSITIONS[state]:
            call.become(other)
            assert call.state is other
        else:
            with pytest.raises(AssertionError, match=f"a call that is {state.name} cannot become {other.name}"):
                call.become(other)


def test_a_call_is_queued_running_and_ended(world: World) -> None:
    world.call(A, b"first")
    world.call(A, b"second")
    assert the_call(world).state is RUNNING
    waiting = world.core.calls.clients[A].open[b"\xc4\x06second"]
    assert waiting.state is QUEUED
    first = the_call(world)
    world.answer(W1, first.number)
    assert first.state is ENDED
    assert waiting.state is RUNNING


def test_a_call_whose_worker_died_is_queued_again(world: World) -> None:
    world.call(A, b"id")
    call = the_call(world)
    world.core.workers.lost(W1, world.now_s)
    assert call.state is QUEUED
    assert call.deaths == 1


def test_a_call_that_its_client_drops_is_cancelled_until_its_worker_answers(world: World) -> None:
    world.call(A, b"id")
    call = the_call(world)
    world.core.clients.lost(A, "unreachable", world.now_s)
    world.flush()
    assert call.state is CANCELLED
    assert protocol.CANCEL in world.kinds_to(W1)
    world.answer(W1, call.number)
    assert call.state is ENDED


def test_a_stream_without_a_free_slot_is_failing_until_its_client_has_one(world: World) -> None:
    world.call(A, b"id", STREAM)
    call = the_call(world)
    world.answer(W1, call.number, "STREAM", "item")
    assert call.state is STREAMING
    world.core.workers.lost(W1, world.now_s)
    assert call.state is FAILING
    (reply,) = more(world, A, b"id", 1)
    assert reply.args[0] == "WorkerLost"
    assert call.state is ENDED
