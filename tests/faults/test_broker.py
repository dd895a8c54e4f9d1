"""A broker that is killed, frozen or stopped."""

import signal
import time
from pathlib import Path

import gevent
import pytest
import zerorpc

from tests.figures import Figure
from tests.processes import cluster, get, total, wait_until


@pytest.mark.fault(14)
def test_a_broker_that_was_frozen_evicts_no_worker_for_its_own_pause(tmp_path: Path) -> None:
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


@pytest.mark.fault(12)
def test_a_broker_that_starts_again_has_its_workers_back_and_clients_go_on(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        client = made.client(heartbeat=1)
        assert client.echo_predict(1) == 1
        before = {worker["id"] for worker in made.workers()}
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        made.start_broker()
        up_s = time.monotonic()
        after = {worker["id"] for worker in made.wait_for_workers(2, timeout_s=5)}
        figure("from the broker's start to its workers back", time.monotonic() - up_s, "s")
        assert not before & after
        assert client.echo_predict(2) == 2


@pytest.mark.fault(13)
def test_a_broker_that_is_stopped_finishes_what_it_has(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        client = made.client()
        calls = [gevent.spawn(client, "sleeper_predict", 0.2) for _ in range(50)]
        wait_until(lambda: made.arrived("sleeper_predict") >= 50, 10, "all calls have arrived")
        made.broker.signal(signal.SIGTERM)
        stopped_s = time.monotonic()
        wait_until(lambda: "draining" in made.broker.output(), 5, "the broker drains")
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.sleeper_predict(0)
        assert raised.value.name == "Draining"
        assert get(made.http, "/readyz")[0] == 503
        gevent.joinall(calls, timeout=20)
        figure("of 50 calls in flight, lost", 50 - sum(call.successful() for call in calls), "")
        gevent.joinall(calls, raise_error=True)
        assert made.broker.wait(5) == 0
        assert time.monotonic() - stopped_s < 25


@pytest.mark.fault(13)
def test_broker_and_workers_that_are_stopped_at_once_finish_what_was_accepted(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly", "SleeperOnly") as made:
        load = made.load("sleeper_predict", argument=0.1, in_flight=50, calls=50)
        wait_until(lambda: made.arrived("sleeper_predict") >= 50, 10, "all calls have arrived")
        for process in reversed(made.processes):
            process.signal(signal.SIGTERM)
        result = load.result()
        figure("of 50 calls in flight when all processes are stopped at once, lost", result["unanswered"], "")
        assert result["outcomes"]["OK"]["count"] == 50
        assert [process.wait(10) for process in made.processes] == [0, 0, 0]


@pytest.mark.fault(13)
@pytest.mark.parametrize("which", ["broker", "worker"])
def test_a_second_sigterm_ends_at_once(tmp_path: Path, figure: Figure, which: str) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        made.load("sleeper_predict", argument=60, in_flight=1, patience=0)
        wait_until(lambda: made.in_flight() == 1, 5, "a call is in flight")
        process = made.broker if which == "broker" else made.processes[1]
        process.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in process.output(), 5, "it drains, which may take 20 s")
        process.signal(signal.SIGTERM)
        again_s = time.monotonic()
        assert process.wait(5) == 0
        figure(f"from the second SIGTERM to the {which}'s end", time.monotonic() - again_s, "s")


@pytest.mark.fault(13)
def test_stopping_without_a_broker_takes_no_time(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        started_s = time.monotonic()
        made.processes[1].signal(signal.SIGTERM)
        assert made.processes[1].wait(10) == 0
        assert time.monotonic() - started_s < 5


@pytest.mark.fault(12)
def test_a_worker_written_from_the_protocol_page_outlives_its_broker(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_raw_worker("one")
        assert [worker["id"] for worker in made.wait_for_workers(1)] == ["one-1"]
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(5)
        made.start_broker()
        assert [worker["id"] for worker in made.wait_for_workers(1, timeout_s=5)] == ["one-2"]
        assert [row[0] for row in made.client().counter_count(3)] == [0, 1, 2]
