"""Access rules in the core: who may call what, what introspection shows, limits, and what workers may host."""

import msgpack
import pytest

from broker.core.core import Core
from broker.core.handlers.registration import MODELS_PER_TURN
from broker.core.state import access
from broker.core.state.access import ANONYMOUS, OTHER, Access, AccessRules, ClientRules, Patterns
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, Reply, World, describe

BILLING, OPS = b"billing", b"ops"
"""Connections of clients; `world` gives each its identity as its name."""


def world(rules: AccessRules) -> World:
    made = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, access=rules))
    made.core.clients.name_of = lambda identity: identity.decode().partition("@")[0]
    made.core.workers.name_workers_by(lambda identity: identity.decode())
    return made


def only(*allow: str, **limits: int) -> AccessRules:
    return AccessRules(clients={"billing": ClientRules(Patterns(allow), **limits)})


def error_of(replies: list[Reply]) -> tuple[str, str]:
    (reply,) = replies
    assert reply.name == "ERR"
    return reply.args[0], reply.args[1]


def answer_of(replies: list[Reply]) -> object:
    (reply,) = replies
    assert reply.name == "OK", reply
    return reply.args[0]


def test_without_rules_every_client_may_call_everything() -> None:
    made = world(AccessRules())
    made.join(b"w", "m")
    assert made.call(BILLING, b"1") == []
    assert len(made.work_of(b"w")) == 1


@pytest.mark.parametrize("allow", ["m", "m_predict", "m_*", "?", "*"])
def test_a_call_is_allowed_by_its_model_or_its_name_or_a_pattern(allow: str) -> None:
    made = world(only(allow))
    made.join(b"w", "m")
    assert made.call(BILLING, b"1") == []
    assert len(made.work_of(b"w")) == 1


def test_a_call_that_is_not_allowed_is_not_executed_and_counted() -> None:
    made = world(only("other"))
    made.join(b"w", "m", "other")
    assert error_of(made.call(BILLING, b"1")) == ("NotAllowed", "client 'billing' may not call 'm_predict'")
    assert made.work_of(b"w") == []
    assert made.outcomes() == {"not_allowed": 1}
    assert made.call(OPS, b"1") == [], "other clients may call everything"
    made.answer(b"w", made.in_flight(b"w")[0])
    made.assert_at_rest()


def test_the_default_is_for_clients_without_rules_of_their_own() -> None:
    rules = AccessRules(clients={"ops": ClientRules()}, default=ClientRules(Patterns([])))
    made = world(rules)
    made.join(b"w", "m")
    assert error_of(made.call(BILLING, b"1"))[0] == "NotAllowed"
    assert made.call(OPS, b"1") == []


def test_refusals_do_not_tell_whether_a_procedure_exists() -> None:
    made = world(only("m"))
    made.join(b"w", "m", "m_secret")
    for name in ("m_secret_predict", "m_nothing_predict", "nothing", "__init__"):
        assert error_of(made.call(BILLING, b"1", name))[0] == "NotAllowed"
    # What could be a procedure of the allowed model, and is none now, is not there.
    assert error_of(made.call(BILLING, b"1", "m_v9_9_predict"))[0] == "NameError"
    assert error_of(made.call(OPS, b"1", "nothing"))[0] == "NameError"


def test_refusals_do_not_tell_how_many_arguments_a_procedure_takes() -> None:
    made = world(only("m"))
    made.join(b"w", "m", "secret")
    assert error_of(made.call(BILLING, b"1", "secret_predict", args=(1, 2, 3)))[0] == "NotAllowed"


def test_introspection_shows_a_client_what_it_may_call() -> None:
    made = world(only("m", "other_predict"))
    made.join(b"w", "m", "other", "secret")

    def ask(name: str, *args: object, client: bytes = BILLING) -> list[Reply]:
        return made.call(client, b"1", name, args)

    own = ["get_models", "get_model_metadata", "get_service_schema"]
    pinned = ["m_v1_2_predict", "m_v1_2_predict_stream"]
    seen = [*own, "m_predict", "m_predict_stream", *pinned, "other_predict"]
    assert answer_of(ask("_zerorpc_list")) == seen
    inspected = answer_of(ask("_zerorpc_inspect"))
    assert isinstance(inspected, dict)
    assert list(inspected["methods"]) == seen
    models = answer_of(ask("get_models"))
    assert isinstance(models, list)
    assert [model["qualified_name"] for model in models] == ["m", "other"]
    assert answer_of(ask("get_model_metadata", "m"))
    unknown = ("ValueError", "Metadata not found for this model.")
    assert error_of(ask("get_model_metadata", "secret")) == error_of(ask("get_model_metadata", "nothing")) == unknown
    document = answer_of(ask("get_service_schema"))
    assert isinstance(document, dict)
    assert [method["name"] for method in document["methods"]] == seen
    assert not [name for name in document["components"]["schemas"] if "secret" in name]
    assert error_of(ask("_zerorpc_help", "secret_predict"))[0] == error_of(ask("_zerorpc_help", "nothing"))[0]
    assert error_of(ask("_zerorpc_args", "secret_predict"))[0] == "KeyError"
    assert len(answer_of(ask("_zerorpc_list", client=OPS))) > len(seen)  # type: ignore[arg-type]
    every = answer_of(ask("get_service_schema", client=OPS))
    assert isinstance(every, dict)
    assert len(every["methods"]) > len(seen), "the document of one client is not given to another"


def test_the_document_of_a_client_follows_new_models_and_new_rules() -> None:
    made = world(only("m*"))
    made.join(b"w", "m")

    def names() -> list[str]:
        document = answer_of(made.call(BILLING, b"1", "get_service_schema", ()))
        assert isinstance(document, dict)
        return [method["name"] for method in document["methods"]]

    assert "m2_predict" not in names()
    made.join(b"w2", "m2")
    assert "m2_predict" in names()
    made.core.change_access(only("m2"), made.now_s)
    assert "m_predict" not in names()


def test_a_client_s_calls_are_limited_over_all_its_connections() -> None:
    made = world(only("*", calls=2))
    made.join(b"w", "m", slots=5)
    assert made.call(b"billing@1", b"1") == []
    assert made.call(b"billing@2", b"1") == []
    assert error_of(made.call(b"billing@3", b"1")) == (
        "ServerBusy",
        "client 'billing' has 2 open calls and may have 2; wait for their answers",
    )
    assert made.call(OPS, b"1") == []
    for number in made.in_flight(b"w"):
        made.answer(b"w", number)
    assert made.call(b"billing@3", b"1") == []
    made.answer(b"w", made.in_flight(b"w")[0])
    assert made.core.access.account("billing").open_calls == 0
    made.assert_at_rest()


def test_a_repair_counts_the_open_calls_anew() -> None:
    made = world(only("*", calls=2))
    made.join(b"w", "m")
    made.call(BILLING, b"1")
    for name in ("billing", "gone"):
        made.core.access.account(name).open_calls = 9
    made.core.repair(made.now_s)
    assert made.core.access.account("billing").open_calls == 1
    assert made.core.access.account("gone").open_calls == 0


def test_a_client_s_share_of_a_queue_can_be_smaller_than_that_of_others() -> None:
    made = world(only("*", waiting_calls=1))
    made.join(b"w", "m")
    for message_id in (b"1", b"2", b"3"):
        made.call(OPS, message_id)
    assert made.call(BILLING, b"1") == []
    assert error_of(made.call(BILLING, b"2"))[0] == "ServerBusy"


def test_new_rules_are_for_open_connections_too() -> None:
    made = world(AccessRules())
    made.join(b"w", "m")
    made.call(BILLING, b"1")
    made.core.change_access(only("other"), made.now_s)
    assert error_of(made.call(BILLING, b"2"))[0] == "NotAllowed"
    (reply,) = made.answer(b"w", made.in_flight(b"w")[0])
    assert reply.name == "OK", "a call that was accepted before is answered"


def test_a_worker_s_key_decides_what_it_may_host() -> None:
    made = world(AccessRules(workers={"w1": Patterns(["m", "x_*"])}))
    made.join(b"w1", "m", "x_1")
    made.join(b"w2", "secret")
    made.core.workers.message(b"w1", [protocol.READY, write_description(describe("new", "m", "secret"))], made.now_s)
    made.flush()
    ((_, frames),) = [send for send in made.to_workers if send[1][0] == protocol.BYE]
    assert frames[1] == b"new: the key 'w1' may not host 'secret'; it may host m, x_*"
    assert b"w1" not in made.core.registry.workers


def test_a_worker_s_key_decides_what_it_may_load() -> None:
    made = world(AccessRules(workers={"w1": Patterns(["m"])}))
    made.join(b"w1", "m")
    made.ask("load_model", {"module_name": "x", "class_name": "X"}, [], message_id=b"load")
    ((number, _),) = made.orders_of(b"w1", protocol.LOAD)
    model = msgpack.packb(msgpack.unpackb(write_description(describe("any", "secret")))["models"][0])
    made.from_worker(b"w1", protocol.LOADED, number, model)
    (reply,) = [one for one in made.admin_replies() if one.name == "ERR"]
    assert "the key 'w1' may not host 'secret'" in reply.args[1]
    assert "secret_predict" not in made.core.registry.procedures


def test_a_worker_that_new_rules_forbid_is_sent_away() -> None:
    made = world(AccessRules())
    made.join(b"w1", "m")
    made.join(b"w2", "m")
    made.core.change_access(AccessRules(workers={"w1": Patterns(["other"])}), made.now_s)
    made.flush()
    assert list(made.core.registry.workers) == [b"w2"]
    assert made.kinds_to(b"w1")[-1] == protocol.BYE


def test_a_worker_that_is_still_registering_is_sent_away_by_new_rules() -> None:
    made = world(AccessRules())
    models = [f"m{number}" for number in range(2 * MODELS_PER_TURN)]
    made.core.workers.message(b"w1", [protocol.READY, write_description(describe("w1", *models))], made.now_s)
    made.core.change_access(AccessRules(workers={"w1": Patterns(models[:-1])}), made.now_s)
    made.flush()
    assert not made.core.registry.workers
    assert made.kinds_to(b"w1")[-1] == protocol.BYE


def test_an_administrator_sees_the_clients_and_what_they_may_call() -> None:
    made = world(only("m", calls=2))
    made.join(b"w", "m")
    made.call(BILLING, b"1")
    made.call(OPS, b"1", "nothing")
    assert made.ask("list_clients")[0].args[0] == [
        {"client": "billing", "open_calls": 1, "most_calls": 2, "requests": 1, "allowed": ["m"]},
        {"client": "ops", "open_calls": 0, "most_calls": None, "requests": 1, "allowed": None},
    ]


def test_the_books_name_a_bounded_number_of_clients() -> None:
    kept = Access()
    for number in range(access.MOST_NAMED + 50):
        kept.account(f"client-{number}").requests += 1
    counts = kept.requests()
    assert len(counts) == access.MOST_NAMED + 1
    assert counts[OTHER] == 50
    kept.account("client-7").open_calls = 1
    kept.forget({"client-1"})
    assert set(kept.accounts) == {"client-1", "client-7"}, "one has open calls"
    assert kept.requests()[OTHER] == access.MOST_NAMED + 50 - 2
    assert sum(kept.requests().values()) == access.MOST_NAMED + 50
    kept.account(ANONYMOUS)
    kept.forget(set())
    assert ANONYMOUS in kept.accounts
