"""The commands of the Makefile, with a real supervisord. Most tests use a light stand-in for the iris model."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import gevent
import gevent.event
import gevent.subprocess
import pytest
import zerorpc

from tests.figures import Figure
from tests.integration.made import Made
from tests.processes import REPOSITORY, START_S, Load, end_talking, get, talking_process, total, wait_until

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def test_up_serves_and_down_stops(make: Made) -> None:
    del make.environment["APP_SETTINGS"]  # the default: the real iris model
    printed = make("up")
    assert "{'species': 'setosa'}" in printed.splitlines()
    assert make.frontend in printed
    assert "running already" in make("up"), "it is safe to repeat"
    head, broker, *workers = make("status").splitlines()
    assert head.split() == ["process", "pid", "state", "models", "in", "flight", "up", "for"]
    assert broker.split()[::2][:2] == ["broker", "ready"]
    assert [line.split()[0] for line in workers] == [f"worker-{make.worker_port + i}" for i in range(2)]
    assert [line.split()[2:5] for line in workers] == [["ready", "iris_model", "0"]] * 2
    tools = talking_process("tests.services.tools", make.environment["BROKER_BACKEND"])
    try:
        wait_until(lambda: "Tools-1" in make("status"), START_S, "the stock server that has connected is listed")
        assert make("status").splitlines()[-1].split()[:7] == [
            "Tools-1",
            "ready,",
            "a",
            "server",
            "at",
            "127.0.0.1",
            "Tools",
        ]
    finally:
        end_talking(tools)
    logs = make("logs")
    assert f"worker-{make.worker_port}.log" in logs
    assert "broker.log" in logs
    assert " CRIT " not in (make.run_folder / "logs" / "supervisord.log").read_text()
    assert "stopped" in make("down")
    assert get(make.http, "/healthz")[0] == 0
    assert "not running" in make("status", code=1)
    assert "not running" in make("down"), "it is safe to repeat"


@pytest.mark.fault(1)
def test_a_killed_worker_comes_back_and_no_client_notices(make: Made) -> None:
    make("up", WORKERS="2")
    client = zerorpc.Client(make.frontend, timeout=20)
    answers: list[object] = []
    stop = gevent.event.Event()

    def call_on() -> None:
        while not stop.is_set():
            client.get_models()
            answers.append(client.iris_model_predict(FLOWER))

    before = {worker["pid"] for worker in make.workers()}
    os.kill(before.copy().pop(), signal.SIGKILL)  # both are idle
    calling = gevent.spawn(call_on)

    def newcomer() -> str:
        """Return the metrics address of the new worker; empty while there is none."""
        now = make.workers()
        new = [str(worker["metrics_address"]) for worker in now if worker["pid"] not in before]
        return new[0] if len(now) == 2 and new else ""

    address = wait_until(newcomer, START_S, "supervisor has brought another")
    wait_until(lambda: total(address, "zerorpc_worker_predictions_total", outcome="ok") > 0, 10, "it serves again")
    stop.set()
    gevent.joinall([calling], timeout=10, raise_error=True)
    client.close()
    assert answers == [{"species": "setosa"}] * len(answers)


@pytest.mark.parametrize("name", ["broker", "worker"])
def test_a_process_that_was_stopped_by_hand_comes_back(make: Made, name: str) -> None:
    make("up", WORKERS="1")
    log = make.run_folder / "logs" / "supervisord.log"
    process = name if name == "broker" else f"worker-{make.worker_port}"
    wait_until(lambda: f"success: {process} entered RUNNING state" in log.read_text(), 10, "it runs for supervisor too")
    (pid,) = [line.split()[1] for line in make("status").splitlines() if line.startswith(process)]
    os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: log.read_text().count(f"spawned: '{process}'") == 2, 10, "supervisor starts it again")
    assert f"exited: {process} (exit status 0; not expected)" in log.read_text(), "it ended in good order"
    assert "{'species': 'setosa'}" in make("up")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"WORKERS": "\uff12"}, "error: WORKERS='\uff12' is wrong: it should be a whole number from 1 to 1000"),
        (
            {"WORKERS": "3", "WORKER_HTTP": "127.0.0.1:65534"},
            "the 3 workers take the ports from there on, up to 65536, and 65535 is the last: choose 65533 or less",
        ),
        ({"CLUSTER_LOADING_TIMEOUT_S": "soon"}, "error: CLUSTER_LOADING_TIMEOUT_S='soon' is wrong"),
        ({"WORKERS": "many"}, "error: WORKERS='many' is wrong: it should be a whole number from 1 to 1000"),
        ({"LOG_FORMAT": "xml"}, "error: LOG_FORMAT='xml' is wrong: it should be text or json"),
        ({"BROKER_HTTP": "abc"}, "error: BROKER_HTTP='abc' is wrong: it should be host:port"),
        (
            {"APP_SETTINGS": "Nonsense"},
            "error: APP_SETTINGS='Nonsense' is not a configuration; the configurations are Config",
        ),
        ({"APP_SETTINGS": "tests.services.configs:NoClass"}, "the module has no class 'Nothing'"),
        ({"BROKER_HTTP": "127.0.0.1:8422", "WORKER_HTTP": "127.0.0.1:8421"}, "BROKER_HTTP's is among them"),
        ({"CLUSTER_RUN": "/tmp/" + "x" * 100}, "is too long for a socket"),
    ],
)
def test_up_checks_every_setting_before_it_starts_anything(make: Made, settings: dict[str, str], says: str) -> None:
    assert says in make("up", code=2, **settings)
    assert not make.run_folder.exists()


@pytest.mark.fault(40)
def test_a_rolling_restart_loses_none_of_10000_calls(make: Made, figure: Figure) -> None:
    make("up", WORKERS="2")
    before = {worker["pid"] for worker in make.workers()}
    load = Load(
        make.frontend, "iris_model_predict", {"argument": json.dumps(FLOWER), "in_flight": 16, "connections": 8}
    )
    try:
        printed = make("restart")
        assert "all workers were restarted" in printed
        wait_until(lambda: total(make.http, "zerorpc_broker_requests_total") > 10_000, 60, "10,000 calls were made")
        load.stop()
        result = load.result()
    finally:
        load.end()
    figure(f"of {result['sent']} calls during a rolling restart, lost", result["unanswered"], "")
    assert set(result["outcomes"]) == {"OK"}
    figure("longest of these calls", result["outcomes"]["OK"]["max_ms"], "ms")
    assert result["unanswered"] == result["unasked"] == 0
    after = {worker["pid"] for worker in make.workers()}
    assert len(after) == 2
    assert not before & after
    assert total(make.http, "zerorpc_broker_worker_lost_total") == 0
    assert total(make.http, "zerorpc_broker_retries_total") == 0


def test_a_rolling_restart_waits_until_loaded_models_are_ready_again(make: Made) -> None:
    make.environment |= {"SLOW_TO_LOAD_S": "2", "BROKER_NO_WORKER_GRACE_S": "1"}
    make("up", WORKERS="2")
    command = [sys.executable, "scripts/models.py", "load", "tests.services.models:SlowToLoad"]
    subprocess.run(command, cwd=REPOSITORY, env=make.environment, check=True, timeout=60)
    load = Load(make.frontend, "slowtoload_predict", {"rate": 50})
    try:
        make("restart")
        load.stop()
        result = load.result()
    finally:
        load.end()
    assert set(result["outcomes"]) == {"OK"}
    assert result["unanswered"] == 0


def test_up_stops_when_no_worker_can_load_its_models_and_shows_the_whole_traceback(make: Made) -> None:
    begin_s = time.monotonic()
    printed = make("up", code=2, WORKERS="2", APP_SETTINGS="tests.services.configs:IrisAndFailing")
    assert time.monotonic() - begin_s < 30
    traceback = printed[printed.index("Traceback (most recent call last):") :]
    assert "in __init__" in traceback
    assert "OSError: the file of weights is gone" in traceback
    assert f"no worker could load its models; the log of worker-{make.worker_port} is above" in printed
    assert "not running" in make("status", code=1)


def test_an_interrupted_up_says_what_runs_and_how_to_go_on(make: Made) -> None:
    make.environment |= {"APP_SETTINGS": "tests.services.configs:SlowIris", "SLOW_TO_LOAD_S": "3", "WORKERS": "1"}
    with subprocess.Popen(
        ["make", "up"],
        cwd=REPOSITORY,
        env=make.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stdout is not None
        printed = []
        for line in up.stdout:
            printed.append(line)
            if "1 loading" in line:
                os.killpg(up.pid, signal.SIGINT)
        assert up.wait(20) != 0
    said = "".join(printed)
    assert "interrupted: the cluster goes on starting, with 2 processes; make status shows how far it is" in said
    assert "Traceback" not in said
    assert f"worker-{make.worker_port}" in make("status")
    assert "{'species': 'setosa'}" in make("up")


def models(make: Made, *arguments: str) -> str:
    """Run scripts/models.py, and return its output."""
    command = [sys.executable, "scripts/models.py", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=make.environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_up_names_what_is_configured_and_was_unloaded(make: Made) -> None:
    make("up", WORKERS="1")
    models(make, "unload", "iris_model")
    make("down")
    assert "configured and unloaded: iris_model 0.1 (scripts/models.py list says how" in make("up", WORKERS="1")
    listed = models(make, "list")
    assert "scripts/models.py load tests.services.light_iris:LightIris brings it back" in listed
    models(make, "load", "tests.services.light_iris:LightIris")
    assert "{'species': 'setosa'}" in make("up")


@pytest.mark.fault(13)
def test_a_stopped_supervisord_lets_everything_finish(make: Made, figure: Figure) -> None:
    make.environment["APP_SETTINGS"] = "tests.services.configs:SleeperOnly"
    started = subprocess.Popen(["make", "up"], cwd=REPOSITORY, env=make.environment, stdout=-1, stderr=-1)
    started.communicate()  # it fails in its last step, the prediction: there is no iris model
    load = Load(make.frontend, "sleeper_predict", {"argument": "0.2", "in_flight": 50, "calls": 50})
    try:

        def arrived() -> float:
            ended = total(make.http, "zerorpc_broker_requests_total", method="sleeper_predict")
            return ended + total(make.http, "zerorpc_broker_open_channels")

        wait_until(lambda: arrived() >= 50, 20, "all calls have arrived")
        pid = int((make.run_folder / "supervisord.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        stopped_s = time.monotonic()
        result = load.result()
        wait_until(lambda: not _lives(pid), 25, "supervisord has ended")
        took_s = time.monotonic() - stopped_s
    finally:
        load.end()
    figure("of 50 calls in flight when supervisord is stopped, lost", result["unanswered"], "")
    figure("from supervisord's SIGTERM to its end", took_s, "s")
    assert took_s < 25
    assert set(result["outcomes"]) == {"OK"}
    assert result["unanswered"] == 0
    assert get(make.http, "/healthz")[0] == 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.fault(39)
def test_a_process_that_cannot_start_is_not_tried_again_and_up_says_why(make: Made) -> None:
    port = make.worker_port
    printed = make("up", code=2, WORKERS="1", APP_SETTINGS="tests.services.configs:PatchesAndIris")
    assert "error: model tests.services.habits.Patcher: its code has called gevent.monkey" in printed
    assert f"error: worker-{port} ended; the log is above; everything was stopped again" in printed
    log = (make.run_folder / "logs" / "supervisord.log").read_text()
    assert log.count(f"spawned: 'worker-{port}'") == 1
    assert f"stopped: worker-{port} (exit status 2)" in log
    assert "not running" in make("status", code=1)
    assert "{'species': 'setosa'}" in make("up"), "and with another model, it starts"


@pytest.mark.fault(39)
def test_a_taken_port_is_named_before_anything_starts(make: Made) -> None:
    with socket.create_server(("127.0.0.1", make.worker_port + 1)):
        printed = make("up", code=2)
    assert f"error: WORKER_HTTP='127.0.0.1:{make.worker_port + 1}' is taken" in printed
    assert f"It is pid {os.getpid()}, " in printed
    assert f"started in {Path.cwd()}" in printed
    assert not make.run_folder.exists()


def test_workers_take_the_first_ports_that_are_free(make: Made) -> None:
    del make.environment["WORKER_HTTP"]
    with contextlib.ExitStack() as taken_by_us:
        with contextlib.suppress(OSError):  # somebody else may have it
            taken_by_us.enter_context(socket.create_server(("127.0.0.1", 8421)))
        assert "{'species': 'setosa'}" in make("up", WORKERS="2")
        taken = {int(worker["metrics_address"].rpartition(":")[2]) for worker in make.workers()}
        assert 8421 not in taken
        assert max(taken) - min(taken) == 1
        assert "all workers were restarted" in make("restart")


def test_up_does_not_mistake_another_clusters_broker_for_its_own(make: Made) -> None:
    make("up", WORKERS="1")
    other = Made(make.run_folder / "other")
    for name in ("BROKER_FRONTEND", "BROKER_BACKEND", "WORKER_BROKER", "BROKER_HTTP"):
        other.environment[name] = make.environment[name]
    assert f"error: BROKER_FRONTEND='{make.frontend}' is taken" in other("up", code=2)
    assert "not running" in other("down")


def test_up_refuses_another_number_of_workers_than_are_running(make: Made) -> None:
    make("up", WORKERS="1")
    assert "runs already, with 1 worker(s), not 3: run make down first" in make("up", code=2, WORKERS="3")
    assert "{'species': 'setosa'}" in make("up")


@pytest.mark.fault(10)
def test_a_worker_that_dies_at_every_start_is_started_later_and_later(make: Made, tmp_path: Path) -> None:
    died = tmp_path / "the model's file is broken"
    make.environment |= {
        "APP_SETTINGS": "tests.services.configs:IrisAndBreakable",
        "BREAKABLE_FILE": str(died),
        "BROKER_NO_WORKER_GRACE_S": "1",
    }
    make("up", WORKERS="1")
    log = make.run_folder / "logs" / "supervisord.log"
    port = make.worker_port
    wait_until(lambda: f"success: worker-{port} entered RUNNING" in log.read_text(), 10, "it runs for supervisor")
    died.touch()
    (worker,) = make.workers()
    os.kill(worker["pid"], signal.SIGKILL)

    def starts() -> list[datetime]:
        spawned = [line for line in log.read_text().splitlines() if f"spawned: 'worker-{port}'" in line]
        return [datetime.strptime(line.partition(",")[0], "%Y-%m-%d %H:%M:%S") for line in spawned][1:]

    wait_until(lambda: len(starts()) >= 5, 60, "supervisor starts it again and again")
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(starts())]
    assert gaps[3] > gaps[0], gaps
    assert get(make.http, "/readyz") == (503, "no ready worker hosts breakable, iris_model\n")
    client = zerorpc.Client(make.frontend, timeout=20)
    with pytest.raises(zerorpc.RemoteError) as raised:
        client.iris_model_predict(FLOWER)
    client.close()
    assert raised.value.name == "NoWorkers"
