"""What the broker answers itself, through the core."""

from dataclasses import replace
from typing import Any

import pytest

from broker.http.slices import ask_directly
from broker.http.status import prometheus_targets
from tests.unit.world import World, describe

CLIENT = b"client"


@pytest.fixture
def world() -> World:
    made = World()
    made.join(b"w1", "red", "blue")
    made.join(b"w2", "blue", "green")
    return made


def ask(world: World, name: str, *args: Any) -> Any:
    (reply,) = world.call(CLIENT, b"id", name, list(args))
    assert reply.name == "OK", reply.args
    return reply.args[0]


def test_get_models_lists_every_model_of_every_worker_once(world: World) -> None:
    models = ask(world, "get_models")
    assert [model["qualified_name"] for model in models] == ["red", "blue", "green"]
    assert models[0] == {
        "display_name": "Red",
        "qualified_name": "red",
        "description": "The red model.",
        "major_version": 1,
        "minor_version": 2,
    }


def test_metadata_has_the_schemas_too(world: World) -> None:
    metadata = ask(world, "get_model_metadata", "green")
    assert {"input_schema", "output_schema", "qualified_name"} <= set(metadata)


@pytest.mark.parametrize("name", ["nope", "", 5, None, ["red"], {"a": 1}])
def test_metadata_of_no_model_is_a_value_error(world: World, name: object) -> None:
    (reply,) = world.call(CLIENT, b"id", "get_model_metadata", [name])
    assert reply.args == ["ValueError", "Metadata not found for this model.", None]


def test_a_model_stays_known_when_its_workers_have_gone(world: World) -> None:
    world.core.workers.lost(b"w1", world.now_s)
    assert "red" in [model["qualified_name"] for model in ask(world, "get_models")]


def test_the_service_describes_itself_in_the_forms_of_zerorpc(world: World) -> None:
    models = ("red", "blue", "green")
    names = ["get_models", "get_model_metadata", "get_service_schema"]
    kinds = ("predict", "predict_stream", "v1_2_predict", "v1_2_predict_stream")
    names += [f"{model}_{kind}" for model in models for kind in kinds]
    assert ask(world, "_zerorpc_name") == "ModelZeroRPCService"
    assert ask(world, "_zerorpc_ping") == ["pong", "ModelZeroRPCService"]
    assert ask(world, "_zerorpc_list") == names
    assert ask(world, "_zerorpc_help", "red_predict") == "Predict with red."
    assert ask(world, "_zerorpc_args", "red_predict") == [["data"], None, None, None]
    inspected = ask(world, "_zerorpc_inspect")
    assert inspected["name"] == "ModelZeroRPCService"
    assert list(inspected["methods"]) == names
    assert inspected["methods"]["red_predict"] == {"args": [{"name": "data"}], "doc": "Predict with red."}


@pytest.mark.parametrize("name", ["nope", 5, ["red_predict"]])
def test_help_on_no_procedure_is_a_key_error(world: World, name: object) -> None:
    (reply,) = world.call(CLIENT, b"id", "_zerorpc_help", [name])
    assert reply.args[0] == "KeyError"


def test_a_worker_without_http_is_no_target_of_prometheus(world: World) -> None:
    world.join_as(b"w3", replace(describe("w3"), metrics_address="", pid=3))
    assert prometheus_targets(world.core, ask_directly) == [
        {"targets": ["127.0.0.1:8421"], "labels": {"worker": "host-1"}}
    ]
