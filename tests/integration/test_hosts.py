"""The commands of the Makefile on machines as they are: proxies, odd paths, limits, IPv6, and processes that die."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import zerorpc

from cluster.runtime.supervisor import supervisor_at
from scripts.supervision import _without_values
from tests.integration.made import Made
from tests.processes import REPOSITORY, START_S, Load, free_port, free_ports, wait_until

PREDICTION = "{'species': 'setosa'}"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def call(make: Made, procedure: str, *args: Any) -> Any:
    client = zerorpc.Client(make.frontend, timeout=20)
    try:
        return client(procedure, *args)
    finally:
        client.close()


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_a_model_has_started_ends_with_its_worker(make: Made) -> None:
    make("up", WORKERS="1", APP_SETTINGS="tests.services.configs:ForksAndIris")
    (worker,) = make.workers()
    children = set(call(make, "forker_predict", None))
    assert all(map(_lives, children))
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(_lives, children)), 10, "its pool has ended")
    wait_until(lambda: [one["pid"] for one in make.workers()] not in ([], [worker["pid"]]), START_S, "a worker is back")
    children = set(call(make, "forker_predict", None))
    make("down")
    assert not any(map(_lives, children))


def test_a_port_that_is_taken_at_a_restart_is_tried_again(make: Made) -> None:
    make("up", WORKERS="1")
    (worker,) = make.workers()
    address = ("127.0.0.1", make.worker_port)
    os.kill(worker["pid"], signal.SIGKILL)
    listener = wait_until(lambda: _listen(address), 5, "the port is free")
    assert listener is not None
    with listener:
        log = make.run_folder / "logs" / f"worker-{make.worker_port}.log"
        wait_until(lambda: "is taken" in log.read_text(), START_S, "the new worker finds it taken")
    wait_until(lambda: [one["state"] for one in make.workers()] == ["ready"], START_S, "it is tried again")
    assert "(exit status 75;" in (make.run_folder / "logs" / "supervisord.log").read_text()
    assert PREDICTION in make("up")


def _listen(address: tuple[str, int]) -> socket.socket | None:
    try:
        return socket.create_server(address)
    except OSError:
        return None


def test_no_command_asks_a_proxy(make: Made) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    make.environment |= dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), nobody)
    make.environment |= {"no_proxy": "", "NO_PROXY": ""}
    assert PREDICTION in make("up", WORKERS="1")
    assert "all workers were restarted" in make("restart")


def test_the_time_to_stop_follows_from_the_time_to_drain(make: Made) -> None:
    make("up", WORKERS="1", BROKER_DRAIN_TIMEOUT_S="60", WORKER_DRAIN_TIMEOUT_S="40.5")
    with supervisor_at(f"unix://{make.run_folder}/supervisor.sock") as proxy:
        found: Any = proxy.supervisor.getAllConfigInfo()
    assert {one["group"]: one["stopwaitsecs"] for one in found if one["group"] != "reaper"} == {
        "broker": 65,
        "worker": 46,
    }


@pytest.mark.nightly
def test_a_call_of_half_a_minute_ends_before_the_cluster_stops(make: Made) -> None:
    make.environment |= {"BROKER_DRAIN_TIMEOUT_S": "60", "WORKER_DRAIN_TIMEOUT_S": "60"}
    make("up", WORKERS="1", APP_SETTINGS="tests.services.configs:SleeperAndIris")
    load = Load(make.frontend, "sleeper_predict", {"argument": "28.0", "in_flight": 1, "calls": 1})
    try:
        wait_until(lambda: any(one["in_flight"] for one in make.workers()), 10, "it runs")
        make("down")
        result = load.result()
    finally:
        load.end()
    assert set(result["outcomes"]) == {"OK"}
    assert result["unanswered"] == 0


def test_commands_say_that_a_worker_is_loading(make: Made) -> None:
    make.environment |= {"APP_SETTINGS": "tests.services.configs:SlowIris", "SLOW_TO_LOAD_S": "2"}
    assert ", 1 loading" in make("up", WORKERS="1")
    assert f"waiting: worker-{make.worker_port} is loading its models" in make("restart")


def test_everything_speaks_ipv6(make: Made) -> None:
    for name in ("BROKER_FRONTEND", "BROKER_BACKEND", "BROKER_ADMIN"):
        make.environment[name] = f"tcp://[::1]:{free_port('::1')}"
    make.environment |= {
        "WORKER_BROKER": make.environment["BROKER_BACKEND"],
        "BROKER_HTTP": f"[::1]:{free_port('::1')}",
        "WORKER_HTTP": f"[::1]:{free_ports(2, '::1')}",
    }
    assert PREDICTION in make("up", WORKERS="2")
    assert "all workers were restarted" in make("restart")
    for command in (["scripts/models.py", "list"], ["scripts/get_models.py", make.environment["BROKER_FRONTEND"]]):
        printed = subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, env=make.environment, capture_output=True, text=True, check=True
        )
        assert "iris_model" in printed.stdout
    folder = make.run_folder / "service"
    describe = ["-m", "scripts.describe", make.environment["BROKER_FRONTEND"], "--folder", str(folder)]
    subprocess.run([sys.executable, *describe], cwd=REPOSITORY, env=make.environment, check=True)
    program = f"import service_client as s; print(s.Service({make.environment['BROKER_FRONTEND']!r}).get_models())"
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=make.environment, capture_output=True, text=True, check=True
    )
    assert "iris_model" in printed.stdout


@pytest.mark.parametrize("name", ["50%so", "100% off", "a'b"])
def test_an_odd_path_of_the_folder_works(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as folder:
        made = Made(Path(folder) / name)
        try:
            assert PREDICTION in made("up", WORKERS="1")
            assert "broker.log" in made("logs")
        finally:
            made("down")


def test_an_odd_path_of_the_clone_works() -> None:
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as folder:
        clone = Path(folder) / "50%so clone"
        shutil.copytree(
            REPOSITORY, clone, ignore=shutil.ignore_patterns(".*", "run", "docs", "bench", "integration", "__pycache__")
        )
        made = Made(Path(folder), clone)
        try:
            assert PREDICTION in made("up", WORKERS="1", PYTHONPATH=str(clone))
        finally:
            made("down")


def test_what_supervisor_says_of_its_environment_is_cut_off() -> None:
    said = "Error: Format string 'x' for 'y' is badly formatted: {'ENV_SECRET': 'hunter2', 'ENV_PATH': '/bin'}"
    assert _without_values(said) == "Error: Format string 'x' for 'y' is badly formatted: "


@pytest.mark.parametrize("folder", ["/proc/cluster", "/dev/null/cluster"])
def test_a_folder_that_cannot_be_written_is_one_sentence(make: Made, folder: str) -> None:
    printed = make("up", code=2, CLUSTER_RUN=folder)
    assert f"error: CLUSTER_RUN='{folder}' cannot be written" in printed
    assert "Traceback" not in printed


def test_processes_whose_supervisord_has_died_are_named_and_can_be_stopped(make: Made) -> None:
    make("up", WORKERS="1")
    (worker,) = make.workers()
    supervisord = psutil.Process(int((make.run_folder / "supervisord.pid").read_text()))
    supervisord.kill()
    supervisord.wait(5)
    said = f"worker (pid {worker['pid']})"
    assert said in make("status", code=1)
    assert f"{said} still serve: run make down first" in make("up", code=2)
    assert call(make, "iris_model_predict", FLOWER) == {"species": "setosa"}, "they do serve"
    printed = make("down")
    assert "stopping what it has left: broker (pid" in printed
    assert not _lives(worker["pid"])
    assert "not running" in make("status", code=1)
    assert PREDICTION in make("up", WORKERS="1")


def test_too_few_open_files_are_refused_with_the_numbers_or_raised(make: Made) -> None:
    refused = make_with_limits(make, 300, 300, WORKERS="100")
    assert (
        "error: WORKERS=100 is too many: supervisord needs 472 open files for them, and this process may have 300 "
        "(ulimit -Hn): raise that limit, or start at most 57 workers"
    ) in refused
    assert PREDICTION in make_with_limits(make, 40, 4096, WORKERS="3")


def make_with_limits(make: Made, soft: int, hard: int, **settings: str) -> str:
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec make --no-print-directory up"
    result = subprocess.run(
        ["bash", "-c", limits],
        cwd=REPOSITORY,
        env={**make.environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout + result.stderr
