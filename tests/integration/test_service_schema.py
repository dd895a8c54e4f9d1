"""The service's OpenRPC document: it is valid and complete, and the service behaves as it says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import zerorpc
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from tests import npm
from tests.processes import REPOSITORY, Cluster, cluster

pytestmark = pytest.mark.one_process

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("service")
    with cluster(folder, None, "MlBase", "EchoOnly", "CounterOnly") as made:
        yield made


@pytest.fixture(scope="module")
def document(service: Cluster) -> dict[str, Any]:
    made: dict[str, Any] = service.client().get_service_schema()
    return made


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft7Validator:
    """A validator of a schema that stands in the document."""
    root = Resource.from_contents(document, default_specification=DRAFT7)
    absolute = json.loads(json.dumps(schema).replace("#/components/", "urn:service#/components/"))
    return jsonschema.Draft7Validator(absolute, registry=Registry().with_resource("urn:service", root))


def method(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["methods"] if one["name"] == name]
    return dict(found)


def test_it_is_valid_by_the_schema_of_openrpc(document: dict[str, Any]) -> None:
    openrpc = npm.module("@open-rpc/meta-schema")
    draft = Resource.from_contents(npm.module("@json-schema-tools/meta-schema"), default_specification=DRAFT7)
    addresses = ["https://meta.json-schema.tools", "https://meta.json-schema.tools/"]
    registry: Registry[Any] = Registry().with_resources([(address, draft) for address in addresses])
    jsonschema.Draft7Validator(openrpc, registry=registry).validate(document)
    assert document["openrpc"].startswith("1.3.")
    broken = {**document, "methods": [{"params": []}]}
    assert not jsonschema.Draft7Validator(openrpc, registry=registry).is_valid(broken), "it refuses what is none"


def test_it_names_every_procedure_with_its_parameters(service: Cluster, document: dict[str, Any]) -> None:
    client = service.client()
    described = {one["name"]: [param["name"] for param in one["params"]] for one in document["methods"]}
    assert described == {name: client._zerorpc_args(name)[0] for name in client._zerorpc_list()}
    assert set(described) >= {"get_service_schema", "iris_model_predict", "colour_model_predict_stream"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references(document))
    assert len(found) > 10
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_its_examples_are_what_the_service_answers(service: Cluster, document: dict[str, Any]) -> None:
    client = service.client()
    tried = []
    for one in document["methods"]:
        for example in one.get("examples", []):
            answer = client(one["name"], *[param["value"] for param in example["params"]])
            assert (list(answer) if one.get("x-stream") else answer) == example["result"]["value"]
            tried.append(one["name"])
    assert tried == [
        f"{name}_{what}"
        for name in ("iris_model", "iris_model_v0_1")
        for what in ("predict", "predict", "predict_batch", "predict_stream")
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad", "error"),
    [
        ("iris_model_predict", FLOWER, {**FLOWER, "petal_width": "abc"}, "MLModelSchemaValidationException"),
        ("iris_model_predict_batch", [FLOWER] * 3, FLOWER, "BadRequest"),
        (
            "colour_model_predict",
            {"petal_length": 1.0, "petal_width": 1.0},
            {"petal_length": -1.0, "petal_width": 1.0},
            "MLModelSchemaValidationException",
        ),
        ("echo_predict", {"any": ["thing"]}, None, None),
        ("get_model_metadata", "iris_model", 5, "ValueError"),
    ],
)
def test_it_tells_good_requests_from_bad_ones_as_the_service_does(
    service: Cluster, document: dict[str, Any], name: str, good: Any, bad: Any, error: str | None
) -> None:
    described = method(document, name)
    request = validator(document, described["params"][0]["schema"])
    request.validate(good)
    validator(document, described["result"]["schema"]).validate(service.client()(name, good))
    if error is not None:
        assert not request.is_valid(bad)
        with pytest.raises(zerorpc.RemoteError) as raised:
            service.client()(name, bad)
        assert raised.value.name == error
        listed = [reference["$ref"].rpartition("/")[2] for reference in described["errors"]]
        assert error in listed
        assert document["components"]["errors"][error]["message"] == error


def test_the_replies_of_the_broker_itself_are_as_it_says(service: Cluster, document: dict[str, Any]) -> None:
    models = service.client().get_models()
    result = validator(document, method(document, "get_models")["result"]["schema"])
    result.validate(models)
    assert not result.is_valid([{"qualified_name": 5}])


def test_streams_are_marked(document: dict[str, Any]) -> None:
    streams = {one["name"] for one in document["methods"] if one.get("x-stream")}
    versions = {"iris_model": "v0_1", "colour_model": "v2_7", "echo": "v1_0", "counter": "v1_0"}
    assert streams == {
        f"{called}_predict_stream" for name, version in versions.items() for called in (name, f"{name}_{version}")
    }
    assert method(document, "counter_predict_stream")["params"][0]["name"] == "data"


def test_the_script_prints_it_as_json(service: Cluster, document: dict[str, Any]) -> None:
    command = [sys.executable, "scripts/get_service_schema.py", service.frontend]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == document
