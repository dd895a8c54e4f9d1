"""A model that no worker hosts any more is forgotten after a while, whole."""

from dataclasses import replace

import pytest

from broker.core.core import Core
from broker.core.deployment.forgetting import FORGET_AFTER_S, MOST_AT_ONCE
from broker.http import metrics
from cluster.wire.protocol import Version
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, World, describe_model

A = b"client-a"
W1, W2 = b"w1", b"w2"


def leave(world: World, worker: bytes) -> None:
    world.core.workers.lost(worker, world.now_s)
    world.flush()


def label_values(world: World) -> set[str]:
    samples = (sample for family in metrics.families(world.core) for sample in family.samples)
    return {value for sample in samples for value in sample.labels.values()}


def pass_hours(world: World) -> None:
    world.now_s += FORGET_AFTER_S
    world.pass_time(3.0, step_s=1.0)


@pytest.mark.fault(51)
def test_a_model_without_workers_leaves_every_table() -> None:
    world = World()
    world.join(W1, "m", "other")
    world.call(A, b"one")
    (work,) = world.work_of(W1)
    world.answer(W1, work.number)
    leave(world, W1)
    world.join(W2, "other")
    assert "m_predict" in label_values(world)
    world.now_s += FORGET_AFTER_S - 10.0
    world.pass_time(5.0, step_s=1.0)
    assert "m_predict" in world.core.registry.procedures
    pass_hours(world)
    registry = world.core.registry
    assert list(registry.models) == ["other"]
    assert not [name for name in registry.procedures if name.startswith("m_")]
    assert not [value for value in label_values(world) if value == "m" or value.startswith("m_")]
    assert len(world.core.calls.queues) <= 2, "only those of the other model"
    (reply,) = world.call(A, b"two")
    assert reply.args[0] == "NameError"
    world.join(W1, "m")
    world.call(A, b"three")
    assert len(world.work_of(W1)) == 1


@pytest.mark.fault(51)
def test_a_version_without_workers_leaves_its_counts_to_the_model() -> None:
    world = World()
    world.join_with(W1, describe_model("m", Version(0, 1)))
    world.call(A, b"one")
    (work,) = world.work_of(W1)
    world.answer(W1, work.number)
    world.join_with(W2, describe_model("m", Version(0, 2)))
    leave(world, W1)
    pass_hours(world)
    assert list(world.core.registry.models["m"].versions) == [Version(0, 2)]
    assert "m_v0_1_predict" not in label_values(world)
    assert world.outcomes()["ok"] == 1
    world.call(A, b"two")
    assert len(world.work_of(W2)) == 1


def test_a_model_that_an_administrator_has_routed_is_kept() -> None:
    world = World()
    world.join_with(W1, describe_model("m", Version(0, 1)))
    world.ask("route_model", "m", {"0.1": 1})
    leave(world, W1)
    pass_hours(world)
    assert "m_predict" in world.core.registry.procedures


def test_calls_that_wait_keep_their_model() -> None:
    limits = replace(LIMITS, no_worker_grace_s=10 * FORGET_AFTER_S, queue_timeout_s=10 * FORGET_AFTER_S)
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=limits))
    world.join(W1)
    leave(world, W1)
    world.call(A, b"waits")
    pass_hours(world)
    assert "m" in world.core.registry.models
    world.join(W2)
    assert len(world.work_of(W2)) == 1


def test_many_models_are_forgotten_some_at_a_time() -> None:
    world = World()
    world.join(W1, *(f"m{number}" for number in range(MOST_AT_ONCE)))
    world.join(W2, *(f"n{number}" for number in range(MOST_AT_ONCE)))
    leave(world, W1)
    leave(world, W2)
    world.now_s += FORGET_AFTER_S + 1.0
    world.core.tick(world.now_s)
    assert len(world.core.registry.models) == MOST_AT_ONCE
    world.core.tick(world.now_s + 1.0)
    assert not world.core.registry.models
