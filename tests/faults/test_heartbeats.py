"""Slow is not dead: calls that take longer than a client's patience with silence, with every kind of heartbeat."""

from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from tests.processes import cluster, wait_until

LONG_S = 12.0
"""More than twice the 5 s of a stock client's heartbeat."""

CLIENTS: dict[str, dict[str, Any]] = {
    "5": {"heartbeat": 5},
    "1": {"heartbeat": 1},
    "30": {"heartbeat": 30},
    "None": {"heartbeat": None},
    "passive": {"heartbeat": 5, "passive_heartbeat": True},
    "passive-1": {"heartbeat": 1, "passive_heartbeat": True},
}


def call_all(clients: list[Any], name: str, *args: Any) -> list[Any]:
    calls = [gevent.spawn(client, name, *args) for client in clients]
    gevent.joinall(calls, timeout=60, raise_error=True)
    return [call.get(block=False) for call in calls]


@pytest.mark.fault(23)
def test_every_kind_of_client_makes_a_long_call(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperWithSlots") as made:
        clients = [made.client(**options) for options in CLIENTS.values()]
        assert set(call_all(clients, "sleeper_predict", LONG_S)) == {made.workers()[0]["pid"]}


@pytest.mark.fault(23)
def test_every_kind_of_client_waits_long_in_the_queue(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        first = gevent.spawn(made.client(), "sleeper_predict", LONG_S)
        waiting = [made.client(**options) for options in CLIENTS.values()]
        wait_until(lambda: made.in_flight() == 1, 5, "the first call runs")
        calls = [gevent.spawn(client, "sleeper_predict", 0.01) for client in waiting]
        gevent.joinall([first], timeout=5)
        assert not first.ready()
        assert not any(call.ready() for call in calls), "they wait behind the first"
        gevent.joinall([first, *calls], timeout=60, raise_error=True)
        assert all(call.successful() for call in [first, *calls])


@pytest.mark.fault(6)
def test_a_model_that_holds_the_interpreter_loses_neither_worker_nor_client(tmp_path: Path) -> None:
    with cluster(tmp_path, "LockHolderAndEcho") as made:
        (before,) = made.workers()
        took_s = made.client(heartbeat=1).lockholder_predict(20.0)
        assert took_s >= 20.0
        (after,) = made.workers()
        assert after["id"] == before["id"], "it was not given up"


@pytest.mark.fault(12)
def test_a_client_whose_broker_dies_is_told_by_its_own_heartbeat(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client(heartbeat=1)
        call = gevent.spawn(client, "sleeper_predict", 60)
        gevent.joinall([call], timeout=1)
        made.broker.end()
        with pytest.raises(zerorpc.LostRemote):
            call.get(timeout=10)
