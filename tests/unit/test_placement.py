"""Models that come and go while the core runs."""

from typing import Any

import msgpack
import pytest

from broker.placement import Placed, Plan, Routed
from broker.routing import Core
from cluster import protocol
from cluster.descriptions import write_description
from cluster.protocol import ModelDescription, Version
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, Reply, World, describe, describe_model

A = b"client-a"
W1, W2, W3 = b"w1", b"w2", b"w3"
FIRST = Version(1, 0)
ENTRY = {"module_name": "new.model", "class_name": "New"}


def new_model(version: Version = FIRST, name: str = "new") -> ModelDescription:
    model = describe_model(name, version)
    model.entry.update(ENTRY)
    return model


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


def plan_of(world: World) -> Plan:
    plan = world.core.take_plan()
    assert plan is not None
    return plan


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
    assert plan_of(world).loaded == [Placed(ENTRY, [], "new", "1.0")]
    assert world.core.take_plan() is None
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
    assert reply.args[1] == "w1: no weights. Nothing else has changed"
    assert world.orders_of(W2, protocol.LOAD) == [], "which was never asked to"
    assert rows(world) == before
    assert world.core.take_plan() is None
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
    assert world.core.take_plan() is None
    world.assert_at_rest()


def test_a_worker_that_dies_of_a_model_takes_no_other_with_it(world: World) -> None:
    load(world)
    world.core.worker_lost(W1, world.now_s)
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
    world.core.worker_lost(W3, world.now_s)
    assert rows(world)["new", "1.0"]["troubles"] == []


def test_a_model_that_workers_die_of_is_not_loaded_for_ever(world: World) -> None:
    load_everywhere(world)
    for death in range(3):
        worker = b"again-%d" % death
        world.join(worker)
        order_of(world, worker, protocol.LOAD)
        world.core.worker_lost(worker, world.now_s)
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
    plan = Plan([Placed(ENTRY, [], "new", "1.0")], [("m", "1.2")], {"new": Routed("1.0", {"1.0": 1, "2.0": 1})})
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, plan=plan))
    world.join_with(W1, describe_model("m"), new_model(Version(2, 0)))
    unloaded(world, W1, b"m", b"1.2")
    loaded(world, W1)
    assert not is_callable(world, "m_predict")
    assert {key: row["share"] for key, row in rows(world).items()} == {("new", "1.0"): 50, ("new", "2.0"): 50}


def test_the_default_version_is_kept_when_a_second_one_is_loaded(world: World) -> None:
    load_everywhere(world, new_model(Version(3, 0), "m"))
    plan = plan_of(world)
    assert plan.routes == {"m": Routed("1.2", {})}
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
    assert plan_of(world).loaded == [Placed(ENTRY, [], "new", "1.0")]
    works = world.work_of(W1) + world.work_of(W2)
    world.answer(W1, works[0].number)
    world.answer(W2, works[0].number)
    world.assert_at_rest()


def test_a_model_is_loaded_anew_with_other_room(world: World) -> None:
    load_everywhere(world)
    world.call(A, b"one", "new_predict")
    (work,) = world.work_of(W1) + world.work_of(W2)
    roomier = describe_model("new", Version(1, 0), slots=3)
    load_everywhere(world, roomier)
    assert world.service("new").free == 6
    for worker in (W1, W2):
        world.answer(worker, work.number)
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
    assert answer(world).args[1] == "w1: no weights. Nothing else has changed"
    assert is_callable(world)
    world.ask("reload_model", "new", "1.0")
    loaded(world, W1)
    failed(world, W2)
    assert answer(world).args[1] == "w2: no weights. On 1 other worker(s) it is loaded"
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
    counts = {one.name: one.outcomes()["ok"] for one in world.core.catalogue.counted()}
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
    world.core.worker_lost(W2, world.now_s)
    world.flush()
    world.pass_time(0.25)
    assert answer(world).name == "OK"


def test_one_version_is_unloaded_beside_another(world: World) -> None:
    load_everywhere(world, new_model(Version(3, 0), "m"))
    (reply,) = world.ask("unload_model", "m", "")
    assert "m has the versions 1.2, 3.0: say which" in reply.args[1]
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
        (reply,) = world.ask(name, *args, message_id=name.encode())
        assert (reply.args[0], reply.args[1]) == ("Busy", "new.model:New is being loaded; wait for that, and try again")


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
        ("unload_model", [1, ""], "name should be a text, and not int"),
        ("reload_model", ["m", ""], "no ready worker hosts m 1.2 and can load it anew"),
        ("m_predict", ["x"], "'m_predict' is nothing that can be asked here; list_models, load_model"),
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
    load(world)
    world.pass_time(10)
    assert [reply.name for reply in world.admin_replies()] == ["_zpc_hb"] * 4
    beat = msgpack.packb([{"message_id": b"h", "v": 3, "response_to": b"id"}, "_zpc_hb", [0]])
    world.core.admin_message(b"admin", [b"", beat], world.now_s)
    (reply,) = world.admin_replies()
    assert (reply.name, reply.header["response_to"]) == ("_zpc_hb", b"id")
    world.core.admin_lost(b"admin")
    loaded(world, W1)
    loaded(world, W2)
    assert world.admin_replies() == []
    assert is_callable(world), "what was begun goes on"


def test_the_administrators_address_describes_itself(world: World) -> None:
    (reply,) = world.ask("_zerorpc_inspect")
    assert set(reply.args[0]["methods"]) == {
        "list_models",
        "load_model",
        "unload_model",
        "reload_model",
        "route_model",
    }


@pytest.mark.parametrize("frames", [[], [b""], [b"\xc1"], [b"", b"\x90"]])
def test_what_is_no_event_is_dropped(world: World, frames: list[bytes]) -> None:
    world.core.admin_message(b"admin", frames, world.now_s)
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
    assert "'m_v1_2_predict' is another model's already" in answer(world).args[1]
    unloaded(world, W1, b"m_v1_2", b"1.0")


def test_a_worker_that_cannot_load_is_not_asked_to(world: World) -> None:
    for worker in (W1, W2):
        world.core.worker_lost(worker, world.now_s)
    stranger = describe("stranger")
    object.__setattr__(stranger, "loads", False)
    world.join_as(b"stranger", stranger)
    (reply,) = world.ask("load_model", ENTRY, [])
    assert "no ready worker can load models" in reply.args[1]
