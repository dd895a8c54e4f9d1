"""The load generator, as its users run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import REPOSITORY, Cluster, cluster, free_port, own_environment, total

pytestmark = pytest.mark.one_process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("load"), "EchoOnly", "LightIris") as started:
        yield started


def load(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "load.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=own_environment(), timeout=60)


def result(*options: str) -> dict[str, Any]:
    done = load(*options, "--json", "--warm-up", "0.2")
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_a_closed_loop_checks_and_times_every_answer(made: Cluster) -> None:
    before = made.outcomes("iris_model_predict")["ok"]
    seen = result(made.frontend, "--in-flight", "8", "--connections", "3", "--seconds", "1")
    assert seen["outcomes"] == {"OK": seen["calls"]}
    assert seen["calls"] > 20
    assert seen["calls_a_second"] == pytest.approx(seen["calls"] / seen["seconds"], rel=0.5)
    latency = seen["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    answered = made.outcomes("iris_model_predict")["ok"] - before
    assert answered > seen["calls"], "those of the warm-up, and the first, are not among them"


def test_an_open_loop_keeps_its_rate(made: Cluster) -> None:
    seen = result(made.frontend, "--rate", "50", "--seconds", "2", "--connections", "2")
    assert seen["outcomes"] == {"OK": 100}
    assert set(seen["lateness_ms"]) == set(seen["latency_ms"])


def test_many_connections_are_all_used(made: Cluster) -> None:
    seen = result(made.frontend, "--rate", "300", "--seconds", "1", "--connections", "100")
    assert seen["outcomes"] == {"OK": 300}


def test_large_answers_to_several_clients_at_once_delay_no_client(made: Cluster) -> None:
    options = ["--procedure", "echo_predict", "--data-bytes", "10000000", "--in-flight", "4", "--connections", "4"]
    seen = result(made.frontend, *options, "--seconds", "2")
    assert seen["outcomes"] == {"OK": seen["calls"]}
    assert seen["latency_ms"]["max"] < 10_000


@pytest.mark.parametrize("data", [["--data", '{"a": [1, null]}'], ["--data-bytes", "100000"]])
def test_any_procedure_and_argument_can_be_called(made: Cluster, data: list[str]) -> None:
    seen = result(made.frontend, "--procedure", "echo_predict", *data, "--seconds", "0.5", "--in-flight", "2")
    assert seen["outcomes"] == {"OK": seen["calls"]}


def test_a_wrong_answer_is_reported(made: Cluster) -> None:
    done = load(made.frontend, "--expect", '{"species": "virginica"}', "--seconds", "0.3", "--warm-up", "0")
    assert done.returncode == 1
    assert " wrong" in done.stdout
    assert " OK" not in done.stdout


def test_the_result_is_readable_and_drawn(made: Cluster, tmp_path: Path) -> None:
    picture = tmp_path / "latency.svg"
    done = load(made.frontend, "--seconds", "0.5", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert "calls/s" in done.stdout
    assert "p99 " in done.stdout
    assert "<svg" in picture.read_text()


def test_streams_are_read_to_their_end_and_every_item_is_compared(made: Cluster) -> None:
    rows = json.dumps(list(range(250)))
    options = ["--procedure", "echo_predict_stream", "--data", rows, "--seconds", "0.5", "--in-flight", "4"]
    seen = result(made.frontend, *options)
    assert seen["outcomes"] == {"OK": seen["calls"]}
    assert seen["calls"] > 4
    done = load(made.frontend, *options, "--expect", json.dumps([0] * 250), "--json")
    assert set(json.loads(done.stdout)["outcomes"]) == {"wrong"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["nonsense"], "cannot connect to 'nonsense'"),
        (["--data", "{"], "--data '{' is not JSON"),
        (["--in-flight", "0"], "--in-flight 0 should be more than 0"),
        (["--rate", "-1"], "--rate -1 should be more than 0"),
    ],
)
def test_a_mistake_is_a_sentence(options: list[str], text: str) -> None:
    done = load(*options)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_or_refusing_service_is_a_sentence(made: Cluster) -> None:
    refused = load(made.frontend, "--procedure", "nothing")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: nothing answered NameError: ")
    away = load(f"tcp://127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "no answer in 10 s; is the cluster running? Start it with make up" in away.stderr
    assert total(made.http, "zerorpc_broker_open_channels") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux' scheduler")
def test_the_brokers_threads_use_batch_scheduling(made: Cluster) -> None:
    threads = [int(one.name) for one in Path(f"/proc/{made.broker.pid}/task").iterdir()]
    assert len(threads) >= 2, "the loop's, HTTP's"
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}
