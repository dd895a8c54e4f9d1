"""What a worker brings at registration holds for it alone, and goes when it goes."""

from dataclasses import replace

import pytest

from broker.core.handlers.registration import MODELS_PER_TURN
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import ModelDescription, ProcedureDescription
from tests.unit.world import World, describe, describe_model

A = b"client-a"
W1, W2 = b"w1", b"w2"


@pytest.fixture
def world() -> World:
    made = World()
    made.join(W1)
    return made


@pytest.mark.fault(49)
def test_the_times_of_a_worker_hold_for_its_own_calls_only(world: World) -> None:
    world.join(W2, timeout_s=1.0, slots=2)  # it has more free capacity, so it gets the first call
    world.call(A, b"short")
    world.call(A, b"long")
    assert (len(world.work_of(W1)), len(world.work_of(W2))) == (1, 1)
    replies = world.pass_time(2.5)
    assert [reply.args[0] for reply in replies if reply.name == "ERR"] == ["DeadlineExceeded"]
    assert len(world.core.calls) == 1


@pytest.mark.fault(49)
def test_a_worker_that_waits_for_batches_delays_the_calls_of_no_other(world: World) -> None:
    world.join(W2, batch_wait_ms=60_000.0, max_batch_size=8)
    world.core.workers.lost(W2, world.now_s)
    world.flush()
    world.call(A, b"one")
    assert len(world.work_of(W1)) == 1


@pytest.mark.fault(49)
def test_whether_a_call_may_be_retried_is_up_to_the_worker_that_had_it(world: World) -> None:
    world.join(W2, retry=False, slots=2)
    world.call(A, b"one")
    assert len(world.work_of(W2)) == 1
    world.join(b"w3", retry=True)
    world.core.workers.lost(W2, world.now_s)
    (reply,) = world.flush()
    assert reply.args[0] == "WorkerLost"


@pytest.mark.fault(49)
def test_a_pool_is_as_small_again_as_before_a_large_worker_came(world: World) -> None:
    world.join(W2, slots=protocol.MAX_CAPACITY)
    world.core.workers.lost(W2, world.now_s)
    pool = world.pool("m")
    assert pool.free == 1
    assert set(pool._by_free) == {1}
    assert pool._highest == 1


def with_procedures(description: ModelDescription, *names: str, doc: str = "Other.") -> ModelDescription:
    return replace(description, procedures=[ProcedureDescription(name, doc, ["data"]) for name in names])


def test_the_description_of_a_worker_goes_with_it(world: World) -> None:
    model = replace(with_procedures(describe_model("m"), "m_predict", "m_extra"), description="Another text.")
    world.join_with(W2, model)
    registry = world.core.registry
    assert {"m_extra", "m_v1_2_extra"} <= set(registry.procedures)
    assert registry.procedures["m_predict"].doc == "Other."
    world.core.workers.lost(W2, world.now_s)
    assert not {"m_extra", "m_v1_2_extra"} & set(registry.procedures)
    assert registry.procedures["m_predict"].doc == "Predict with m."
    assert world.pool("m").model.description == "The m model."
    (reply,) = world.call(A, b"one", "m_extra")
    assert reply.args[0] == "NameError"


def test_a_procedure_stays_while_one_worker_has_it(world: World) -> None:
    model = with_procedures(describe_model("m"), "m_predict", "m_extra")
    world.join_with(W2, model)
    world.join_with(b"w3", model)
    world.join(b"w4")
    world.core.workers.lost(W2, world.now_s)
    assert "m_extra" in world.core.registry.procedures
    world.core.workers.lost(b"w3", world.now_s)
    assert "m_extra" not in world.core.registry.procedures


def test_an_unload_closes_the_procedures_that_only_one_worker_has(world: World) -> None:
    world.join_with(W2, with_procedures(describe_model("m"), "m_predict", "m_extra"))
    world.join(b"w3")
    world.ask("unload_model", "m", "")
    assert not [name for name in world.core.registry.procedures if name.startswith("m_")]
    (reply,) = world.call(A, b"one", "get_service_schema", [])
    assert reply.name == "OK"


@pytest.mark.fault(58)
def test_many_models_are_registered_some_at_each_turn() -> None:
    world = World()
    names = [f"m{number}" for number in range(3 * MODELS_PER_TURN)]
    body = write_description(describe("w1", *names))
    world.core.workers.message(W1, [protocol.READY, body], world.now_s)
    assert len(world.core.registry.models) == MODELS_PER_TURN
    assert world.core.dispatch(world.now_s) == world.now_s, "the next turn follows at once"
    assert len(world.core.registry.models) == 2 * MODELS_PER_TURN
    world.flush()
    while world.core.dispatch(world.now_s) == world.now_s:
        pass
    assert list(world.core.registry.models) == names
    world.call(A, b"one", f"{names[-1]}_predict")
    assert len(world.work_of(W1)) == 1


def test_a_worker_that_is_lost_while_it_registers_leaves_nothing() -> None:
    world = World()
    body = write_description(describe("w1", *(f"m{number}" for number in range(3 * MODELS_PER_TURN))))
    world.core.workers.message(W1, [protocol.READY, body], world.now_s)
    world.core.workers.lost(W1, world.now_s)
    assert world.core.dispatch(world.now_s) > world.now_s
    assert len(world.core.registry.models) == MODELS_PER_TURN
    assert not any(pool.replicas for pool in world.core.registry.all_pools())
