"""Workers of different models, workers that die, freeze, load slowly; a broker that starts again."""

import json
import signal
import socket
import time
from pathlib import Path

import gevent
import pytest
import zerorpc

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


def test_each_worker_has_its_metrics_where_prometheus_is_told(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        client = made.client()
        for _ in range(10):
            client.echo_predict("x")
        targets = json.loads(get(made.http, "/prometheus/targets")[1])
        assert {target["labels"]["worker"] for target in targets} == {worker["id"] for worker in made.workers()}
        addresses = [address for target in targets for address in target["targets"]]
        assert sorted(addresses) == sorted(made.worker_http.values())
        for address in addresses:
            assert total(address, "zerorpc_worker_predictions_total", model="echo", outcome="ok") == 5
            assert total(address, "zerorpc_worker_prediction_duration_seconds_count", model="echo") == 5
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

        cpu_s()  # the first answer of an HTTP endpoint costs more than the others
        before_s, end_s = cpu_s(), time.monotonic() + window_s
        wait_until(lambda: time.monotonic() >= end_s, window_s + 1, "the window has passed")
        used_s = [after - before for after, before in zip(cpu_s(), before_s, strict=True)]
        assert max(used_s) < 0.01 * window_s, used_s


def test_the_call_of_a_killed_worker_is_answered_by_another(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 2) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.processes[1].signal(signal.SIGKILL)
        survivor = made.processes[2].pid
        gevent.joinall(calls, timeout=20, raise_error=True)
        assert [call.get() for call in calls] == [survivor, survivor]
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="exit") == 1
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 1
        assert total(made.http, "zerorpc_broker_retries_total") == 1
        assert made.in_flight() == 0


def test_where_a_retry_is_not_allowed_a_death_is_told_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnce", "SleeperOnce") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 3) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.processes[1].signal(signal.SIGKILL)
        killed_s = time.monotonic()
        lost = wait_until(lambda: [call for call in calls if call.ready()], 2, "the dead worker's call has ended")[0]
        assert time.monotonic() - killed_s < 0.5
        assert isinstance(lost.exception, zerorpc.RemoteError)
        assert lost.exception.name == "WorkerLost"
        (other,) = [call for call in calls if call is not lost]
        assert other.get(timeout=10) == made.processes[2].pid, "other calls notice nothing"
        assert made.in_flight() == 0


def test_a_call_that_kills_its_workers_is_given_up_after_the_second(tmp_path: Path) -> None:
    with cluster(tmp_path, "Misbehaving", "Misbehaving", "Misbehaving") as made:
        client = made.client()
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.misbehaver_predict("die")
        assert raised.value.name == "WorkerLost"
        assert client.echo_predict("served") == "served"
        assert len(made.workers()) == 1


def test_a_frozen_worker_is_given_up_and_comes_back_by_itself(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        frozen, other = made.processes[1:]
        (before,) = [worker["id"] for worker in made.workers() if worker["pid"] == frozen.pid]
        client = made.client(heartbeat=None)
        calls = [gevent.spawn(client, "sleeper_predict", 2) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        frozen.signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        wait_until(lambda: len(made.workers()) == 1, 10, "it is given up")
        assert time.monotonic() - frozen_s < 5
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert [call.get() for call in calls] == [other.pid, other.pid]
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="heartbeat") == 1
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 1
        frozen.signal(signal.SIGCONT)
        (after,) = [w["id"] for w in made.wait_for_workers(2, timeout_s=5) if w["pid"] == frozen.pid]
        assert after != before
        assert {client.sleeper_predict(0) for _ in range(4)} == {frozen.pid, other.pid}


def test_a_broker_that_was_frozen_gives_nobody_up_for_its_own_pause(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        before = {worker["id"] for worker in made.workers()}
        calls = [gevent.spawn(made.client(heartbeat=None), "sleeper_predict", 3) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.broker.signal(signal.SIGSTOP)
        end_s = time.monotonic() + 6.0
        wait_until(lambda: time.monotonic() >= end_s, 7, "the pause has passed")
        made.broker.signal(signal.SIGCONT)
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert {worker["id"] for worker in made.wait_for_workers(2)} == before
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 0
        assert total(made.http, "zerorpc_broker_retries_total") == 0


def test_a_broker_that_starts_again_has_its_workers_back_and_clients_go_on(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        client = made.client(heartbeat=1)
        assert client.echo_predict(1) == 1
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        made.start_broker()
        made.wait_for_workers(2, timeout_s=5)
        assert client.echo_predict(2) == 2


def test_a_broker_that_is_stopped_finishes_what_it_has(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 0.5) for _ in range(4)]
        wait_until(lambda: made.in_flight() > 0, 5, "the first call runs")
        made.broker.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in made.broker.output(), 5, "the broker drains")
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.sleeper_predict(0)
        assert raised.value.name == "Draining"
        assert get(made.http, "/readyz")[0] == 503
        gevent.joinall(calls, timeout=20, raise_error=True)
        assert made.broker.wait(5) == 0


def test_a_worker_that_is_stopped_finishes_what_it_has(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 1) for _ in range(4)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.processes[1].signal(signal.SIGTERM)
        gevent.joinall(calls, timeout=20, raise_error=True)
        assert made.processes[1].wait(5) == 0
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 0
        assert len(made.wait_for_workers(1)) == 1


def test_stopping_without_a_broker_takes_no_time(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        started_s = time.monotonic()
        made.processes[1].signal(signal.SIGTERM)
        assert made.processes[1].wait(10) == 0
        assert time.monotonic() - started_s < 5


def test_what_a_model_says_too_much_of_costs_its_caller_an_error_and_nobody_else(tmp_path: Path) -> None:
    with cluster(tmp_path, "Misbehaving", "Misbehaving") as made:
        before = {worker["id"] for worker in made.workers()}
        client = made.client()
        assert len(client.misbehaver_predict("nearly too large")) == 63 << 20
        for data, name in (("large", "ResultTooLarge"), ("x" * (15 << 20), "MLModelException")):
            with pytest.raises(zerorpc.RemoteError) as raised:
                client.misbehaver_predict(data)
            assert raised.value.name == name
            assert len(raised.value.msg) < 20_000
        assert {worker["id"] for worker in made.workers()} == before
        assert client.echo_predict("served") == "served"


def test_the_cluster_runs_over_ipv6(tmp_path: Path) -> None:
    needs.unless(_has_ipv6(), "an IPv6 loopback")
    made = Cluster(tmp_path)
    try:
        made.frontend, made.backend = (f"tcp://[::1]:{free_port()}" for _ in range(2))
        made.http = f"[::1]:{free_port()}"
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


def test_a_worker_that_loads_slowly_is_not_ready_and_others_serve(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        slow = made.start_worker("SlowLoading", SLOW_TO_LOAD_S="3")
        address = made.worker_http[slow.pid]
        wait_until(lambda: get(address, "/healthz")[0] == 200, START_S, "its HTTP endpoint answers")
        assert get(address, "/readyz") == (503, "this worker is loading its models\n")
        assert made.client().echo_predict("served") == "served"
        made.wait_for_workers(2)
        assert get(address, "/readyz") == (200, "ready\n")


def test_a_worker_that_is_stopped_while_it_loads_ends_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        slow = made.start_worker("SlowLoading", SLOW_TO_LOAD_S="60")
        wait_until(lambda: get(made.worker_http[slow.pid], "/readyz")[0] == 503, START_S, "it loads")
        slow.signal(signal.SIGTERM)
        assert slow.wait(5) == 0


def test_a_model_that_fails_to_load_is_told_in_the_log_and_may_be_tried_again(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        worker = made.start_worker("FailingToLoad")
        assert worker.wait(START_S) == 1
        assert "the file of weights is gone" in worker.output()


def test_readiness_names_the_models_that_nobody_hosts(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", BROKER_EXPECTED_MODELS="echo, iris_model") as made:
        assert get(made.http, "/readyz") == (503, "no ready worker hosts iris_model\n")
        made.start_worker()
        wait_until(lambda: get(made.http, "/readyz") == (200, "ready\n"), START_S, "the broker is ready")
        made.processes[1].signal(signal.SIGKILL)
        wait_until(lambda: get(made.http, "/readyz") == (503, "no ready worker hosts echo\n"), 5, "it says so")


def test_without_workers_calls_are_refused_after_the_grace(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", BROKER_NO_WORKER_GRACE_S="1") as made:
        made.processes[1].signal(signal.SIGKILL)
        made.wait_for_workers(0)
        client = made.client()
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.echo_predict("x")
        assert raised.value.name == "NoWorkers"
        made.start_worker("EchoOnly")
        made.wait_for_workers(1)
        assert client.echo_predict("x") == "x"


def test_a_worker_of_another_protocol_version_is_sent_away_with_a_reason(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        other = Process("tests.services.future_worker", {"WORKER_BROKER": made.backend}, tmp_path / "future.log")
        made.processes.append(other)
        assert other.wait(START_S) == 2
        assert "names protocol version 99; this broker speaks version 1" in other.output()
        assert made.client().echo_predict("served") == "served"


def test_streams_of_two_workers_stay_with_their_worker(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        for name in ("one", "two"):
            made.processes.append(_raw_worker(made.backend, name, tmp_path))
        made.wait_for_workers(2)
        client = made.client(heartbeat=1)
        streams = [gevent.spawn(lambda: list(client.counter_count(2000))) for _ in range(6)]
        gevent.joinall(streams, timeout=60, raise_error=True)
        owners = set()
        for stream in streams:
            rows = stream.get()
            assert [row[0] for row in rows] == list(range(2000))
            (owner,) = {row[1] for row in rows}
            owners.add(owner)
        assert owners == {"one-1", "two-1"}
        assert total(made.http, "zerorpc_broker_requests_total", method="counter_count", outcome="ok") == 6
        assert made.in_flight() == 0


def _raw_worker(backend: str, name: str, folder: Path) -> Process:
    return Process("tests.services.raw_worker", {"RAW_BACKEND": backend, "RAW_ID": name}, folder / f"{name}.log")


def test_a_worker_written_from_the_protocol_page_outlives_its_broker(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.processes.append(_raw_worker(made.backend, "one", tmp_path))
        assert [worker["id"] for worker in made.wait_for_workers(1)] == ["one-1"]
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        made.start_broker()
        assert [worker["id"] for worker in made.wait_for_workers(1, timeout_s=5)] == ["one-2"]
        assert [row[0] for row in made.client().counter_count(3)] == [0, 1, 2]


def test_a_stream_whose_reader_goes_away_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.processes.append(_raw_worker(made.backend, "one", tmp_path))
        made.wait_for_workers(1)
        client = made.client(heartbeat=1)
        stream = client.counter_count(10_000_000)
        assert next(stream)[0] == 0
        assert made.in_flight() == 1
        client.close()
        wait_until(lambda: made.in_flight() == 0, 15, "nothing is in flight")
        assert total(made.http, "zerorpc_broker_open_channels") == 0


def test_a_stream_whose_worker_dies_ends_with_an_error_and_never_as_done(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.processes.append(_raw_worker(made.backend, "one", tmp_path))
        made.wait_for_workers(1)
        client = made.client(heartbeat=1)
        stream = client.counter_count(10_000_000)
        first = [next(stream) for _ in range(150)]
        assert [row[0] for row in first] == list(range(150))
        made.processes[-1].signal(signal.SIGKILL)
        with pytest.raises(zerorpc.RemoteError) as raised:
            for _ in stream:
                pass
        assert raised.value.name == "WorkerLost"
        assert made.in_flight() == 0
