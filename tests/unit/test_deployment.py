"""Models that come and go while the core runs."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from broker.core.core import Core
from broker.core.state.plan import DeploymentPlan, LoadedModel, SavedRoute
from broker.http.slices import ask_directly
from broker.http.status import readiness
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import ModelDescription, Version
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, Reply, World, describe, describe_model

A = b"client-a"
W1, W2, W3 = b"w1", b"w2", b"w3"
FIRST = Version(1, 0)
ENTRY = {"module_name": "new.model", "class_name": "New"}


def new_model(version: Version = FIRST, name: str = "new", **settings: Any) -> ModelDescription:
    return describe_model(name, version, **{"entry": ENTRY, "is_configured": False, **settings})


@pytest.fixture
def world() -> World:
    made = World()
    made.join(W1)
    made.join(W2)
    made.to_workers.clear()
    return made


def order_of(world: World, worker: bytes, kind: bytes) -> list[bytes]:
    (order,) = world.orders_of(worker, kind)
    return order


def load(world: World, *workers: str, entry: dict[str, Any] = ENTRY) -> None:
    assert world.ask("load_model", entry, list(workers)) == []


def loaded(world: World, worker: bytes, model: ModelDescription | None = None) -> None:
    number, entry = order_of(world, worker, protocol.LOAD)
    assert msgpack.unpackb(entry) == ENTRY
    world.from_worker(worker, protocol.LOADED, number, write_description(model or new_model()))


def failed(world: World, worker: bytes, reason: bytes = b"no weights") -> None:
    number, _ = order_of(world, worker, protocol.LOAD)
    world.from_worker(worker, protocol.FAILED, number, reason)


def unloaded(world: World, worker: bytes, name: bytes = b"new", version: bytes = b"1.0") -> None:
    number, *key = order_of(world, worker, protocol.UNLOAD)
    assert key == [name, version]
    world.from_worker(worker, protocol.UNLOADED, number)


def answer(world: World) -> Reply:
    (reply,) = [reply for reply in world.admin_replies() if reply.name != "_zpc_hb"]
    return reply


def is_callable(world: World, name: str = "new_predict") -> bool:
    (reply,) = world.call(b"probe", b"probe", "_zerorpc_list", [])
    return name in reply.args[0]


def load_everywhere(world: World, model: ModelDescription | None = None, workers: tuple[bytes, ...] = (W1, W2)) -> None:
    load(world)
    for worker in workers:
        loaded(world, worker, model)
    assert answer(world).name == "OK"


def rows(world: World) -> dict[tuple[str, str], dict[str, Any]]:
    (reply,) = world.ask("list_models")
    return {(row["model"], row["version"]): row for row in reply.args[0]}


def plan_of(world: World) -> DeploymentPlan:
    plan = world.core.deployment.take_plan()
    assert plan is not None
    return plan


def test_a_configured_model_that_was_unloaded_is_named_everywhere() -> None:
    world = World()
    entry = {"module_name": "wine.model", "class_name": "Wine"}
    wine = describe_model("wine", FIRST, entry=entry, is_configured=True)
    world.join_with(W1, wine)
    world.ask("unload_model", "wine", "1.0")
    unloaded(world, W1, b"wine")
    assert answer(world).name == "OK"
    says = "scripts/models.py load wine.model:Wine brings it back"
    (reply,) = world.ask("reload_model", "wine", "")
    assert reply.args[1] == f"wine 1.0 was unloaded; {says}"
    world.join_with(W2, wine)
    row = rows(world)["wine", "1.0"]
    assert (row["state"], row["from"]) == ("unloaded", "wine.model:Wine")
    assert row["troubles"] == [f"it is configured and was unloaded: {says}"]
    assert readiness(world.core, ask_directly, []).withheld == ["wine 1.0"]
    notes = [note.text for note in world.core.outbox.take_notes()]
    assert notes.count("wine 1.0 is configured and was unloaded: workers do not host it") == 1
    load(world, entry=entry)
    for worker in (W1, W2):
        number, _ = order_of(world, worker, protocol.LOAD)
        world.from_worker(worker, protocol.LOADED, number, write_description(wine))
    assert readiness(world.core, ask_directly, []).withheld == []


# -- loading


def test_a_model_is_loaded_on_one_worker_first_and_can_be_called_from_then_on(world: World) -> None:
    assert not is_callable(world)
    load(world)
    assert world.orders_of(W2, protocol.LOAD) == [], "not before the first has it"
    loaded(world, W1)
    assert is_callable(world)
    loaded(world, W2)
    assert answer(world).args == [{"model": "new", "version": "1.0", "workers": ["w1", "w2"]}]
    assert rows(world)["new", "1.0"]["loaded"]
    assert plan_of(world).loaded == [LoadedModel(ENTRY, [], "new", "1.0")]
    assert world.core.deployment.take_plan() is None
    world.assert_at_rest()


def test_introspection_follows_at_once(world: World) -> None:
    (before,) = world.call(A, b"1", "get_service_schema", [])
    load(world)
    loaded(world, W1)
    (after,) = world.call(A, b"2", "get_service_schema", [])
    names = [{method["name"] for method in reply.args[0]["methods"]} for reply in (before, after)]
    assert {"new_predict", "new_v1_0_predict"} <= names[1] - names[0]


def test_a_model_is_loaded_on_some_workers(world: World) -> None:
    load(world, "w[2-9]")
    assert world.orders_of(W1, protocol.LOAD) == []
    loaded(world, W2)
    assert answer(world).args[0]["workers"] == ["w2"]
    world.join(W3)
    loaded(world, W3)
    world.join(b"other")
    assert world.orders_of(b"other", protocol.LOAD) == []


def test_a_model_that_fails_to_load_leaves_everything_as_it_was(world: World) -> None:
    before = rows(world)
    load(world)
    failed(world, W1)
    reply = answer(world)
    assert (reply.name, reply.args[0]) == ("ERR", "LoadFailed")
    assert reply.args[1] == "w1: no weights. Nothing has changed"
    assert world.orders_of(W2, protocol.LOAD) == [], "which was never asked to"
    assert rows(world) == before
    assert world.core.deployment.take_plan() is None
    assert not is_callable(world)


def test_a_model_that_fails_on_a_later_worker_leaves_the_first_when_its_calls_are_done(world: World) -> None:
    load(world)
    loaded(world, W1)
    world.call(A, b"one", "new_predict")
    (work,) = world.work_of(W1)
    failed(world, W2)
    assert not is_callable(world)
    assert world.orders_of(W1, protocol.UNLOAD) == [], "not while it has a call"
    assert [reply.name for reply in world.answer(W1, work.number)] == ["OK"]
    world.pass_time(0.25)
    unloaded(world, W1)
    assert "w2: no weights" in answer(world).args[1]
    assert ("new", "1.0") not in rows(world)
    assert world.core.deployment.take_plan() is None
    world.assert_at_rest()


def test_a_worker_that_dies_of_a_model_takes_no_other_with_it(world: World) -> None:
    load(world)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    assert "w1: it was lost while it loaded the model" in answer(world).args[1]
    assert world.orders_of(W2, protocol.LOAD) == []
    world.join(W3)
    assert world.orders_of(W3, protocol.LOAD) == []


def test_what_was_loaded_is_loaded_on_workers_that_come(world: World) -> None:
    load_everywhere(world)
    world.join(W3)
    loaded(world, W3)
    assert rows(world)["new", "1.0"]["workers"] == ["w1", "w2", "w3"]


def test_what_cannot_be_loaded_on_a_worker_that_comes_is_told(world: World) -> None:
    load_everywhere(world)
    world.join(W3)
    failed(world, W3)
    assert rows(world)["new", "1.0"]["troubles"] == ["w3: no weights"]
    world.core.workers.lost(W3, world.now_s)
    assert rows(world)["new", "1.0"]["troubles"] == []


def test_a_model_that_workers_die_of_is_not_loaded_for_ever(world: World) -> None:
    load_everywhere(world)
    for death in range(3):
        worker = b"again-%d" % death
        world.join(worker)
        order_of(world, worker, protocol.LOAD)
        world.core.workers.lost(worker, world.now_s)
        world.flush()
    world.join(b"last")
    assert world.orders_of(b"last", protocol.LOAD) == []
    assert "3 workers died while they loaded it" in rows(world)["new", "1.0"]["troubles"][0]


def test_a_worker_that_joins_meanwhile_gets_it_too(world: World) -> None:
    load(world)
    loaded(world, W1)
    world.join(W3)
    assert world.orders_of(W3, protocol.LOAD) == []
    loaded(world, W2)
    assert answer(world).name == "OK"
    loaded(world, W3)
    assert rows(world)["new", "1.0"]["workers"] == ["w1", "w2", "w3"]


def test_a_broker_that_comes_after_knows_what_was_loaded_and_routed() -> None:
    plan = DeploymentPlan(
        [LoadedModel(ENTRY, [], "new", "1.0")], [("m", "1.2")], {"new": SavedRoute("1.0", {"1.0": 1, "2.0": 1})}
    )
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, plan=plan))
    world.join_with(W1, describe_model("m"), new_model(Version(2, 0)))
    unloaded(world, W1, b"m", b"1.2")
    loaded(world, W1)
    assert not is_callable(world, "m_predict")
    shown = {key: (row["state"], row["share"]) for key, row in rows(world).items()}
    assert shown == {("m", "1.2"): ("unloaded", 0), ("new", "1.0"): ("ready", 50), ("new", "2.0"): ("ready", 50)}


def test_the_default_version_is_kept_when_a_second_one_is_loaded(world: World) -> None:
    load_everywhere(world, new_model(Version(3, 0), "m"))
    plan = plan_of(world)
    assert plan.routes == {"m": SavedRoute("1.2", {}, is_automatic=True)}
    after = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, plan=plan))
    after.join_with(W1, new_model(Version(3, 0), "m"))
    after.join(W2)
    shares = {key: row["share"] for key, row in rows(after).items()}
    assert shares == {("m", "1.2"): 100, ("m", "3.0"): 0}


def test_loading_what_is_there_loads_it_anew(world: World) -> None:
    load_everywhere(world)
    plan_of(world)
    world.call(A, b"one", "new_predict")
    load_everywhere(world)
    assert plan_of(world).loaded == [LoadedModel(ENTRY, [], "new", "1.0")]
    works = world.work_of(W1) + world.work_of(W2)
    world.answer(W1, works[0].number)
    world.answer(W2, works[0].number)
    world.assert_at_rest()


def test_a_model_is_loaded_anew_with_other_room(world: World) -> None:
    load_everywhere(world)
    world.call(A, b"one", "new_predict")
    (work,) = world.work_of(W1) + world.work_of(W2)
    load_everywhere(world, new_model(slots=3))
    assert world.pool("new").free == 5, "one is taken"
    load_everywhere(world, new_model(slots=1))
    assert world.pool("new").free == 1
    load_everywhere(world, new_model(slots=2))
    for worker in (W1, W2):
        world.answer(worker, work.number)
    assert world.pool("new").free == 4
    world.assert_at_rest()


def test_a_model_that_was_loaded_anew_with_less_room_is_unloaded_when_all_its_calls_are_done(world: World) -> None:
    load_everywhere(world, new_model(slots=2))
    for i in range(4):
        world.call(A, b"%d" % i, "new_predict")
    works = [(worker, work) for worker in (W1, W2) for work in world.work_of(worker)]
    assert len(works) == 4
    load_everywhere(world, new_model(slots=1))
    world.ask("unload_model", "new", "")
    for worker, work in works:
        world.pass_time(0.25)
        assert world.orders_of(W1, protocol.UNLOAD) + world.orders_of(W2, protocol.UNLOAD) == []
        world.answer(worker, work.number)
    world.pass_time(0.25)
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).name == "OK"
    world.assert_at_rest()


def test_reload_asks_every_worker_that_hosts_the_model_for_its_own_entry(world: World) -> None:
    load_everywhere(world)
    assert world.ask("reload_model", "new", "") == []
    loaded(world, W1)
    loaded(world, W2)
    assert answer(world).args[0]["workers"] == ["w1", "w2"]


def test_what_cannot_be_loaded_anew_stays_as_it_is(world: World) -> None:
    load_everywhere(world)
    world.ask("reload_model", "new", "1.0")
    failed(world, W1)
    assert answer(world).args[1] == "w1: no weights. Nothing has changed"
    assert is_callable(world)
    world.ask("reload_model", "new", "1.0")
    loaded(world, W1)
    failed(world, W2)
    assert answer(world).args[1] == "w2: no weights. It was loaded again on w1"
    assert is_callable(world)


# -- unloading


def test_a_model_is_unloaded_when_its_calls_are_done(world: World) -> None:
    load_everywhere(world)
    for i in range(5):
        world.call(A, b"%d" % i, "new_predict")
    assert world.ask("unload_model", "new", "") == []
    assert not is_callable(world), "from now on"
    done = 0
    while works := [(worker, work) for worker in (W1, W2) for work in world.work_of(worker)]:
        world.pass_time(0.25)
        assert world.orders_of(W1, protocol.UNLOAD) + world.orders_of(W2, protocol.UNLOAD) == []
        for worker, work in works:
            assert [reply.name for reply in world.answer(worker, work.number)] == ["OK"]
            done += 1
    assert done == 5
    world.pass_time(0.25)
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).args == [{"model": "new", "version": "1.0"}]
    assert ("new", "1.0") not in rows(world)
    world.assert_at_rest()


def test_an_idle_model_is_unloaded_at_once_and_what_was_counted_stays(world: World) -> None:
    load_everywhere(world)
    world.call(A, b"one", "new_predict")
    for worker in (W1, W2):
        for work in world.work_of(worker):
            world.answer(worker, work.number)
    world.ask("unload_model", "new", "1.0")
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).name == "OK"
    counts = {one.name: one.all_outcomes()["ok"] for one in world.core.registry.counted()}
    assert counts["new_predict"] == 1
    load_everywhere(world)
    assert is_callable(world)


def test_a_configured_model_that_was_unloaded_stays_away_from_workers_that_come(world: World) -> None:
    world.ask("unload_model", "m", "")
    unloaded(world, W1, b"m", b"1.2")
    unloaded(world, W2, b"m", b"1.2")
    assert answer(world).name == "OK"
    assert plan_of(world).unloaded == [("m", "1.2")]
    world.join(W3)
    unloaded(world, W3, b"m", b"1.2")
    assert not is_callable(world, "m_predict")
    load_everywhere(world, new_model(Version(1, 2), "m"), (W1, W2, W3))
    assert plan_of(world).unloaded == []
    assert is_callable(world, "m_predict")


def test_a_worker_lost_while_it_unloads_is_waited_for_no_longer(world: World) -> None:
    load_everywhere(world)
    world.ask("unload_model", "new", "")
    unloaded(world, W1)
    world.core.workers.lost(W2, world.now_s)
    world.flush()
    world.pass_time(0.25)
    assert answer(world).name == "OK"


def test_one_version_is_unloaded_beside_another(world: World) -> None:
    load_everywhere(world, new_model(Version(3, 0), "m"))
    (reply,) = world.ask("unload_model", "m", "")
    assert "m has the versions 1.2, 3.0: name one of them" in reply.args[1]
    world.ask("route_model", "m", {"1.2": 1, "3.0": 1})
    world.ask("unload_model", "m", "1.2")
    unloaded(world, W1, b"m", b"1.2")
    unloaded(world, W2, b"m", b"1.2")
    world.admin_replies()
    assert rows(world)["m", "3.0"]["share"] == 100
    assert is_callable(world, "m_predict")
    assert not is_callable(world, "m_v1_2_predict")


# -- what is asked


def test_there_is_one_change_at_a_time(world: World) -> None:
    load(world)
    for name, args in (
        ("load_model", (ENTRY, [])),
        ("unload_model", ("m", "")),
    ):
        (reply,) = world.ask(name, *args)
        assert reply.args[0] == "Busy"
        assert reply.args[1] == "new.model:New is being loaded on w1; try again after that, or cancel it"


def test_what_takes_for_ever_can_be_cancelled(world: World) -> None:
    load(world)
    loaded(world, W1)
    assert world.ask("cancel_load")[0].args == ["new.model:New is being loaded"]
    unloaded(world, W1)
    assert "w2: the load was cancelled; restart the worker" in answer(world).args[1]
    number, _ = order_of(world, W2, protocol.LOAD)
    world.from_worker(W2, protocol.LOADED, number, write_description(new_model()))
    unloaded(world, W2)
    assert not is_callable(world)
    (reply,) = world.ask("cancel_load")
    assert reply.args[1] == "no model is being loaded"


def test_what_is_loaded_too_late_stays_where_it_took_the_place_of_a_model_with_calls() -> None:
    world = World()
    world.join_with(W1, new_model(is_configured=True))
    load(world)
    number, _ = order_of(world, W1, protocol.LOAD)
    (failure,) = [reply for reply in world.ask("cancel_load") if reply.name == "ERR"]
    assert failure.args[1].endswith("restart the worker if it never ends. Nothing has changed")
    world.call(A, b"one", "new_predict")
    (work,) = world.work_of(W1)
    world.from_worker(W1, protocol.LOADED, number, write_description(new_model()))
    assert world.orders_of(W1, protocol.UNLOAD) == []
    assert [reply.name for reply in world.answer(W1, work.number)] == ["OK"]


def test_a_stream_without_end_holds_up_its_own_model_only(world: World) -> None:
    load_everywhere(world)
    world.call(A, b"stream", "new_predict_stream")
    world.ask("unload_model", "new", "")
    (reply,) = world.ask("unload_model", "new", "")
    assert "there is no model 'new'" in reply.args[1]
    other = new_model(name="other", entry={"module_name": "other", "class_name": "Other"})
    assert world.ask("load_model", other.entry, []) == []
    for worker in (W1, W2):
        number, _ = order_of(world, worker, protocol.LOAD)
        world.from_worker(worker, protocol.LOADED, number, write_description(other))
    assert answer(world).args[0]["model"] == "other"
    assert rows(world)["new", "1.0"]["state"] == "unloading"


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("load_model", ["x", []], "the entry should be a map"),
        ("load_model", [{}, []], "the entry lacks 'module_name'"),
        ("load_model", [ENTRY, "all"], "workers should be a list"),
        ("load_model", [ENTRY, ["gpu-*"]], "no ready worker that can load models matches 'gpu-*'; there are 127.0.0.1"),
        ("load_model", [ENTRY], "load_model(entry, workers) takes 2 argument(s), 1 given"),
        ("unload_model", ["n", ""], "there is no model 'n'; there are m"),
        ("unload_model", ["m", "2.0"], "m has no version 2.0; it has 1.2"),
        ("unload_model", [1, ""], "name should be a string, not int"),
        ("reload_model", ["m", ""], "no ready worker hosts m 1.2 and can load it again"),
        ("m_predict", ["x"], "'m_predict' is not a procedure for administrators; there are list_models, list_clients"),
        ("load_model", [{**ENTRY, "x": "y" * 70_000}, []], "the arguments have more than 65536 bytes"),
    ],
)
def test_what_cannot_be_done_is_refused(world: World, name: str, args: list[Any], says: str) -> None:
    (reply,) = world.ask(name, *args)
    assert reply.name == "ERR"
    assert says in reply.args[1]
    assert world.to_workers == []


def test_nothing_of_this_can_be_asked_by_clients(world: World) -> None:
    for name in ("list_models", "load_model", "unload_model", "reload_model", "route_model"):
        (reply,) = world.call(A, name.encode(), name, [])
        assert reply.args[0] == "NameError"


def test_who_waits_for_a_change_gets_heartbeats(world: World) -> None:
    assert world.ask("load_model", ENTRY, [], message_id=b"id") == []
    world.pass_time(10)
    assert [reply.name for reply in world.admin_replies()] == ["_zpc_hb"] * 4
    beat = msgpack.packb([{"message_id": b"h", "v": 3, "response_to": b"id"}, "_zpc_hb", [0]])
    world.core.admin.message(b"admin", [b"", beat], world.now_s)
    (reply,) = world.admin_replies()
    assert (reply.name, reply.header["response_to"]) == ("_zpc_hb", b"id")
    world.core.admin.client_lost(b"admin")
    loaded(world, W1)
    loaded(world, W2)
    assert world.admin_replies() == []
    assert is_callable(world), "what was begun goes on"


def test_the_administrators_address_describes_itself(world: World) -> None:
    (reply,) = world.ask("_zerorpc_inspect")
    assert set(reply.args[0]["methods"]) == {
        "list_models",
        "list_clients",
        "load_model",
        "unload_model",
        "reload_model",
        "route_model",
        "cancel_load",
    }


@pytest.mark.parametrize("frames", [[], [b""], [b"\xc1"], [b"", b"\x90"]])
def test_what_is_no_event_is_dropped(world: World, frames: list[bytes]) -> None:
    world.core.admin.message(b"admin", frames, world.now_s)
    assert world.admin_replies() == []


# -- workers that say what they should not


def test_a_model_that_nobody_asked_for_is_sent_back(world: World) -> None:
    world.from_worker(W1, protocol.LOADED, bytes(8), write_description(new_model()))
    unloaded(world, W1)
    assert not is_callable(world)


@pytest.mark.parametrize("kind", [protocol.LOADED, protocol.FAILED, protocol.UNLOADED])
def test_an_answer_without_its_parts_is_a_bad_frame(world: World, kind: bytes) -> None:
    world.from_worker(W1, kind)
    assert world.core.counters.bad_frames["worker_protocol"] == 1


def test_a_model_that_cannot_be_read_or_takes_anothers_name_was_not_loaded(world: World) -> None:
    load(world)
    number, _ = order_of(world, W1, protocol.LOAD)
    world.from_worker(W1, protocol.LOADED, number, b"\xc1")
    assert "LOADED cannot be read as msgpack" in answer(world).args[1]
    load(world)
    loaded(world, W1, describe_model("m_v1_2", Version(1, 0)))
    assert "'m_v1_2_predict' is already that of model 'm'" in answer(world).args[1]
    unloaded(world, W1, b"m_v1_2", b"1.0")


def test_a_worker_that_cannot_load_is_not_asked_to(world: World) -> None:
    for worker in (W1, W2):
        world.core.workers.lost(worker, world.now_s)
    stranger = describe("stranger")
    object.__setattr__(stranger, "loads", False)
    world.join_as(b"stranger", stranger)
    (reply,) = world.ask("load_model", ENTRY, [])
    assert "no ready worker that can load models; there are none" in reply.args[1]


# -- orders of events that are rare


def test_what_is_unloaded_while_a_worker_loads_it_stays_away(world: World) -> None:
    load_everywhere(world)
    world.join(W3)
    world.ask("unload_model", "new", "")
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).name == "OK"
    loaded(world, W3)
    unloaded(world, W3)
    assert not is_callable(world)
    assert plan_of(world) == DeploymentPlan()


def test_a_worker_that_is_still_to_load_what_it_should_says_so(world: World) -> None:
    load_everywhere(world)
    world.join(W3)
    workers = {
        one.description.id: world.core.deployment.pending_loads(one) for one in world.core.registry.workers.values()
    }
    assert workers == {"w1": [], "w2": [], "w3": ["new.model:New"]}
    loaded(world, W3)
    assert world.core.deployment.pending_loads(world.core.registry.workers[W3]) == []
    assert world.core.deployment.expected_models() == {"new"}


def test_a_worker_that_cannot_unload_is_not_waited_for(world: World) -> None:
    simple = replace(describe("simple", "plain"), loads=False)
    world.join_as(b"simple", simple)
    (reply,) = world.ask("unload_model", "plain", "")
    assert reply.name == "OK"
    assert not is_callable(world, "plain_predict")
    world.core.workers.lost(b"simple", world.now_s)
    world.flush()
    world.join_as(b"again", replace(simple, id="again"))
    assert not is_callable(world, "plain_predict")


def test_a_worker_that_joins_while_a_load_is_undone_costs_nobody_the_model(world: World) -> None:
    world.core.workers.lost(W2, world.now_s)
    world.join(W2, "other")
    entry = {"module_name": "m", "class_name": "M"}
    model = describe_model("m", entry=entry)
    assert world.ask("load_model", entry, []) == []
    for worker in (W1, W2):
        (order,) = world.orders_of(worker, protocol.LOAD)
        if worker == W1:
            world.from_worker(worker, protocol.LOADED, order[0], write_description(model))
            world.join(W3, "third")  # which is not told
        else:
            world.from_worker(worker, protocol.FAILED, order[0], b"no")
    assert "w2: no. It was loaded again on w1" in answer(world).args[1]
    world.join(b"w4")
    assert is_callable(world, "m_predict")
    assert rows(world)["m", "1.2"]["state"] == "ready"
    assert rows(world)["m", "1.2"]["workers"] == ["w1", "w4"]


def test_a_partial_undo_is_not_the_end_of_the_model_for_those_who_join() -> None:
    world = World()
    configured = new_model(name="m", is_configured=True)
    world.join_with(W1, configured)
    world.join(W2, "other")
    world.join(W3, "third")
    load(world)
    for worker in (W1, W2):
        loaded(world, worker, new_model(name="m"))
    for i in range(2):
        world.call(A, b"%d" % i, "m_predict")
    works = {worker: world.work_of(worker) for worker in (W1, W2)}
    failed(world, W3)
    assert world.orders_of(W2, protocol.UNLOAD) == [], "it still has a call"
    world.join_with(b"w4", configured)
    assert is_callable(world, "m_predict")
    for worker, (work,) in works.items():
        world.answer(worker, work.number)
    world.pass_time(0.25)
    unloaded(world, W2, b"m")
    assert "w3: no weights. It was loaded again on w1" in answer(world).args[1]
    assert rows(world)["m", "1.0"]["workers"] == ["w1", "w4"]
    assert is_callable(world, "m_predict")
    world.assert_at_rest()


def test_a_new_version_that_came_by_a_reload_is_loaded_on_workers_that_come(world: World) -> None:
    load_everywhere(world)
    world.ask("reload_model", "new", "")
    for worker in (W1, W2):
        loaded(world, worker, new_model(Version(1, 1)))
    assert answer(world).args[0]["version"] == "1.1"
    world.ask("route_model", "new", {"1.1": 1})
    world.ask("unload_model", "new", "1.0")
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).name == "OK"
    assert [placed.version for placed in plan_of(world).loaded] == ["1.1"]
    world.join(W3)
    loaded(world, W3, new_model(Version(1, 1)))
    assert rows(world)["new", "1.1"]["workers"] == ["w1", "w2", "w3"]


def test_two_loads_on_some_workers_hold_for_both(world: World) -> None:
    load(world, "w1")
    loaded(world, W1)
    assert answer(world).name == "OK"
    load(world, "w2")
    loaded(world, W2)
    assert answer(world).name == "OK"
    assert plan_of(world).loaded == [LoadedModel(ENTRY, ["w1", "w2"], "new", "1.0")]


def test_two_classes_cannot_be_one_version_of_a_model_on_different_workers(world: World) -> None:
    load(world, "w1")
    loaded(world, W1)
    assert answer(world).name == "OK"
    other = {"module_name": "other", "class_name": "Other"}
    load(world, "w2", entry=other)
    number, _ = order_of(world, W2, protocol.LOAD)
    world.from_worker(W2, protocol.LOADED, number, write_description(new_model(entry=other)))
    assert "new 1.0 is new.model:New on other workers: rename the model" in answer(world).args[1]
    unloaded(world, W2)


def test_workers_with_different_code_are_told_apart(world: World) -> None:
    load(world)
    loaded(world, W1)
    loaded(world, W2, new_model(Version(1, 1)))
    unloaded(world, W1)
    unloaded(world, W2, b"new", b"1.1")
    assert "w2: it is new 1.1 on this worker, but new 1.0 on others" in answer(world).args[1]
    assert not is_callable(world)


def test_settings_that_a_configured_model_was_loaded_with_hold_after_a_restart() -> None:
    world = World()
    configured = new_model(name="m", is_configured=True)
    world.join_with(W1, configured)
    roomy = {**ENTRY, "slots": 3}
    load(world, entry=roomy)
    number, _ = order_of(world, W1, protocol.LOAD)
    world.from_worker(W1, protocol.LOADED, number, write_description(new_model(name="m", entry=roomy, slots=3)))
    assert answer(world).name == "OK"
    world.join_with(W2, configured)
    _, entry = order_of(world, W2, protocol.LOAD)
    assert msgpack.unpackb(entry) == roomy


def test_settings_are_those_of_the_last_load(world: World) -> None:
    for timeout_s in (20, 60):
        entry = {**ENTRY, "timeout_s": timeout_s}
        load(world, entry=entry)
        for worker in (W1, W2):
            number, _ = order_of(world, worker, protocol.LOAD)
            model = new_model(entry=entry, timeout_s=float(timeout_s))
            world.from_worker(worker, protocol.LOADED, number, write_description(model))
        assert answer(world).name == "OK"
    world.ask("reload_model", "new", "")
    _, entry_again = order_of(world, W1, protocol.LOAD)
    assert msgpack.unpackb(entry_again)["timeout_s"] == 60


def test_a_load_that_fails_does_not_bring_back_what_was_unloaded(world: World) -> None:
    world.ask("unload_model", "m", "")
    unloaded(world, W1, b"m", b"1.2")
    unloaded(world, W2, b"m", b"1.2")
    assert answer(world).name == "OK"
    load(world)
    loaded(world, W1, new_model(Version(1, 2), "m"))
    failed(world, W2)
    unloaded(world, W1, b"m", b"1.2")
    assert "w2: no weights" in answer(world).args[1]
    world.join(W3)
    unloaded(world, W3, b"m", b"1.2")
    assert not is_callable(world, "m_predict")


def test_a_model_that_nobody_can_load_any_more_can_be_taken_out_of_the_plan() -> None:
    world = World(
        core=Core(
            max_message_bytes=MAX_MESSAGE_BYTES,
            limits=LIMITS,
            plan=DeploymentPlan([LoadedModel(ENTRY, [], "new", "1.0")]),
        )
    )
    world.join(W1)
    failed(world, W1)
    assert rows(world)["new", "1.0"]["state"] == "no worker"
    (reply,) = world.ask("unload_model", "new", "")
    assert reply.name == "OK"
    assert plan_of(world) == DeploymentPlan()
    world.join(W2)
    assert world.orders_of(W2, protocol.LOAD) == []


def test_only_a_death_in_its_own_loading_counts_against_a_model(world: World) -> None:
    load_everywhere(world)
    other = {"module_name": "other", "class_name": "Other"}
    load(world, entry=other)
    for worker in (W1, W2):
        number, _ = order_of(world, worker, protocol.LOAD)
        world.from_worker(worker, protocol.LOADED, number, write_description(new_model(name="other", entry=other)))
    for death in range(3):
        worker = b"again-%d" % death
        world.join(worker)
        assert len(world.orders_of(worker, protocol.LOAD)) == 2
        world.core.workers.lost(worker, world.now_s)
        world.flush()
    for leaving in range(3):
        worker = b"leaving-%d" % leaving
        world.join(worker)
        assert len(world.orders_of(worker, protocol.LOAD)) == 1, "the first is suspected, the other is not"
        world.from_worker(worker, protocol.BYE)
    world.join(b"last")
    (order,) = world.orders_of(b"last", protocol.LOAD)
    assert msgpack.unpackb(order[1]) == other


@pytest.mark.parametrize("name", ["m", "new"])
def test_a_load_that_fails_after_its_first_worker_has_left_leaves_nothing_callable(world: World, name: str) -> None:
    if name == "m":  # it was hosted, and is unloaded; the other model was never hosted
        world.ask("unload_model", "m", "")
        unloaded(world, W1, b"m", b"1.2")
        unloaded(world, W2, b"m", b"1.2")
        assert answer(world).name == "OK"
    load(world)
    loaded(world, W1, new_model(Version(1, 2), name))
    assert is_callable(world, f"{name}_predict")
    world.from_worker(W1, protocol.DRAIN)
    failed(world, W2)
    assert "w2: no weights" in answer(world).args[1]
    assert not is_callable(world, f"{name}_predict")
    world.assert_at_rest()


def test_a_worker_that_leaves_in_good_order_does_not_fail_a_load(world: World) -> None:
    load(world)
    world.from_worker(W1, protocol.BYE)
    loaded(world, W2)
    assert answer(world).args[0]["workers"] == ["w2"]
    load(world)
    world.from_worker(W2, protocol.BYE)
    assert "every worker that was to load the model has left" in answer(world).args[1]


def test_a_share_that_is_free_goes_to_the_version_with_the_largest(world: World) -> None:
    load_everywhere(world, new_model(Version(1, 3), "m"))
    world.ask("route_model", "m", {"1.2": 90, "1.3": 10})
    load_everywhere(world, new_model(Version(1, 4), "m"))
    world.ask("unload_model", "m", "1.2")
    assert {key[1]: row["share"] for key, row in rows(world).items() if row["state"] == "ready"} == {
        "1.3": 100,
        "1.4": 0,
    }


def test_a_version_that_comes_back_does_not_take_the_calls_of_its_successor(world: World) -> None:
    load_everywhere(world)
    world.ask("unload_model", "new", "")
    unloaded(world, W1)
    unloaded(world, W2)
    assert answer(world).name == "OK"
    load_everywhere(world, new_model(Version(2, 0)))
    load_everywhere(world)
    assert {key[1]: row["share"] for key, row in rows(world).items() if key[0] == "new"} == {"1.0": 0, "2.0": 100}


def test_which_version_stands_in_does_not_change_while_it_can() -> None:
    world = World()
    for worker, minor in ((W1, 1), (W2, 2)):
        world.join_with(worker, describe_model("m", Version(0, minor)))
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    world.join_with(W3, describe_model("m", Version(0, 3)))
    assert {key[1]: row["share"] for key, row in rows(world).items()} == {"0.1": 0, "0.2": 100, "0.3": 0}
    world.join_with(W1, describe_model("m", Version(0, 1)))
    assert {key[1]: row["share"] for key, row in rows(world).items()} == {"0.1": 100, "0.2": 0, "0.3": 0}


def test_refusals_count_for_the_version_that_the_call_went_to() -> None:
    world = World()
    world.join_with(W1, describe_model("m", Version(0, 1)))
    for i in range(13):
        world.call(A, b"%d" % i)
    target = world.core.registry.procedures["m_predict"].target
    assert target is not None
    assert target.outcomes["busy"] == 2


@pytest.mark.parametrize("value", [b"2", [2], {"a": 1}])
def test_an_entry_holds_what_a_file_can(world: World, value: object) -> None:
    (reply,) = world.ask("load_model", {**ENTRY, "slots": value}, [])
    assert "the entry's 'slots' should be a string, number or boolean" in reply.args[1]
