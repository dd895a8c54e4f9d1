"""Workers: several models as one service, metrics, readiness, batches, and slow calls."""

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from cluster.wire import protocol
from tests import needs
from tests.processes import START_S, Cluster, Process, cluster, free_port, get, samples, total, wait_until


def test_workers_with_different_models_are_one_service(tmp_path: Path) -> None:
    with cluster(tmp_path, None, "SleeperOnly", "MlBase") as made:
        client = made.client()
        names = {model["qualified_name"] for model in client.get_models()}
        assert names == {"iris_model", "sleeper", "colour_model"}
        assert {f"{name}_predict" for name in names} < set(client._zerorpc_inspect()["methods"])
        pids = {worker["models"][0]: worker["pid"] for worker in made.workers()}
        assert client.sleeper_predict(0) == pids["sleeper"]
        assert client.colour_model_predict({"petal_length": 1.0, "petal_width": 1.0}) == {"colour": "blue", "area": 1.0}
        assert client.get_model_metadata("colour_model")["major_version"] == 2
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.colour_model_predict({"petal_length": -1.0, "petal_width": 1.0})
        assert raised.value.name == "MLModelSchemaValidationException"
        assert raised.value.msg.startswith("Failed to validate input data: Key 'petal_length' error: ")


def test_a_busy_model_does_not_delay_another_on_a_pool_of_its_own(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        for models in ("sleeper", "echo"):
            made.start_worker("SleeperAndEcho", WORKER_MODELS=models)
        made.wait_for_workers(2)
        assert sorted(worker["models"] for worker in made.workers()) == [["echo"], ["sleeper"]]
        client = made.client()
        busy = [gevent.spawn(client.sleeper_predict, 0.5) for _ in range(10)]
        wait_until(lambda: made.in_flight() > 0, 5, "the sleeper is busy")
        for i in range(20):
            assert client.echo_predict(i) == i
        assert not busy[-1].ready(), (
            "20 echoes behind as many sleeps would take 10 s; the sleeper needs 5 s for all of its"
        )
        gevent.joinall(busy, raise_error=True)


def test_prometheus_finds_the_metrics_of_each_worker(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        client = made.client()
        for _ in range(10):
            client.echo_predict("x")
        targets = json.loads(get(made.http, "/prometheus/targets")[1])
        names = {f"{worker['host']}-{worker['pid']}" for worker in made.workers()}
        assert {target["labels"]["worker"] for target in targets} == names
        addresses = [address for target in targets for address in target["targets"]]
        assert sorted(addresses) == sorted(made.worker_http.values())
        for name in ("zerorpc_worker_predictions_total", "zerorpc_worker_prediction_duration_seconds_count"):
            assert sum(total(address, name, model="echo") for address in addresses) == 10
        for address in addresses:
            assert total(address, "zerorpc_worker_connected") == 1
            assert total(address, "zerorpc_worker_predictions_in_progress", model="echo") == 0
            assert samples(address, "zerorpc_worker_model_info") == {(("model", "echo"), ("version", "1.0")): 1}
            assert total(address, "process_cpu_seconds_total") > 0


def test_an_idle_cluster_takes_less_than_a_hundredth_of_a_core_a_process(tmp_path: Path) -> None:
    window_s = 10.0
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        addresses = [made.http, *made.worker_http.values()]

        def cpu_s() -> list[float]:
            return [total(address, "process_cpu_seconds_total") for address in addresses]

        cpu_s()  # the first answer of an HTTP endpoint costs more than the next ones
        before_s, end_s = cpu_s(), time.monotonic() + window_s
        wait_until(lambda: time.monotonic() >= end_s, window_s + 1, "the window has passed")
        used_s = [after - before for after, before in zip(cpu_s(), before_s, strict=True)]
        assert max(used_s) < 0.01 * window_s, used_s


def test_the_cluster_runs_over_ipv6(tmp_path: Path) -> None:
    needs.unless(_has_ipv6(), "an IPv6 loopback")
    made = Cluster(tmp_path)
    try:
        made.frontend, made.backend = (f"tcp://[::1]:{free_port('::1')}" for _ in range(2))
        made.http = f"[::1]:{free_port('::1')}"
        made.start_broker()
        made.start_worker("EchoOnly")
        made.wait_for_workers(1)
    finally:
        made.close()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_readiness_names_the_models_without_a_worker(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", BROKER_EXPECTED_MODELS="echo, iris_model") as made:
        assert get(made.http, "/readyz") == (503, "no ready worker hosts iris_model\n")
        made.start_worker("LightIris")
        wait_until(lambda: get(made.http, "/readyz") == (200, "ready\n"), START_S, "the broker is ready")
        made.processes[1].signal(signal.SIGKILL)
        wait_until(lambda: get(made.http, "/readyz") == (503, "no ready worker hosts echo\n"), 5, "it says so")


def test_a_worker_of_another_protocol_version_is_refused_with_a_reason(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        other = Process("tests.services.future_worker", {"WORKER_BROKER": made.backend}, tmp_path / "future.log")
        made.processes.append(other)
        assert other.wait(START_S) == 2
        assert f"names protocol version 99; this broker speaks version {protocol.VERSION}" in other.output()
        assert made.client().echo_predict("served") == "served"


def test_one_slow_call_of_a_quick_model_delays_no_other_model(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperAndEcho") as made:
        client = made.client()
        for _ in range(20):
            client.sleeper_predict(0)  # from now on, the thread that runs the loop also runs this model
        slow = gevent.spawn(client, "sleeper_predict", 3)
        wait_until(lambda: made.in_flight() == 1, 5, "the worker has the slow call")
        other = made.client()
        for i in range(20):
            assert other.echo_predict(i) == i
        assert not slow.ready()
        assert get(made.worker_http[made.processes[1].pid], "/healthz")[0] == 200
        assert slow.get(timeout=10) == made.processes[1].pid


def test_a_worker_that_is_stopped_in_a_slow_call_of_a_quick_model_finishes_it(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperAndEcho") as made:
        client = made.client()
        for _ in range(20):
            client.sleeper_predict(0)
        slow = gevent.spawn(client, "sleeper_predict", 4)
        wait_until(lambda: made.in_flight() == 1, 3, "the worker has the slow call")
        made.processes[1].signal(signal.SIGTERM)
        wait_until(lambda: "draining: 1 calls are in flight" in made.processes[1].output(), 3, "it drains at once")
        assert not slow.ready()
        assert slow.get(timeout=10) == made.processes[1].pid
        assert made.processes[1].wait(5) == 0


def test_calls_wait_for_a_batch_as_long_as_their_model_allows(tmp_path: Path) -> None:
    with cluster(tmp_path, "PatientGatherer") as made:  # 1 s, for batches of 4

        def at_once(calls: int) -> tuple[list[int], float]:
            started_s = time.monotonic()
            spawned = [gevent.spawn(client, "gatherer_predict", 0) for client in clients[:calls]]
            gevent.joinall(spawned, timeout=10, raise_error=True)
            return [call.get() for call in spawned], time.monotonic() - started_s

        clients = [made.client() for _ in range(4)]
        for client in clients:
            client.get_models()  # connected
        results, took_s = at_once(3)
        assert results == [3, 3, 3]
        assert took_s > 0.99
        results, took_s = at_once(4)
        assert results == [4, 4, 4, 4]
        assert took_s < 0.99, "a full batch does not wait"


def test_a_batch_that_was_sent_ahead_waits_for_its_turn_at_the_worker(tmp_path: Path) -> None:
    with cluster(tmp_path, "GathererAhead") as made:  # batches of 2, one ahead
        client = made.client()
        first = gevent.spawn(client.gatherer_predict, 1.0)
        wait_until(lambda: made.in_flight() == 1, 5, "the first runs")
        others: list[Any] = [gevent.spawn(client.gatherer_predict, 0) for _ in range(5)]
        wait_until(lambda: made.open_calls() == 6, 5, "all have come")
        ahead = made.in_flight() - 1
        assert ahead in (1, 2), "one batch, of what had come by then; the others may yet go to another worker"
        assert total(made.http, "zerorpc_broker_queue_depth", method="gatherer_predict") == 5 - ahead
        assert not first.ready()
        gevent.joinall([first, *others], timeout=10, raise_error=True)
        assert sorted(call.get() for call in others) == [1, 2, 2, 2, 2]
