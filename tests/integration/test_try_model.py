"""`scripts/try_model.py` says what a client would get of a model, before anybody serves it."""

import subprocess
import sys

import pytest

from tests.processes import REPOSITORY, own_environment


def try_model(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "scripts/try_model.py", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=own_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_good_model_is_loaded_described_and_tried() -> None:
    printed = try_model("iris_model.iris_predict:IrisModel")
    lines = [line.split() for line in printed.splitlines()]
    assert [line[:2] for line in lines if line[0] == "ok"] == [
        ["ok", "__init__"],
        ["ok", "predict"],
        ["ok", "predict"],
        ["ok", "predict_batch"],
    ]
    assert "iris_model 0.1 from iris_model.iris_predict:IrisModel" in printed
    assert "{'species': 'setosa'}" in printed
    assert printed.endswith("all of this works in the cluster, too\n")


def test_an_input_of_ones_own_is_tried() -> None:
    wrong = '{"sepal_length": 5, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'
    printed = try_model("iris_model.iris_predict:IrisModel", wrong, code=1)
    assert "FAILS  input 0" in printed
    assert "does not fit the schema: Key 'sepal_length' error:" in printed
    assert "FAILS  predict 0" in printed
    assert "would fail in the cluster" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["tests.services.habits:Unreadable", '"number as key"'],
            "TypeError: the model's result['scores'][0] has the key 0 of type int",
        ),
        (["tests.services.habits:Disagreeing", "1"], "returns 'batch' for 1, and predict 'alone': the two must agree"),
        (["tests.services.models:Echo"], "there are none: give one as JSON, or let the model have input_examples"),
        (["tests.services.habits:NoSuchClass"], "the module has no class 'NoSuchClass'"),
        (["tests.services.models:Echo", "--set", 'slots="2"', "1"], "slots='2' is wrong: it should be a whole number"),
        (
            ["tests.services.models:FailsToLoad"],
            "FAILS  __init__                     OSError: the file of weights is gone",
        ),
    ],
)
def test_what_would_fail_is_said(arguments: list[str], says: str) -> None:
    assert says in try_model(*arguments, code=1)


def test_the_first_items_of_a_stream_are_shown() -> None:
    printed = try_model("tests.services.models:Counter", "1000000")
    assert "[0, 1, 2, 3, 4]" in printed


def test_an_input_that_is_no_json_is_refused() -> None:
    assert "'{x' is not JSON" in try_model("tests.services.models:Echo", "{x", code=2)
