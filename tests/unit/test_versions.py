"""Several versions of a model side by side: which one answers."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker.core.state.registry import Registry
from broker.http import metrics
from cluster.wire import protocol
from cluster.wire.protocol import ModelDescription, Version
from tests.unit.world import LIMITS, World, describe_model

A = b"client-a"
W1, W2, W3 = b"w1", b"w2", b"w3"
OLD, NEW = Version(0, 1), Version(0, 2)


def model(version: Version, **settings: Any) -> ModelDescription:
    return describe_model("m", version, max_batch_size=8, slots=100, **settings)


@pytest.fixture
def world() -> World:
    """One worker hosts the old version, another the new one."""
    made = World()
    made.join_with(W1, model(OLD))
    made.join_with(W2, model(NEW))
    made.to_workers.clear()
    return made


def calls_of(world: World, name: str, count: int) -> Counter[bytes]:
    """How many of so many calls each worker gets, if all are answered at once."""
    seen: Counter[bytes] = Counter()
    for i in range(count):
        world.call(A, b"%d" % i, name)
        for worker in (W1, W2, W3):
            for work in world.work_of(worker):
                seen[worker] += 1
                assert [reply.name for reply in world.answer(worker, work.number)] == ["OK"]
    return seen


def route(world: World, weights: dict[str, int]) -> list[dict[str, Any]]:
    (reply,) = world.ask("route_model", "m", weights)
    assert reply.name == "OK", reply
    rows: list[dict[str, Any]] = reply.args[0]
    return rows


def test_the_first_version_stays_the_default_and_each_has_a_name(world: World) -> None:
    assert calls_of(world, "m_predict", 3) == {W1: 3}
    assert calls_of(world, "m_v0_1_predict", 3) == {W1: 3}
    assert calls_of(world, "m_v0_2_predict", 3) == {W2: 3}
    world.assert_at_rest()


def test_work_names_the_procedure_with_the_version_and_the_event_stays_as_it_was(world: World) -> None:
    world.call(A, b"one")
    ((_, frames),) = [send for send in world.to_workers if send[1][0] == protocol.WORK]
    assert frames[1] == b"m_v0_1_predict"
    (work,) = world.work_of(W1)
    assert work.event[1] == "m_predict"


def test_a_split_deals_calls_out_by_weight_and_evenly_mixed(world: World) -> None:
    shares = {row["version"]: row["share"] for row in route(world, {"0.1": 90, "0.2": 10})}
    assert shares == {"0.1": 90, "0.2": 10}
    assert calls_of(world, "m_predict", 100) == {W1: 90, W2: 10}
    for _ in range(10):
        assert calls_of(world, "m_predict", 10) == {W1: 9, W2: 1}
    assert calls_of(world, "m_v0_2_predict", 2) == {W2: 2}


@pytest.mark.fault(61)
@pytest.mark.parametrize("args", [(), ("x", "y")])
def test_a_refused_call_takes_no_turn_of_a_split(world: World, args: tuple[str, ...]) -> None:
    route(world, {"0.1": 1, "0.2": 1})
    seen: Counter[bytes] = Counter()
    for _ in range(10):
        (refused,) = world.call(A, b"bad", "m_predict", args)
        assert refused.args[0] == "BadRequest"
        seen += calls_of(world, "m_predict", 1)
    assert seen == {W1: 5, W2: 5}


def test_a_version_whose_queue_is_full_leaves_the_turn_to_the_other() -> None:
    world = World()
    world.join_with(W1, describe_model("m", OLD))
    world.join_with(W2, describe_model("m", NEW))
    for client in (b"b", b"c"):
        for i in range(LIMITS.client_calls):
            world.call(client, b"%d" % i, "m_v0_1_predict")
    while not world.call(A, b"%d" % world.asked, "m_v0_1_predict"):
        world.asked += 1  # until its own part is full, too
    route(world, {"0.1": 1, "0.2": 1})
    names = [reply.args[0] for i in range(6) for reply in world.call(A, b"split %d" % i) if reply.name == "ERR"]
    assert names == ["ServerBusy"] * 3, "every other call waits for the other version"


def test_one_command_sends_everything_back(world: World) -> None:
    route(world, {"0.1": 1, "0.2": 1})
    route(world, {})
    assert calls_of(world, "m_predict", 4) == {W1: 4}


def test_one_weight_alone_makes_a_default(world: World) -> None:
    route(world, {"0.2": 1})
    assert calls_of(world, "m_predict", 4) == {W2: 4}
    route(world, {"0.1": 1, "0.2": 1})
    route(world, {})
    assert calls_of(world, "m_predict", 4) == {W2: 4}


def test_a_version_without_a_worker_gets_nothing_while_another_has_one(world: World) -> None:
    route(world, {"0.1": 1, "0.2": 1})
    world.core.workers.lost(W2, world.now_s)
    assert calls_of(world, "m_predict", 4) == {W1: 4}
    world.join_with(W3, model(NEW))
    assert calls_of(world, "m_predict", 4) == {W1: 2, W3: 2}
    world.core.workers.lost(W1, world.now_s)
    assert calls_of(world, "m_predict", 4) == {W3: 4}


def test_calls_that_wait_for_a_version_that_goes_are_answered_by_another() -> None:
    """As when an image with a new version replaces all workers."""
    world = World()
    world.join_with(W1, replace(model(OLD), slots=1, max_batch_size=1))
    for name in (b"running", b"first", b"second"):
        world.call(A, name)
    world.call(A, b"pinned", "m_v0_1_predict")
    (running,) = world.work_of(W1)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    world.call(A, b"between")
    world.join_with(W2, model(NEW))
    works = world.work_of(W2)
    assert [work.event[0]["message_id"] for work in works] == [b"running"], "which may be what the worker died of"
    world.answer(W2, works[0].number)
    waited = world.work_of(W2)
    assert [work.event[0]["message_id"] for work in waited] == [b"first", b"second", b"between"]
    assert running.number == works[0].number
    for work in waited:
        world.answer(W2, work.number)
    (refused,) = [reply for reply in world.pass_time(20) if reply.name == "ERR"]
    assert (refused.header["response_to"], refused.args[0]) == (b"pinned", "NoWorkers")
    world.assert_at_rest()


def test_streams_that_wait_are_moved_with_their_bytes() -> None:
    world = World()
    world.join_with(W1, model(OLD))
    world.core.workers.lost(W1, world.now_s)
    world.call(A, b"stream", "m_predict_stream")
    world.join_with(W2, model(NEW))
    (work,) = world.work_of(W2)
    world.answer(W2, work.number, "STREAM_DONE", None)
    world.assert_at_rest()


def test_where_no_version_has_a_worker_calls_are_given_time_for_one() -> None:
    world = World()
    world.join_with(W1, model(OLD))
    world.join_with(W2, model(NEW))
    world.core.workers.lost(W1, world.now_s)
    world.pass_time(60)
    world.core.workers.lost(W2, world.now_s)
    assert world.call(A, b"one") == []
    world.join_with(W3, model(NEW))
    assert len(world.work_of(W3)) == 1


def test_one_worker_may_host_two_versions() -> None:
    world = World()
    world.join_with(W1, model(OLD), model(NEW))
    world.call(A, b"one")
    world.call(A, b"two", "m_v0_2_predict")
    names = [frames[1] for _, frames in world.to_workers if frames[0] == protocol.WORK]
    assert names == [b"m_v0_1_predict", b"m_v0_2_predict"]


def test_introspection_shows_every_version(world: World) -> None:
    (models,) = world.call(A, b"1", "get_models", [])
    assert [(one["qualified_name"], one["minor_version"]) for one in models.args[0]] == [("m", 1), ("m", 2)]
    for name, minor in (("m", 1), ("m_v0_1", 1), ("m_v0_2", 2)):
        (metadata,) = world.call(A, name.encode(), "get_model_metadata", [name])
        assert metadata.args[0]["minor_version"] == minor
        assert metadata.args[0]["qualified_name"] == "m"
    (listed,) = world.call(A, b"2", "_zerorpc_list", [])
    assert {"m_predict", "m_v0_1_predict", "m_v0_2_predict", "m_v0_2_predict_stream"} <= set(listed.args[0])
    (unknown,) = world.call(A, b"3", "get_model_metadata", ["m_v0_3"])
    assert unknown.name == "ERR"


def test_metrics_tell_versions_apart_and_the_books_balance(world: World) -> None:
    route(world, {"0.1": 3, "0.2": 1})
    calls_of(world, "m_predict", 8)
    calls_of(world, "m_v0_2_predict", 1)
    by_version = {}
    by_method = {}
    for family in metrics.families(world.core):
        for sample in family.samples:
            if sample.name == "zerorpc_broker_version_requests_total" and sample.labels["outcome"] == "ok":
                by_version[sample.labels["version"]] = sample.value
            if sample.name == "zerorpc_broker_requests_total" and sample.labels["outcome"] == "ok":
                by_method[sample.labels["method"]] = sample.value
    assert by_version == {"0.1": 6, "0.2": 3}
    assert (by_method["m_predict"], by_method["m_v0_2_predict"]) == (8, 1)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"0.3": 1}, "m has no version 0.3; it has 0.1, 0.2"),
        ({"0.1": 0}, "at least one version should have a weight above 0"),
        ({"0.1": -1}, "0.1=-1: a weight should be a whole number up to"),
        ({"0.1": 1.5}, "a weight should be a whole number"),
        ({"new": 1}, "'new' is not a version: it should be two numbers, such as 0.1"),
        ([], "weights should be a map"),
    ],
)
def test_a_route_that_cannot_be_is_refused(world: World, weights: Any, says: str) -> None:
    (reply,) = world.ask("route_model", "m", weights)
    assert reply.name == "ERR"
    assert says in reply.args[1]
    (reply,) = world.ask("route_model", "n", {})
    assert "there is no model 'n'; there are m" in reply.args[1]
    assert calls_of(world, "m_predict", 2) == {W1: 2}


def test_a_name_with_a_version_in_it_belongs_to_one_model(world: World) -> None:
    taken = describe_model("m_v0_1", Version(1, 0))
    objection = world.core.registry.objection([taken])
    assert objection is not None
    assert "'m_v0_1_predict' is already that of model 'm'" in objection
    assert Registry([]).objection([model(OLD), taken]) is not None
    assert Registry([]).objection([model(OLD), model(NEW)]) is None
