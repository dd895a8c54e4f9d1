"""What people's models do to a worker, and what holds: docs/models.md, "What a model may do"."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import psutil
import pytest
import zerorpc

from tests.processes import Cluster, Process, cluster, free_ports, get, samples, total, wait_until
from worker.process.numeric_threads import VARIABLES


def the_worker(made: Cluster) -> Process:
    """The only worker of a cluster."""
    (worker,) = [one for one in made.processes if one.pid in made.worker_http]
    return worker


# -- processes that a model forks ------------------------------------------------------------------------------------


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, "Forks") as made:
        yield made
        for child in psutil.Process().children(recursive=True):
            child.kill()


def test_children_of_a_model_keep_neither_the_port_nor_the_connection_of_a_killed_worker(forking: Cluster) -> None:
    children = forking.client().forker_predict(None)
    worker = the_worker(forking)
    http = forking.worker_http[worker.pid]
    try:
        worker.signal(signal.SIGKILL)
        worker.wait(5)
        wait_until(lambda: not forking.workers(), 2, "the broker sees the connection end")
        assert all(map(psutil.pid_exists, children)), "they have outlived the worker"
        assert get(http, "/healthz")[0] == 0
        again = subprocess.run(
            [sys.executable, "-c", f"import socket; socket.create_server(('127.0.0.1', {http.rpartition(':')[2]}))"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 0, again.stderr
    finally:
        for pid in set(children):
            os.kill(pid, signal.SIGKILL)


def test_a_model_can_terminate_its_children(forking: Cluster) -> None:
    assert forking.client().forker_predict("terminate") == -signal.SIGTERM
    assert forking.client().echo_predict(1) == 1


def test_what_a_child_logs_is_in_the_log(forking: Cluster) -> None:
    assert forking.client().forker_predict("log") == 0
    worker = the_worker(forking)
    wait_until(lambda: "WARNING child: a line of a child" in worker.output(), 5, "the line is in the log")


# -- signals, threads, the end ---------------------------------------------------------------------------------------


def test_a_worker_whose_model_took_sigterm_drains(tmp_path: Path) -> None:
    with cluster(tmp_path, "TakesSignals") as made:
        worker = the_worker(made)
        load = made.load("signaltaker_predict", argument="1.0", calls=1, in_flight=1)
        wait_until(lambda: made.in_flight() == 1, 5, "the call runs")
        begin_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait(10) == 0
        assert time.monotonic() - begin_s < 5
        assert set(load.result()["outcomes"]) == {"OK"}
        assert (
            "signaltaker has replaced the handler of SIGTERM by tests.services.habits._ignore; the worker's own is in "
            "force again"
        ) in worker.output()


def test_a_worker_drains_after_a_loaded_model_has_taken_sigterm(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    admin = zerorpc.Client(made.admin, timeout=30)
    try:
        made.start_broker()
        made.start_worker("EchoOnly", WORKER_LOADABLE="*")
        made.wait_for_workers(1)
        admin.load_model({"module_name": "tests.services.habits", "class_name": "LibrarySignalTaker"}, [])
        worker = the_worker(made)
        ignored = Path(f"/proc/{worker.pid}/status")
        wait_until(lambda: not _ignores_sigterm(ignored.read_text()), 5, "the worker's handler is in force again")
        worker.signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    finally:
        admin.close()
        made.close()


def _ignores_sigterm(status: str) -> bool:
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_worker_ends_although_a_thread_of_its_model_does_not(tmp_path: Path) -> None:
    with cluster(tmp_path, "KeepsThreads") as made:
        worker = the_worker(made)
        worker.signal(signal.SIGTERM)
        assert worker.wait(8) == 0
        assert "ending although not everything has ended: keeper" in worker.output()


def test_a_worker_that_fails_ends_although_a_thread_of_its_model_does_not(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        worker = made.start_worker("FailsAfterThreads")
        assert worker.wait(20) == 1
        assert "RuntimeError: no weights" in worker.output()
    finally:
        made.close()


# -- what costs a worker nothing -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("harmless")
    made = Cluster(folder)
    try:
        made.start_broker()
        made.start_worker(
            "HarmlessHabits", WORKER_LOADABLE="*", ASKED=made.frontend, BROKEN_FILE=str(folder / "broken")
        )
        made.start_worker("EchoOnly")
        made.wait_for_workers(2)
        yield made
    finally:
        made.close()


def habits_worker(made: Cluster) -> tuple[str, Process]:
    """The HTTP address and the process of the worker with the habits."""
    pid, http = next(iter(made.worker_http.items()))
    return http, next(one for one in made.processes if one.pid == pid)


def test_a_thread_of_a_model_may_die(harmless: Cluster) -> None:
    _, worker = habits_worker(harmless)
    assert harmless.client().threadloser_predict("x") == "x"
    wait_until(lambda: "ZeroDivisionError" in worker.output(), 5, "its traceback is in the log")
    assert worker.returncode is None


def test_a_model_may_change_the_process_and_print_much(harmless: Cluster) -> None:
    client = harmless.client()
    assert client.wanderer_predict(20) == 20
    assert client.rowchanger_predict({"number": 1}) == {"number": 1}
    assert get(habits_worker(harmless)[0], "/readyz")[0] == 200


def test_standard_input_is_empty(harmless: Cluster) -> None:
    assert harmless.client(timeout=10).reader_predict(None) == ""


def test_numeric_libraries_use_one_thread(harmless: Cluster) -> None:
    assert harmless.client().threadcounter_predict(list(VARIABLES)) == dict.fromkeys(VARIABLES, "1")


def test_a_model_is_warmed_up_before_anything_else(harmless: Cluster) -> None:
    done = harmless.client().warming_predict(None)
    assert done[:3] == ["__init__", "warm_up", "predict"], "the example comes after that"


def test_workers_take_the_devices_in_turn(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        made.start_broker()
        first = free_ports(2)
        for port in (first, first + 1):
            made.start_worker("ManyThreads", WORKER_HTTP=f"127.0.0.1:{port}", WORKER_DEVICES="0, GPU-5a")
        made.wait_for_workers(2)
        client = made.client()
        seen = [client.threadcounter_predict(["CUDA_VISIBLE_DEVICES"]) for _ in range(50)]
        assert {one["CUDA_VISIBLE_DEVICES"] for one in seen} <= {"0", "GPU-5a"}
        calls = [gevent.spawn(client.threadcounter_predict, ["HIP_VISIBLE_DEVICES"]) for _ in range(50)]
        gevent.joinall(calls, raise_error=True)
        assert {call.get()["HIP_VISIBLE_DEVICES"] for call in calls} == {"0", "GPU-5a"}
    finally:
        made.close()


def test_numeric_libraries_use_the_threads_that_a_model_asks_for(tmp_path: Path) -> None:
    with cluster(tmp_path, "ManyThreads") as made:
        assert made.client().threadcounter_predict(list(VARIABLES)) == dict.fromkeys(VARIABLES, "3")


def test_metrics_of_a_model_are_shown_and_a_reload_replaces_them(harmless: Cluster, tmp_path: Path) -> None:
    http, worker = habits_worker(harmless)
    client = harmless.client()
    client.instrumented_predict(3)
    assert total(http, "habits_rows_total", what="seen") == 3
    assert total(http, "zerorpc_worker_connected") == 1, "the worker's own are there, though a collector fails"
    assert "a model's metric could not be collected: habits_failing" in worker.output()
    admin = zerorpc.Client(harmless.admin, timeout=30)
    try:
        broken = Path(harmless.folder / "broken")
        broken.touch()
        with pytest.raises(zerorpc.RemoteError, match="the file is there"):
            admin.reload_model("instrumented", "")
        broken.unlink()
        client.instrumented_predict(1)
        assert total(http, "habits_rows_total", what="seen") == 4, "a load that fails leaves the old metrics"
        admin.reload_model("instrumented", "")
        assert not samples(http, "habits_rows_total")
        client.instrumented_predict(2)
        assert total(http, "habits_rows_total", what="seen") == 2
    finally:
        admin.close()


def test_schemas_without_a_form_in_json_schema_are_left_open(harmless: Cluster) -> None:
    metadata = harmless.client().get_model_metadata("oddschemas")
    assert metadata["input_schema"]["properties"] == {"array": {}, "any": {}, "nan": {"type": "number"}}
    assert metadata["input_schema"]["additionalProperties"] is True
    assert metadata["output_schema"] == {}
    _, worker = habits_worker(harmless)
    assert "oddschemas_output: the schema is shown as {}, which accepts everything: AttributeError" in worker.output()


def test_a_client_that_a_model_keeps_from_its_constructor_is_named_in_the_log(harmless: Cluster) -> None:
    _, worker = habits_worker(harmless)
    assert "tests.services.habits.ClientKeeper keeps a zerorpc.Client as 'client' from its constructor" in (
        worker.output()
    )


def test_a_model_can_call_another_with_a_client_for_each_thread(harmless: Cluster) -> None:
    client = harmless.client()
    for sleep_s in (0, 0, 0.05, 0, 0.05, 0, 0):  # slow calls move from thread to thread
        assert client.asker_predict({"sleep": sleep_s}) == {"sleep": sleep_s}


def test_a_stock_client_gets_an_error_for_what_it_cannot_read(harmless: Cluster) -> None:
    client = harmless.client(timeout=10)
    with pytest.raises(zerorpc.RemoteError, match=r"result\['scores'\]\[0\] has the key 0 of type int"):
        client.unreadable_predict("number as key")
    stream = client.unreadable_predict_stream("number as key")
    assert next(stream) == "first"
    with pytest.raises(zerorpc.RemoteError, match=r"result\['scores'\]\[0\] has the key 0 of type int"):
        next(stream)


def test_rows_that_a_model_has_changed_are_answered_as_they_were_sent(harmless: Cluster) -> None:
    rows = [{"number": number} for number in range(100)]
    assert harmless.client().rowchanger_predict_batch(rows) == rows


# -- gevent ----------------------------------------------------------------------------------------------------------


def test_a_model_that_patches_the_process_is_refused(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        worker = made.start_worker("Patches")
        assert worker.wait(20) == 2
        assert "model tests.services.habits.Patcher: its code has called gevent.monkey, which replaces" in (
            worker.output()
        )
    finally:
        made.close()


def test_a_loaded_model_that_patches_the_process_costs_one_worker(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    admin = zerorpc.Client(made.admin, timeout=30)
    try:
        made.start_broker()
        workers = [made.start_worker("EchoOnly", WORKER_LOADABLE="*") for _ in range(2)]
        made.wait_for_workers(2)
        with pytest.raises(zerorpc.RemoteError, match=r"has called gevent\.monkey"):
            admin.load_model({"module_name": "tests.services.habits", "class_name": "Patcher"}, [])
        wait_until(lambda: [one.returncode for one in workers].count(0) == 1, 10, "one has ended")
        assert made.client().echo_predict(1) == 1
    finally:
        admin.close()
        made.close()
