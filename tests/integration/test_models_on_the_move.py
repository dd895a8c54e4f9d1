"""Models that scripts/models.py loads, routes and unloads while the cluster serves."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from tests import npm
from tests.processes import REPOSITORY, START_S, Cluster, Process, cluster, samples, wait_until

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SETOSA, NEXT_SETOSA = {"species": "setosa"}, {"species": "setosa", "by": "0.2"}
ECHO, NEXT_IRIS = "tests.services.models:Echo", "tests.services.light_iris:NextIris"
BIN = Path(sys.executable).parent

CONSTANT = """\
from ml_model_abc import MLModel


class Constant(MLModel):
    display_name = "Constant"
    qualified_name = "constant"
    description = "Always says the same."
    major_version = 1
    minor_version = {minor}
    input_schema = output_schema = None

    def __init__(self):
        pass

    def predict(self, data):
        return {value}
"""


@pytest.fixture
def iris(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, "LightIris", "LightIris", BROKER_STATE=str(tmp_path / "state.json")) as made:
        yield made


def models(made: Cluster, *arguments: str, code: int = 0, **environment: str) -> str:
    """Run scripts/models.py, and return its output."""
    command = [sys.executable, "scripts/models.py", "--address", made.admin, *arguments]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def by_node(made: Cluster, procedure: str, argument: Any) -> Any:
    node, folder = npm.node()
    command = [node, str(folder / "call.js"), made.frontend, procedure, json.dumps(argument)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def by_command(made: Cluster, procedure: str, argument: Any) -> Any:
    command = [str(BIN / "zerorpc"), "-j", "-pj", made.frontend, procedure, json.dumps(argument)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def names(client: Any) -> list[tuple[str, int, int]]:
    return [(one["qualified_name"], one["major_version"], one["minor_version"]) for one in client.get_models()]


def by_version(made: Cluster) -> dict[str, float]:
    found = samples(made.http, "zerorpc_broker_version_requests_total")
    return {
        dict(labels)["version"]: count
        for labels, count in found.items()
        if dict(labels)["model"] == "iris_model" and dict(labels)["outcome"] == "ok"
    }


def test_models_come_go_and_share_calls_under_load_without_one_error(iris: Cluster) -> None:
    load = iris.load("iris_model_predict", argument=json.dumps(FLOWER), rate=200, connections=4)
    client = iris.client()

    printed = models(iris, "load", ECHO)
    assert printed.startswith("echo 1.0 was loaded on ")
    assert (
        client.echo_predict([1]) == by_node(iris, "echo_predict", [1]) == by_command(iris, "echo_predict", [1]) == [1]
    )
    assert ("echo", 1, 0) in names(client)
    assert "echo_predict" in client("_zerorpc_list")

    models(iris, "load", NEXT_IRIS)
    assert names(client) == [("iris_model", 0, 1), ("iris_model", 0, 2), ("echo", 1, 0)]
    for ask in (by_node, by_command):
        assert ask(iris, "iris_model_predict", FLOWER) == SETOSA, "the default stays"
        assert ask(iris, "iris_model_v0_1_predict", FLOWER) == SETOSA
        assert ask(iris, "iris_model_v0_2_predict", FLOWER) == NEXT_SETOSA
    assert client.iris_model_v0_2_predict_batch([FLOWER] * 3) == [NEXT_SETOSA] * 3
    assert list(client.iris_model_v0_2_predict_stream([FLOWER] * 3)) == [NEXT_SETOSA] * 3
    assert client.get_model_metadata("iris_model_v0_2")["minor_version"] == 2

    routed = models(iris, "route", "iris_model", "0.1=90", "0.2=10")
    assert routed.startswith("iris_model 0.1: 100 % -> 90 %\niris_model 0.2: 0 % -> 10 %\n\n")
    routed = models(iris, "route", "iris_model", "0.1=60", "0.2=60")
    assert "iris_model 0.1: 90 % -> 50 %" in routed
    assert "the weights add up to 120, not to 100; each version gets its part of that" in routed
    models(iris, "route", "iris_model", "0.1=90", "0.2=10")
    before = by_version(iris)
    wait_until(lambda: sum(by_version(iris).values()) - sum(before.values()) >= 600, 30, "600 more calls")
    after = by_version(iris)
    share = (after["0.2"] - before["0.2"]) / (sum(after.values()) - sum(before.values()))
    assert 0.09 < share < 0.11, "some that began before the route may have ended since"

    models(iris, "route", "iris_model", "0.2")
    assert client.iris_model_predict(FLOWER) == NEXT_SETOSA
    models(iris, "route", "iris_model", "0.1")
    assert client.iris_model_predict(FLOWER) == SETOSA
    models(iris, "reload", "iris_model", "0.1")
    models(iris, "unload", "iris_model", "0.2")
    models(iris, "unload", "echo")
    assert names(client) == [("iris_model", 0, 1)]
    with pytest.raises(zerorpc.RemoteError, match="'echo_predict' is not a procedure"):
        client.echo_predict([1])

    load.stop()
    result = load.result()
    assert list(result["outcomes"]) == ["OK"]
    assert (result["unanswered"], result["unasked"]) == (0, 0)
    assert result["outcomes"]["OK"]["count"] == result["sent"] >= 800


def test_a_slow_load_delays_no_call(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_worker("LightIris", SLOW_TO_LOAD_S="3")
        made.wait_for_workers(1)
        load = made.load("iris_model_predict", argument=json.dumps(FLOWER), rate=200, connections=4)
        started_s = time.monotonic()
        models(made, "load", "tests.services.models:SlowToLoad")
        assert time.monotonic() - started_s > 3
        load.stop()
        result = load.result()
    assert list(result["outcomes"]) == ["OK"]
    assert result["outcomes"]["OK"]["max_ms"] < 2500, "which is less than the model takes to load"


def test_a_command_that_gives_up_says_how_to_go_on(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_worker("LightIris", SLOW_TO_LOAD_S="3", WORKER_LOADABLE="tests")
        made.wait_for_workers(1)
        said = models(made, "load", "tests.services.models:SlowToLoad", code=1, CLUSTER_LOADING_TIMEOUT_S="1")
        assert "error: the model is not loaded after 1 s (CLUSTER_LOADING_TIMEOUT_S); the broker goes on" in said
        wait_until(lambda: "slowtoload  1.0      ready" in models(made, "list"), 10, "it is loaded")


def test_an_unload_waits_for_the_running_call(iris: Cluster) -> None:
    client = iris.client()
    models(iris, "load", "tests.services.models:Sleeper", "--set", "slots=2", "--set", "timeout_s=20")
    slow = gevent.spawn(client.sleeper_predict, 1.0)
    wait_until(lambda: iris.in_flight() == 1, 5, "the call has begun")
    assert models(iris, "unload", "sleeper") == "sleeper 1.0 was unloaded\n"
    assert isinstance(slow.get(), int)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["load", "tests.services.models:FailsToLoad"],
            "LoadFailed: .*OSError: the file of weights is gone. Nothing has",
        ),
        (["load", "no_such_package.model:Model"], "there is no module 'no_such_package': install the model's package"),
        (["load", "tests.services.models:Nothing"], "the module has no class 'Nothing'"),
        (["load", "tests.services.models:NoModel"], "is not an MLModel"),
        (
            ["load", ECHO, "--set", "slot=1"],
            "the entry: 'slot' is not a setting of a model; the settings are module_name",
        ),
        (["load", ECHO, "--set", "slots=0"], "the entry: slots=0 is wrong: it should be 1 or more"),
        (["load", ECHO, "--workers", "gpu-*"], "no ready worker that can load models matches 'gpu-.*'; there are 127"),
        (["unload", "echo"], "there is no model 'echo'; there are iris_model"),
        (["unload", "iris_model", "2.0"], "iris_model has no version 2.0; it has 0.1"),
        (["route", "iris_model", "0.2=10"], "iris_model has no version 0.2; it has 0.1"),
    ],
)
def test_a_failed_command_says_why_and_changes_nothing(broken: Cluster, arguments: list[str], says: str) -> None:
    before = models(broken, "list")
    error = models(broken, *arguments, code=1)
    assert error.startswith("error: ")
    assert re.search(says, error), error
    assert models(broken, "list") == before
    assert broken.client().iris_model_predict(FLOWER) == SETOSA


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("broken"), "LightIris") as made:
        yield made


def test_what_was_loaded_unloaded_and_routed_outlives_workers_and_broker(iris: Cluster) -> None:
    models(iris, "load", NEXT_IRIS)
    models(iris, "load", ECHO, "--workers", iris.worker_http[iris.processes[1].pid])
    models(iris, "route", "iris_model", "0.2")
    models(iris, "unload", "iris_model", "0.1")
    before = models(iris, "list")

    for worker in iris.processes[1:3]:
        worker.end()
    iris.broker.end()
    iris.start_broker(BROKER_STATE=str(iris.folder / "state.json"))
    for http in list(iris.worker_http.values()):
        iris.start_worker("LightIris", WORKER_HTTP=http)
    client = iris.client()
    wait_until(lambda: models(iris, "list") == before, START_S, "everything is as before")
    assert sorted(names(client)) == [("echo", 1, 0), ("iris_model", 0, 2)]
    assert client.iris_model_predict(FLOWER) == NEXT_SETOSA


def test_changed_code_is_loaded_again_and_a_new_version_stands_beside(tmp_path: Path) -> None:
    package = tmp_path / "constant_package"
    package.mkdir()
    source = package / "constant.py"

    def write(value: int, minor: int = 0) -> None:
        source.write_text(CONSTANT.format(value=value, minor=minor))

    write(1)
    made = Cluster(tmp_path)
    try:
        made.start_broker()
        for _ in range(2):
            made.start_worker(
                "EchoOnly", PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1", WORKER_LOADABLE="constant_package"
            )
        made.wait_for_workers(2)
        client = made.client()
        models(made, "load", "constant_package.constant:Constant")
        assert client.constant_predict(None) == 1
        write(2)
        assert client.constant_predict(None) == 1
        models(made, "reload", "constant")
        assert [client.constant_predict(None) for _ in range(4)] == [2] * 4
        source.write_text("def broken(:\n")
        assert "SyntaxError" in models(made, "reload", "constant", code=1)
        assert client.constant_predict(None) == 2
        write(3, minor=1)
        assert models(made, "reload", "constant").startswith("constant 1.1 was loaded")
        assert (client.constant_predict(None), client.constant_v1_1_predict(None)) == (2, 3)
        models(made, "unload", "constant", "1.0")
        assert client.constant_predict(None) == 3
        error = models(made, "load", "tests.services.models:NamesakeOfConstant", code=1)
        assert "'constant' and the version 1.1 are already those of constant_package.constant:Constant" in error
    finally:
        made.close()


def test_only_its_user_reaches_a_broker_and_only_one_broker_has_an_address(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    with tempfile.TemporaryDirectory() as short:  # the path of a socket must be short
        made.admin = f"ipc://{short}/run/admin.sock"
        try:
            first = made.start_broker()
            assert stat.S_IMODE(Path(short, "run", "admin.sock").stat().st_mode) == 0o600
            assert stat.S_IMODE(Path(short, "run").stat().st_mode) & 0o700 == 0o700
            assert models(made, "list").split() == ["model", "version", "state", "calls", "workers", "from"]
            second = Cluster(tmp_path / "second")
            second.folder.mkdir()
            other = Process(
                "broker",
                {
                    "BROKER_FRONTEND": second.frontend,
                    "BROKER_BACKEND": second.backend,
                    "BROKER_HTTP": second.http,
                    "BROKER_ADMIN": made.admin,
                },
                second.folder / "log",
            )
            assert other.wait(20) == 2
            assert f"BROKER_ADMIN={made.admin!r} is taken" in other.output()
            first.signal(signal.SIGKILL)
            first.wait(10)
            made.start_broker()
            assert models(made, "list").split()[0] == "model"
        finally:
            made.close()


def test_an_unload_waits_for_the_running_stream(iris: Cluster) -> None:
    client = iris.client()
    models(iris, "load", "tests.services.models:Counter")
    stream = iter(client.counter_predict_stream(500))
    assert next(stream) == 0
    unloading = subprocess.Popen(
        [sys.executable, "scripts/models.py", "--address", iris.admin, "unload", "counter"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: "unloading" in models(iris, "list"), 10, "the model is being unloaded")
        with pytest.raises(zerorpc.RemoteError, match="is not a procedure"):
            list(client.counter_predict_stream(1))
        assert "there is no model 'counter'" in models(iris, "unload", "counter", code=1)
        models(iris, "load", ECHO)
        assert list(stream) == list(range(1, 500))
        printed, _ = unloading.communicate(timeout=10)
        assert printed == "counter 1.0 was unloaded\n"
    finally:
        unloading.kill()
        unloading.wait(10)
        assert unloading.stdout is not None
        unloading.stdout.close()
