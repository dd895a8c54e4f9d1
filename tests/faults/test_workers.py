"""Workers that die, freeze, misbehave or load slowly."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import zerorpc

from tests.figures import Figure
from tests.processes import START_S, Cluster, cluster, get, total, wait_until


@pytest.mark.fault(1)
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


@pytest.mark.fault(1)
def test_workers_killed_under_load_cost_no_call(tmp_path: Path, figure: Figure) -> None:
    kills = 3
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        load = made.load("echo_predict", in_flight=32, connections=8)
        for _ in range(kills):
            _wait_for_answers(made, "echo_predict", 500)
            made.processes[-2].signal(signal.SIGKILL)
            made.processes[-2].wait(START_S)
            made.start_worker("EchoOnly")
            made.wait_for_workers(2)
        load.stop()
        result = load.result()
        figure(f"of {result['sent']} calls while {kills} workers were killed, lost", result["unanswered"], "")
        assert set(result["outcomes"]) == {"OK"}
        figure("longest of these calls", result["outcomes"]["OK"]["max_ms"], "ms")
        assert result["unanswered"] == result["unasked"] == 0
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="exit") == kills
        assert result["outcomes"]["OK"]["max_ms"] < 5000


def _wait_for_answers(made: Cluster, procedure: str, more: int) -> None:
    wanted = made.outcomes(procedure)["ok"] + more
    wait_until(lambda: made.outcomes(procedure)["ok"] >= wanted, 30, f"{more} calls are answered")


@pytest.mark.alone
@pytest.mark.fault(1)
def test_where_a_retry_is_not_allowed_the_caller_gets_worker_lost_at_once(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnce", "SleeperOnce") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 3) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.processes[1].signal(signal.SIGKILL)
        killed_s = time.monotonic()
        lost = wait_until(lambda: [call for call in calls if call.ready()], 2, "the dead worker's call has ended")[0]
        told_s = time.monotonic() - killed_s
        figure("from the kill to WorkerLost", told_s, "s")
        assert told_s < 0.5
        assert isinstance(lost.exception, zerorpc.RemoteError)
        assert lost.exception.name == "WorkerLost"
        (other,) = [call for call in calls if call is not lost]
        assert other.get(timeout=10) == made.processes[2].pid, "other calls notice nothing"
        assert made.in_flight() == 0


@pytest.mark.fault(4)
def test_a_call_that_kills_its_workers_fails_after_the_second(tmp_path: Path) -> None:
    with cluster(tmp_path, "Misbehaving", "Misbehaving", "Misbehaving") as made:
        client = made.client()
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.misbehaver_predict("die")
        assert raised.value.name == "WorkerLost"
        assert client.echo_predict("served") == "served"
        assert len(made.workers()) == 1


@pytest.mark.alone
@pytest.mark.fault(3)
def test_a_frozen_worker_is_evicted_and_comes_back_by_itself(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        frozen, other = made.processes[1:]
        (before,) = [worker["id"] for worker in made.workers() if worker["pid"] == frozen.pid]
        client = made.client(heartbeat=None)
        calls = [gevent.spawn(client, "sleeper_predict", 2) for _ in range(2)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        frozen.signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        wait_until(lambda: len(made.workers()) == 1, 10, "it is evicted")
        gone_s = time.monotonic() - frozen_s
        figure("from the freeze to the worker evicted", gone_s, "s")
        assert gone_s < 5
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert [call.get() for call in calls] == [other.pid, other.pid]
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="heartbeat") == 1
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 1
        frozen.signal(signal.SIGCONT)
        thawed_s = time.monotonic()
        (after,) = [w["id"] for w in made.wait_for_workers(2, timeout_s=5) if w["pid"] == frozen.pid]
        figure("from its thaw to the worker back", time.monotonic() - thawed_s, "s")
        assert after != before
        both = [gevent.spawn(client, "sleeper_predict", 0.5) for _ in range(2)]
        gevent.joinall(both, timeout=10, raise_error=True)
        assert {call.get() for call in both} == {frozen.pid, other.pid}


@pytest.mark.fault(3)
def test_no_call_of_a_frozen_worker_is_lost_or_answered_twice(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        load = made.load("sleeper_predict", argument=0.05, in_flight=8, connections=2)
        wait_until(lambda: made.outcomes("sleeper_predict")["ok"] > 20, 10, "calls are answered")
        frozen = made.processes[1]
        frozen.signal(signal.SIGSTOP)
        wait_until(lambda: len(made.workers()) == 1, 10, "it is evicted")
        assert total(made.http, "zerorpc_broker_retries_total") == 1
        frozen.signal(signal.SIGCONT)
        made.wait_for_workers(2, timeout_s=5)
        _wait_for_answers(made, "sleeper_predict", 40)
        load.stop()
        result = load.result()
        assert result["unanswered"] == result["unasked"] == 0
        assert set(result["outcomes"]) == {"OK"}


def test_a_worker_that_is_stopped_finishes_what_it_has(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 1) for _ in range(4)]
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        made.processes[1].signal(signal.SIGTERM)
        gevent.joinall(calls, timeout=20, raise_error=True)
        assert made.processes[1].wait(START_S) == 0
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 0
        assert len(made.wait_for_workers(1)) == 1


@pytest.mark.fault(7)
def test_a_too_large_result_or_error_of_a_model_affects_only_its_caller(tmp_path: Path) -> None:
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


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("raise", "MLModelException"),
        ("exit", "SystemExit"),
        ("unpackable", "TypeError"),
        ("huge", "OverflowError"),
        ("odd", "OddError"),
        ("surrogate", "MLModelException"),
        ("invalid", "MLModelSchemaValidationException"),
    ],
)
def test_every_exception_of_a_model_reaches_the_caller_and_the_worker_stays(
    misbehaving: Cluster, data: str, name: str
) -> None:
    before = misbehaving.workers()[0]["id"]
    client = misbehaving.client()
    with pytest.raises(zerorpc.RemoteError) as raised:
        client.misbehaver_predict(data)
    assert raised.value.name == name
    assert client.echo_predict("served") == "served"
    assert [worker["id"] for worker in misbehaving.workers()] == [before]


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), "Misbehaving") as made:
        yield made


@pytest.mark.fault(9)
def test_a_worker_that_loads_slowly_is_not_ready_and_others_serve(tmp_path: Path, figure: Figure) -> None:
    load_s = 8  # longer than the broker and the worker wait for a heartbeat of the other
    with cluster(tmp_path, "EchoOnly") as made:
        slow = made.start_worker("SlowLoading", SLOW_TO_LOAD_S=str(load_s))
        address = made.worker_http[slow.pid]
        wait_until(lambda: get(address, "/healthz")[0] == 200, START_S, "its HTTP endpoint answers")
        assert get(address, "/readyz") == (503, "this worker is loading its models\n")
        load = made.load("echo_predict", rate=50)
        begin_s = time.monotonic()
        wait_until(lambda: len(made.workers()) == 2, load_s + START_S, "it has loaded")
        assert time.monotonic() - begin_s > load_s - 5, "calls went on while it loaded"
        wait_until(lambda: get(address, "/readyz") == (200, "ready\n"), 5, "it is ready")
        load.stop()
        result = load.result()
        figure(f"of {result['sent']} calls while another worker loaded, lost", result["unanswered"], "")
        assert set(result["outcomes"]) == {"OK"}
        assert result["unanswered"] == 0


@pytest.mark.fault(9)
def test_a_worker_that_is_stopped_while_it_loads_ends_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        slow = made.start_worker("SlowLoading", SLOW_TO_LOAD_S="60")
        wait_until(lambda: get(made.worker_http[slow.pid], "/readyz")[0] == 503, START_S, "it loads")
        slow.signal(signal.SIGTERM)
        assert slow.wait(START_S) == 0


@pytest.mark.fault(9)
def test_a_model_that_fails_to_load_ends_its_worker_with_the_reason_in_the_log(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        worker = made.start_worker("FailingToLoad")
        assert worker.wait(START_S) == 1, "supervisor starts it again"
        assert "the file of weights is gone" in worker.output()


@pytest.mark.fault(10)
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


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("row", "text", "with_others"),
    [("bad", "bad among others", 3), ("raise", "raise alone", 1)],
)
def test_a_bad_row_of_a_batch_fails_alone(gatherer: Cluster, row: str, text: str, with_others: int) -> None:
    before = gatherer.outcomes("gatherer_predict")
    occupied = gevent.spawn(gatherer.client(), "gatherer_predict", 1.0)
    wait_until(lambda: gatherer.in_flight() == 1, 5, "the worker has something to do")
    clients = [gatherer.client() for _ in range(3)]
    calls = [gevent.spawn(client, "gatherer_predict", what) for client, what in zip(clients, (0, row, 0), strict=True)]
    gevent.joinall(calls, timeout=20)
    gevent.joinall([occupied], timeout=20)
    assert [calls[0].get(), calls[2].get()] == [with_others] * 2
    assert isinstance(calls[1].exception, zerorpc.RemoteError)
    assert (calls[1].exception.name, calls[1].exception.msg) == ("MLModelException", text)
    assert gatherer.outcomes("gatherer_predict") - before == {"ok": 3, "error": 1}
    assert gatherer.in_flight() == 0


@pytest.fixture(scope="module")
def gatherer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("gatherer"), "GathererOnly") as made:
        yield made


@pytest.mark.fault(4)
def test_a_call_that_kills_its_workers_takes_none_of_its_batch_with_it(tmp_path: Path) -> None:
    with cluster(tmp_path, "DeadlyBatches", "DeadlyBatches", "DeadlyBatches") as made:
        clients = [made.client() for _ in range(6)]
        occupied = [gevent.spawn(client, "deadly_predict", 1.0) for client in clients[:3]]
        wait_until(lambda: made.in_flight() == 3, 5, "every worker has something to do")
        calls = [
            gevent.spawn(client, "deadly_predict", what)
            for client, what in zip(clients[3:], (0, "die", 0), strict=True)
        ]
        gevent.joinall(occupied, timeout=30)
        gevent.joinall(calls, timeout=30)
        assert isinstance(calls[1].exception, zerorpc.RemoteError)
        assert calls[1].exception.name == "WorkerLost"
        assert [call.get() for call in occupied] == [1, 1, 1]
        assert [calls[0].get(), calls[2].get()] == [1, 1]
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 2
