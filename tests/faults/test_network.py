"""Networks that are cut, slow, lossy, or hold connections on which nobody speaks."""

import socket
import time
from pathlib import Path

import pytest

from tests.faults.network import other_side
from tests.figures import Figure
from tests.processes import START_S, cluster, total, wait_until


@pytest.mark.fault(15)
def test_a_worker_that_is_cut_off_is_given_up_and_comes_back_when_the_cut_heals(tmp_path: Path, figure: Figure) -> None:
    with other_side() as far, cluster(tmp_path, host=far.near) as made:
        cut_off = made.start_worker("SleeperOnly", far.prefix)
        here = made.start_worker("SleeperOnly")
        before = {worker["id"] for worker in made.wait_for_workers(2)}
        load = made.load("sleeper_predict", argument=0.2, in_flight=6, connections=3)
        wait_until(lambda: made.in_flight() == 2, 5, "both workers have a call")
        far.cut()
        cut_s = time.monotonic()
        wait_until(lambda: len(made.workers()) == 1, 10, "it is given up")
        gone_s = time.monotonic() - cut_s
        figure("from the cut to the worker given up", gone_s, "s")
        assert gone_s < 5
        assert made.workers()[0]["pid"] == here.pid
        wait_until(lambda: total(made.http, "zerorpc_broker_retries_total") == 1, 2, "its call is tried again")
        far.heal()
        healed_s = time.monotonic()
        after = {worker["id"] for worker in made.wait_for_workers(2, timeout_s=20)}
        back_s = time.monotonic() - healed_s
        figure("from the healed cut to the worker back", back_s, "s")
        assert len(before & after) == 1, "it has a new id"
        load.stop()
        result = load.result()
        figure("calls lost, or answered twice", result["unasked"] + result["unanswered"], "")
        assert result["unasked"] == result["unanswered"] == 0
        assert set(result["outcomes"]) == {"OK"}
        assert set(result["by_value"]) == {str(cut_off.pid), str(here.pid)}
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="heartbeat") == 1


@pytest.mark.fault(16)
@pytest.mark.timeout(240)
def test_a_slow_and_lossy_network_costs_no_worker_and_no_call(tmp_path: Path, figure: Figure) -> None:
    minutes = 1.5
    with other_side() as far, cluster(tmp_path, host=far.near) as made:
        far.delay(200, 100, loss_percent=1.0)
        made.start_worker("SleeperOnly", far.prefix)
        before = {worker["id"] for worker in made.wait_for_workers(1)}
        load = made.load("sleeper_predict", far.prefix, argument=0.1, in_flight=4, connections=2, seconds=60 * minutes)
        result = load.result(60 * minutes + 60)
        lost = total(made.http, "zerorpc_broker_worker_lost_total")
        dropped = total(made.http, "zerorpc_broker_clients_dropped_total")
        figure(f"workers and clients given up in {minutes:g} minutes", lost + dropped, "")
        figure("calls lost", result["unanswered"], "")
        assert {worker["id"] for worker in made.workers()} == before
        assert lost == dropped == 0
        assert result["unanswered"] == 0
        assert set(result["outcomes"]) == {"OK"}
        assert result["sent"] > 20


@pytest.mark.fault(17)
def test_a_client_that_is_cut_off_leaves_nothing(tmp_path: Path, figure: Figure) -> None:
    with other_side() as far, cluster(tmp_path, host=far.near) as made:
        made.start_worker("SleeperOnly")
        made.start_raw_worker("one")
        made.wait_for_workers(2)
        made.load("sleeper_predict", far.prefix, argument=0.5, in_flight=50)
        made.load("counter_count", far.prefix, argument=1_000_000, in_flight=1)
        wait_until(lambda: made.in_flight() == 2 and made.open_calls() == 51, START_S, "all calls have come")
        far.cut()
        cut_s = time.monotonic()
        wait_until(lambda: made.in_flight() == 0 and made.open_calls() == 0, 20, "nothing is left of them")
        gone_s = time.monotonic() - cut_s
        figure("from the cut to nothing in flight", gone_s, "s")
        assert gone_s < 15
        assert made.outcomes("sleeper_predict")["cancelled"] > 0, "queued calls are dropped"
        assert total(made.http, "zerorpc_broker_clients_dropped_total", reason="unreachable") == 2
        assert isinstance(made.client().sleeper_predict(0), int)


@pytest.mark.fault(18)
@pytest.mark.parametrize("end", ["frontend", "backend"])
def test_a_connection_that_says_nothing_is_closed(tmp_path: Path, figure: Figure, end: str) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        host, _, port = getattr(made, end).removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.setblocking(False)
            opened_s = time.monotonic()
            wait_until(lambda: _is_closed(silent), 10, "it is closed")
            closed_s = time.monotonic() - opened_s
        figure(f"until a silent connection to the {end} is closed", closed_s, "s")
        assert 4 < closed_s < 7
        assert made.client().echo_predict("served") == "served"


def _is_closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):  # ZeroMQ says hello first
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True
