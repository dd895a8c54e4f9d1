"""Stock servers that connect: what the broker asks them, what it offers of them, and whom it refuses."""

from typing import Any

import msgpack
import pytest

from broker.core.core import Core
from broker.core.handlers.introductions import ANSWER_TIMEOUT_S, DOCS_AT_ONCE
from broker.core.state.access import AccessRules, Patterns
from broker.core.state.services import FORGET_AFTER_S, MAX_METHODS, REPLACED_AFTER_S, ServerRules
from cluster.wire import methods
from tests.unit.stock_server import Received, StockServer
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, VERSION, World

C1 = b"client-1"
INSPECTION = {
    "name": "Tools",
    "methods": {
        "add": {"doc": "  Add two numbers. ", "args": [{"name": "a"}, {"name": "b"}]},
        "count": {"doc": None, "args": ["upto"]},
    },
}


@pytest.fixture
def world() -> World:
    return World()


def notes(world: World) -> str:
    return "\n".join(text for text, *_ in world.core.outbox.take_notes())


def introduced(server: StockServer, **answers: Any) -> None:
    """Have a server connect that answers these questions; nothing else."""
    server.connect()
    while questions := server.received():
        for question in questions:
            answer = answers.get(question.name.removeprefix("_zerorpc_"))
            if answer is not None:
                server.say(question, "OK", answer)


def procedures(world: World, service: str = "Tools") -> list[str]:
    return [one.name for one in world.core.registry.public() if one.owner == service]


# -- what the broker asks


def test_the_broker_asks_a_server_for_its_name_and_methods(world: World) -> None:
    server = StockServer(world)
    server.connect()
    questions = server.received()
    assert [question.name for question in questions] == ["_zerorpc_inspect", "_zerorpc_name", "_zerorpc_list"]
    assert all(question.args == [] for question in questions)
    assert len({question.conversation for question in questions}) == 3


def test_an_inspection_is_enough(world: World) -> None:
    introduced(StockServer(world), inspect=INSPECTION)
    add, count = (world.core.registry.procedures[name] for name in ("add", "count"))
    assert (add.doc, add.args, add.owner) == ("Add two numbers.", ["a", "b"], "Tools")
    assert (count.doc, count.args) == ("", ["upto"])
    assert notes(world) == "server Tools-1 registered from this machine; methods: add, count"


def test_without_an_inspection_the_docstrings_are_asked_for_one_by_one(world: World) -> None:
    server = StockServer(world)
    server.join()
    add = world.core.registry.procedures["add"]
    assert (add.doc, add.args) == ("The add of Tools.", [])


def test_the_docstrings_of_many_methods_are_asked_for_in_turns(world: World) -> None:
    names = [f"method_{number}" for number in range(3 * DOCS_AT_ONCE)]
    server = StockServer(world, b"s1", "Tools", *names)
    server.connect()
    most = 0
    while questions := server.received():
        most = max(most, len(questions))
        for question in questions:
            server.introduce(question)
    assert most <= DOCS_AT_ONCE
    assert procedures(world) == names


def test_a_server_that_does_not_answer_is_asked_again(world: World) -> None:
    server = StockServer(world)
    server.connect()
    first = server.received()
    world.pass_time(ANSWER_TIMEOUT_S + 1)
    assert "does not say its methods within 10 s" in notes(world)
    world.pass_time(5 * ANSWER_TIMEOUT_S)
    assert notes(world) == ""
    for question in first:
        server.introduce(question)  # too late
    assert procedures(world) == []
    for question in server.received():
        server.introduce(question)
    server.join()
    assert procedures(world) == ["add", "count"]


def test_a_server_that_says_no_docstrings_is_used_without_them(world: World) -> None:
    server = StockServer(world)
    server.connect()
    for question in server.received():
        server.introduce(question)
    assert procedures(world) == []
    world.pass_time(ANSWER_TIMEOUT_S + 1)
    assert procedures(world) == ["add", "count"]


def test_a_server_that_leaves_while_it_is_asked_is_forgotten(world: World) -> None:
    server = StockServer(world)
    server.connect()
    server.leave()
    world.pass_time(ANSWER_TIMEOUT_S + 1)
    assert len(server.received()) == 3  # the first questions alone
    assert not world.core.server_registrations.introductions._questions
    assert not world.core.server_registrations.introductions._under_way


# -- what the broker offers


def test_clients_see_methods_beside_models(world: World) -> None:
    world.join(b"w1")
    introduced(StockServer(world), inspect=INSPECTION)
    (reply,) = world.call(C1, 1, "_zerorpc_inspect", [])
    described = reply.args[0]["methods"]
    assert described["add"] == {"doc": "Add two numbers.", "args": [{"name": "a"}, {"name": "b"}]}
    assert list(described)[-3:] == ["m_v1_2_predict_stream", "add", "count"]
    (reply,) = world.call(C1, 2, "_zerorpc_help", ["add"])
    assert reply.args == ["Add two numbers."]


def test_methods_of_a_lost_server_stay_for_a_while(world: World) -> None:
    server = StockServer(world)
    server.join()
    server.leave()
    assert procedures(world) == ["add", "count"]
    world.pass_time(FORGET_AFTER_S + 2, step_s=1.0)
    assert procedures(world) == []
    assert not world.core.registry.services.by_name
    (reply,) = world.call(C1, 1, "add")
    assert reply.args[0] == "NameError"


def test_a_method_with_the_name_of_a_models_procedure_is_left_out(world: World) -> None:
    world.join(b"w1")
    StockServer(world, b"s1", "Tools", "add", "m_predict", "get_models").join()
    assert procedures(world) == ["add"]
    assert world.core.registry.procedures["m_predict"].owner == "m"
    text = notes(world)
    assert (
        "a method of service 'Tools' cannot be called: the procedure 'm_predict' is already that of model 'm'" in text
    )
    assert "a method of service 'Tools' cannot be called: the procedure 'get_models' is the broker's own" in text


def test_a_method_with_the_name_of_another_services_is_left_out(world: World) -> None:
    StockServer(world, b"s1", "Tools").join()
    StockServer(world, b"s2", "Other", "add", "subtract").join()
    assert procedures(world, "Other") == ["subtract"]
    assert "the procedure 'add' is already that of service 'Tools'" in notes(world)


def test_a_method_gives_way_to_a_model(world: World) -> None:
    server = StockServer(world, b"s1", "Tools", "add", "m_predict")
    server.join()
    world.call(C1, 1, "m_predict")
    (call,) = server.calls()
    notes(world)
    world.join(b"w1")
    assert "the method 'm_predict' of service 'Tools' gives way to a model's procedure" in notes(world)
    assert [reply.args for reply in server.say(call, "OK", 1)] == [[1]]
    world.call(C1, 2, "m_predict")
    assert len(world.work_of(b"w1")) == 1
    assert procedures(world) == ["add"]


def test_a_service_may_describe_its_models_while_the_broker_has_none(world: World) -> None:
    server = StockServer(world, b"s1", "Models", "get_models", "get_model_metadata", "get_service_schema")
    server.join()
    assert procedures(world, "Models") == ["get_models", "get_model_metadata"]
    assert "the procedure 'get_service_schema' is the broker's own" in notes(world)
    world.call(C1, 1, "get_models", [])
    (call,) = server.calls()
    assert [reply.args for reply in server.say(call, "OK", ["mine"])] == [[["mine"]]]
    world.join(b"w1")
    assert "the method 'get_models' of service 'Models' gives way to the broker's own procedure" in notes(world)
    (reply,) = world.call(C1, 2, "get_models", [])
    assert [model["qualified_name"] for model in reply.args[0]] == ["m"]
    again = StockServer(world, b"s2", "Models", "get_models", "predict")
    again.join()
    assert procedures(world, "Models") == ["predict"]


def test_the_broker_describes_models_again_when_a_service_is_forgotten(world: World) -> None:
    server = StockServer(world, b"s1", "Models", "get_models")
    server.join()
    server.leave()
    world.pass_time(FORGET_AFTER_S + 2, step_s=1.0)
    (reply,) = world.call(C1, 1, "get_models", [])
    assert reply.args == [[]]


def test_a_server_without_a_method_that_can_be_called_is_refused(world: World) -> None:
    StockServer(world, b"s1", "Tools", "get_service_schema", "_secret").join()
    assert world.core.registry.workers == {}
    assert "a ZeroRPC server was refused: service 'Tools' has no method that can be called" in notes(world)


def test_servers_whose_methods_differ_get_the_calls_that_they_can_answer(world: World) -> None:
    old, new = StockServer(world, b"s1", "Tools", "add"), StockServer(world, b"s2", "Tools", "add", "count")
    old.join()
    new.join()
    for message_id in range(4):
        world.call(C1, message_id, "add")
        world.call(C1, 10 + message_id, "count")
    assert {call.name for call in old.calls()} == {"add"}
    assert [call.name for call in new.calls()].count("count") == 4


def test_calls_wait_for_any_server_that_has_the_method(world: World) -> None:
    old = StockServer(world, b"s1", "Tools", "add")
    old.join()
    old.leave()
    world.call(C1, 1, "add")
    new = StockServer(world, b"s2", "Tools", "add", "count")
    new.join()
    assert [call.name for call in new.calls()] == ["add"]


def test_a_class_may_get_another_name(world: World) -> None:
    old = StockServer(world, b"s1", "Old")
    old.join()
    new = StockServer(world, b"s2", "New", "add", "count", "divide")
    new.join()
    assert procedures(world, "New") == ["divide"]
    world.call(C1, 1, "divide")
    (call,) = new.calls()
    notes(world)
    old.leave()
    world.pass_time(0.5)
    assert sorted(procedures(world, "New")) == ["add", "count", "divide"]
    assert "server New-2 registered from this machine; methods: add, count, divide" in notes(world)
    assert [reply.args for reply in new.say(call, "OK", 1)] == [[1]]
    world.call(C1, 2, "add")
    (call,) = [call for call in new.calls() if call.name == "add"]
    new.say(call, "OK", 2)
    world.assert_at_rest()


def test_a_server_that_was_refused_is_considered_again_when_the_names_are_free(world: World) -> None:
    old, new = StockServer(world, b"s1", "Old"), StockServer(world, b"s2", "New")
    old.join()
    new.join()
    assert "was refused: service 'New' has no method that can be called" in notes(world)
    old.leave()
    world.pass_time(0.5)
    world.call(C1, 1, "add")
    assert [call.name for call in new.calls()] == ["add"]
    old.join()  # it comes back, and has to wait in its turn
    assert procedures(world, "Old") == []
    assert [reply for reply in world.pass_time(1.0) if reply.name == "ERR"] == []


def test_calls_without_a_server_wait_where_the_last_one_was(world: World) -> None:
    old, canary = StockServer(world, b"s1", "Tools", "add"), StockServer(world, b"s2", "Tools", "add", "count")
    old.join()
    canary.join()
    canary.leave()
    world.pass_time(30.0)
    old.leave()
    world.call(C1, 1, "add")
    assert [reply for reply in world.pass_time(LIMITS.no_worker_grace_s - 1) if reply.name == "ERR"] == []
    old.join()
    assert [call.name for call in old.calls()] == ["add"]


def test_waiting_calls_move_to_a_server_with_room_that_comes(world: World) -> None:
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, servers=ServerRules(calls=2)))
    old, new = StockServer(world, b"s1", "Tools", "add"), StockServer(world, b"s2", "Tools", "add", "count")
    old.join()
    for message_id in range(5):
        world.call(C1, message_id, "add")
    assert len(old.calls()) == 2
    new.join()
    world.pass_time(1.0)
    assert len([call for call in new.calls() if call.name == "add"]) == 2


def test_sets_of_methods_are_bounded_together(world: World) -> None:
    names = [f"m{number}" for number in range(methods.MAX_METHODS)]
    for number in range(20):
        described: dict[str, object] = {name: {} for name in names[number:]}
        server = StockServer(world, b"s%d" % number)
        introduced(server, inspect={"name": "Tools", "methods": described})
        server.leave()
    assert sum(len(one) for one in world.core.registry.services.by_name["Tools"].pools) <= MAX_METHODS


def test_docstrings_of_a_server_are_bounded_together(world: World) -> None:
    described = {f"m{number}": {"doc": "x" * 10_000} for number in range(100)}
    introduced(StockServer(world), inspect={"name": "Tools", "methods": described})
    docs = [world.core.registry.procedures[name].doc for name in described]
    assert docs[0] == "x" * 10_000
    assert docs[-1] == ""
    assert sum(map(len, docs)) <= methods.MAX_DOCS_LENGTH


def test_a_method_that_gave_way_comes_back_when_its_model_is_forgotten(world: World) -> None:
    server = StockServer(world, b"s1", "Tools", "add", "m_predict")
    server.join()
    world.join(b"w1")
    world.pass_time(0.5)
    assert procedures(world) == ["add"]
    world.core.backend_lost(b"w1", world.now_s)
    world.core.registry.forget(("m", VERSION))
    world.pass_time(0.5)
    assert sorted(procedures(world)) == ["add", "m_predict"]
    world.call(C1, 1, "m_predict")
    assert [call.name for call in server.calls()] == ["m_predict"]


def test_a_refused_server_is_named_once(world: World) -> None:
    world = keyed_world("Other")
    StockServer(world).join()
    notes(world)
    for number in range(5):
        world.core.registry.services.freed += 1
        world.pass_time(1.0)
        assert notes(world) == "", number


def test_a_server_with_other_methods_keeps_its_limit_of_calls() -> None:
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, servers=ServerRules(calls=1)))
    old, new = StockServer(world, b"s1", "Old", "add"), StockServer(world, b"s2", "New", "add", "count")
    old.join()
    new.join()
    world.call(C1, 1, "count")
    (running,) = new.calls()
    old.leave()
    world.pass_time(0.5)
    world.call(C1, 2, "add")
    assert [call.name for call in new.calls() if not call.name.startswith("_")] == []
    new.say(running, "OK", 1)
    (waiting,) = [call for call in new.calls() if not call.name.startswith("_")]
    new.say(waiting, "OK", 2)
    world.assert_at_rest()


def test_a_method_cannot_have_the_name_of_unknown_ones(world: World) -> None:
    StockServer(world, b"s1", "Tools", "add", "unknown").join()
    assert procedures(world) == ["add"]


def test_a_worker_and_a_server_of_one_name_are_two_things(world: World) -> None:
    world.join(b"w1", "Tools")
    StockServer(world, b"s1", "Tools").join()
    assert procedures(world)[-2:] == ["add", "count"]
    world.call(C1, 1, "Tools_predict")
    assert len(world.work_of(b"w1")) == 1


# -- whom the broker refuses


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"inspect": []}, "_zerorpc_inspect should return a map with methods"),
        ({"inspect": {"name": "x", "methods": []}}, "_zerorpc_inspect should return a map with methods"),
        ({"inspect": {"name": "", "methods": {"a": {}}}}, "its name should be a line"),
        ({"inspect": {"name": "x\ny", "methods": {"a": {}}}}, "its name should be a line"),
        ({"name": "x" * 300}, "its name should be a line"),
        ({"name": 5}, "its name should be a line"),
        ({"list": {"a": 1}}, "_zerorpc_list should return a list"),
        ({"list": [f"m{n}" for n in range(10_000)]}, f"it has more than {methods.MAX_METHODS} methods"),
        ({"inspect": {"name": "x", "methods": {f"m{n}": {} for n in range(10_000)}}}, "it has more than"),
        ({"list": ["x" * 1000] * 5000}, "an answer about its methods has"),
    ],
)
def test_a_server_that_describes_itself_badly_is_refused(world: World, answers: dict[str, Any], reason: str) -> None:
    introduced(StockServer(world), **answers)
    assert "a ZeroRPC server was refused" in (text := notes(world))
    assert reason in text
    assert world.core.registry.workers == {}
    world.pass_time(3 * ANSWER_TIMEOUT_S)
    assert notes(world) == ""  # it is not asked again


def test_methods_with_names_that_cannot_be_printed_are_left_out(world: World) -> None:
    bad = ["\x1b[31m", "a\nb", "", "x" * 300, "_hidden", "\u202e", 5, None, ["x"]]
    introduced(StockServer(world), name="Tools", list=[*bad, "add"], help="Add.")
    world.pass_time(ANSWER_TIMEOUT_S + 1)
    assert procedures(world) == ["add"]
    assert f"{len(bad)} methods of service 'Tools' cannot be called because of their names" in notes(world)


def test_texts_and_parameters_of_any_kind_harm_nobody(world: World) -> None:
    described = {
        "a": {"doc": 5, "args": 7},
        "b": {"doc": "\x1b[31mred\x00", "args": [1, None]},
        "c": None,
        "d": {"args": [{"name": "x\ny"}]},
        "e": {"args": ["x"] * 10_000},
        "f": {"args": [{"name": "self"}, {"name": "x"}]},
    }
    introduced(StockServer(world), inspect={"name": "Tools", "methods": described})
    found = {name: world.core.registry.procedures[name] for name in described}
    assert {name: one.args for name, one in found.items()} == {**{key: [] for key in "abcde"}, "f": ["x"]}
    assert "\x1b" not in found["b"].doc
    (reply,) = world.call(C1, 1, "_zerorpc_inspect", [])
    assert reply.name == "OK"


def test_many_services_together_may_not_fill_the_memory(world: World) -> None:
    for number in range(6):
        names: dict[str, object] = {f"m{number}_{n}": {} for n in range(methods.MAX_METHODS)}
        introduced(StockServer(world, b"s%d" % number), inspect={"name": f"Service{number}", "methods": names})
    assert len(world.core.registry.workers) == 5
    assert "the services have 20000 methods already" in notes(world)
    world.core.backend_lost(b"s0", world.now_s)
    introduced(StockServer(world, b"s6"), inspect={"name": "Service6", "methods": names})
    assert "Service6-" not in notes(world)  # the one that has gone may come back
    world.core.backend_lost(b"s6", world.now_s)
    world.pass_time(REPLACED_AFTER_S)
    introduced(StockServer(world, b"s6"), inspect={"name": "Service6", "methods": names})
    assert "Service6-" in notes(world)  # services without servers make room


def test_an_undecodable_answer_is_refused(world: World) -> None:
    server = StockServer(world)
    for arguments in (b"\xc1", b"\x92\x01\x02", b"\x90", b"\x91\xa2\xff\xff"):
        server.connect()
        question = server.received()[0]
        head = msgpack.packb({"message_id": b"1", "v": 3, "response_to": question.conversation})
        server.say_bytes(b"\x93" + head + b"\xa2OK" + arguments)
        assert "a ZeroRPC server was refused" in notes(world)


def test_a_stream_is_no_answer_to_a_question(world: World) -> None:
    server = StockServer(world)
    server.connect()
    inspect: Received = server.received()[0]
    for _ in range(5):
        server.say(inspect, "STREAM", INSPECTION)
        server.say(inspect, "_zpc_hb", 0)
    assert procedures(world) == []
    server.say(inspect, "OK", INSPECTION)
    assert procedures(world) == ["add", "count"]


# -- keys


def rules(hosts: str) -> AccessRules:
    return AccessRules(workers={"tools-key": Patterns([hosts])})


def keyed_world(hosts: str) -> World:
    world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, access=rules(hosts)))
    world.core.server_registrations.name_of = lambda _: "tools-key"
    return world


def test_a_server_needs_a_key_that_may_host_its_service() -> None:
    world = keyed_world("Other")
    server = StockServer(world)
    server.join()
    assert world.core.registry.workers == {}
    text = notes(world)
    assert "a ZeroRPC server was refused" in text
    assert "Tools" in text


def test_a_change_of_the_rules_refuses_and_admits() -> None:
    world = keyed_world("Tools")
    server = StockServer(world)
    server.join()
    assert len(world.core.registry.workers) == 1
    world.core.change_access(rules("Other"), world.now_s)
    assert world.core.registry.workers == {}
    world.core.change_access(rules("To*"), world.now_s)
    world.flush()
    server.join()
    assert len(world.core.registry.workers) == 1
