"""Unmodified clients against the cluster: Python, the zerorpc command, the scripts, Node."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zerorpc

from tests import npm
from tests.processes import REPOSITORY, Cluster, cluster

pytestmark = pytest.mark.one_process

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("iris"), None, None) as made:
        yield made


def run(*command: str, code: int = 0) -> str:
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 else result.stderr


def test_python_calls_everything(iris: Cluster) -> None:
    client = iris.client()
    (model,) = client.get_models()
    assert model == {
        "display_name": "Iris Model",
        "qualified_name": "iris_model",
        "description": "A machine learning model for predicting the species of a flower based on its measurements.",
        "major_version": 0,
        "minor_version": 1,
    }
    metadata = client.get_model_metadata("iris_model")
    assert metadata["input_schema"]["required"] == list(FLOWER)
    assert metadata["output_schema"]["properties"]["species"]["enum"] == ["setosa", "versicolor", "virginica"]
    assert client.iris_model_predict(FLOWER) == {"species": "setosa"}


@pytest.mark.parametrize(
    ("call", "name", "text"),
    [
        (
            ("iris_model_predict", {**FLOWER, "petal_width": "abc"}),
            "MLModelSchemaValidationException",
            "Failed to validate input data: Key 'petal_width' error:\n'abc' should be instance of 'float'",
        ),
        (("get_model_metadata", "nope"), "ValueError", "Metadata not found for this model."),
        (("nope_predict", FLOWER), "NameError", "'nope_predict' is not a procedure"),
        (("iris_model_predict",), "BadRequest", "iris_model_predict(data) takes 1 argument(s), 0 given"),
        (("iris_model_predict", FLOWER, 1), "BadRequest", "iris_model_predict(data) takes 1 argument(s), 2 given"),
    ],
)
def test_errors_reach_python_by_name_and_text(iris: Cluster, call: tuple[Any, ...], name: str, text: str) -> None:
    with pytest.raises(zerorpc.RemoteError) as raised:
        iris.client()(*call)
    assert raised.value.name == name
    assert raised.value.msg.startswith(text)
    assert raised.value.traceback is None


def test_the_command_lists_the_service(iris: Cluster) -> None:
    lines = run(str(BIN / "zerorpc"), iris.frontend).splitlines()
    assert lines[0] == "[ModelZeroRPCService]"
    listed = dict(re.split(r"\s+", line, maxsplit=1) for line in lines[1:])
    assert listed == {
        "get_models": "Return list of models hosted in this service.",
        "get_model_metadata": "Return metadata about a model hosted by the service.",
        "get_service_schema": "Return an OpenRPC document that describes the service.",
        "iris_model_predict": "Predict with the Iris Model.",
        "iris_model_predict_batch": "Predict many rows with the Iris Model: a list, in their order.",
        "iris_model_predict_stream": "Stream what the Iris Model predicts, as soon as it is there.",
        "iris_model_v0_1_predict": "Predict with the Iris Model. Version 0.1.",
        "iris_model_v0_1_predict_batch": "Predict many rows with the Iris Model: a list, in their order. Version 0.1.",
        "iris_model_v0_1_predict_stream": "Stream what the Iris Model predicts, as soon as it is there. Version 0.1.",
    }


def test_the_command_shows_one_procedure(iris: Cluster) -> None:
    shown = run(str(BIN / "zerorpc"), "-?", iris.frontend, "iris_model_predict")
    assert "iris_model_predict(data)" in shown
    assert "Predict with the Iris Model." in shown


def test_the_command_calls(iris: Cluster) -> None:
    assert "'qualified_name': 'iris_model'" in run(str(BIN / "zerorpc"), iris.frontend, "get_models")
    printed = run(str(BIN / "zerorpc"), "-j", "-pj", iris.frontend, "iris_model_predict", json.dumps(FLOWER))
    assert json.loads(printed) == {"species": "setosa"}
    rows = json.dumps([FLOWER, FLOWER])
    printed = run(str(BIN / "zerorpc"), "-j", "-pj", iris.frontend, "iris_model_predict_batch", rows)
    assert json.loads(printed) == [{"species": "setosa"}] * 2
    lines = run(str(BIN / "zerorpc"), "-j", iris.frontend, "iris_model_predict_stream", rows)
    assert lines.count("{'species': 'setosa'}") == 2


@pytest.mark.parametrize(
    ("script", "arguments", "printed"),
    [
        ("get_models.py", [], "Result: [{'display_name': 'Iris Model'"),
        ("get_model_metadata.py", [], "'input_schema': {"),
        ("predict_with_model.py", [], "Result: {'species': 'setosa'}"),
    ],
)
def test_the_scripts_print_results(iris: Cluster, script: str, arguments: list[str], printed: str) -> None:
    assert printed in run(sys.executable, f"scripts/{script}", iris.frontend, *arguments)


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("get_models.py", ["tcp://127.0.0.1:1", "--timeout", "0.5"], "is the cluster running"),
        ("get_models.py", ["nonsense"], "cannot connect to 'nonsense'"),
        ("get_model_metadata.py", ["{address}", "--model", "nope"], "ValueError: Metadata not found for this model."),
        ("predict_with_model.py", ["{address}", "--data", "{{}}"], "MLModelSchemaValidationException"),
        ("predict_with_model.py", ["{address}", "--data", "{{"], "is not JSON"),
    ],
)
def test_the_scripts_print_errors_as_sentences(iris: Cluster, script: str, arguments: list[str], says: str) -> None:
    filled = [argument.format(address=iris.frontend) for argument in arguments]
    error = run(sys.executable, f"scripts/{script}", *filled, code=1)
    assert says in error
    assert "Traceback" not in error


def test_node_calls_and_gets_errors(iris: Cluster) -> None:
    node, folder = npm.node()
    said = json.loads(run(node, str(folder / "client.js"), iris.frontend).splitlines()[-1])
    assert [model["qualified_name"] for model in said["models"]] == ["iris_model"]
    assert said["prediction"] == {"species": "setosa"}
    assert said["invalid"] == {
        "name": "MLModelSchemaValidationException",
        "message": "Failed to validate input data: Key 'petal_width' error:\n'abc' should be instance of 'float'",
    }
    assert said["unknown"]["name"] == "NameError"
    assert said["batch"] == [{"species": "setosa"}] * 3
    assert said["stream"] == [{"species": "setosa"}] * 300
