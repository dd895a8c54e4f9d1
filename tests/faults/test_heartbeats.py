"""Slow is not dead: calls that run or wait for a minute, with every kind of client heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from tests.processes import cluster, wait_until

pytestmark = [pytest.mark.one_process, pytest.mark.timeout(180)]

LONG_S = 60.0
"""Contract: a call that waits or computes for that long does not end in `LostRemote`, in seconds."""

CLIENTS: dict[str, dict[str, Any]] = {
    "5": {"heartbeat": 5},
    "1": {"heartbeat": 1},
    "30": {"heartbeat": 30},
    "None": {"heartbeat": None},
    "passive": {"heartbeat": 5, "passive_heartbeat": True},
    "passive-1": {"heartbeat": 1, "passive_heartbeat": True},
}


@dataclass
class LongCalls:
    """Calls that began together on one cluster and have all ended; each as it ended.

    Attributes:
        running: calls of a model that sleeps, by the kind of client.
        waiting: calls in the queue of the model whose lock was held, by the kind of client.
        holding: the call that held the interpreter's lock of its worker.
        overtook: the calls that had ended before the long ones could.
        workers_before: the workers' ids before the calls.
        workers_after: and after them.
        sleeper_pid: the process id of the worker of the model that sleeps.
    """

    running: dict[str, gevent.Greenlet[..., Any]]
    waiting: dict[str, gevent.Greenlet[..., Any]]
    holding: gevent.Greenlet[..., Any]
    overtook: list[gevent.Greenlet[..., Any]]
    workers_before: set[str]
    workers_after: set[str]
    sleeper_pid: int


@pytest.fixture(scope="module")
def long_calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongCalls]:
    """The long waits of this file run at the same time: the minute passes once."""
    with cluster(tmp_path_factory.mktemp("long"), "SleeperWithSlots", "LockHolderOnly") as made:

        def start(name: str, seconds: float) -> dict[str, gevent.Greenlet[..., Any]]:
            clients = {kind: made.client(timeout=2 * LONG_S, **options) for kind, options in CLIENTS.items()}
            return {kind: gevent.spawn(client, name, seconds) for kind, client in clients.items()}

        before = {worker["models"][0]: worker for worker in made.workers()}
        holding = gevent.spawn(made.client(timeout=2 * LONG_S, heartbeat=1), "lockholder_predict", LONG_S)
        wait_until(lambda: made.in_flight() == 1, 5, "the lock is held")
        running = start("sleeper_predict", LONG_S)
        waiting = start("lockholder_predict", 0.01)
        calls = [holding, *running.values(), *waiting.values()]
        wait_until(lambda: made.open_calls() == len(calls), 10, "all calls have arrived")
        gevent.joinall(calls, timeout=LONG_S - 10)
        overtook = [call for call in calls if call.ready()]
        gevent.joinall(calls, timeout=30)
        yield LongCalls(
            running,
            waiting,
            holding,
            overtook,
            {worker["id"] for worker in before.values()},
            {worker["id"] for worker in made.workers()},
            before["sleeper"]["pid"],
        )


@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", CLIENTS)
def test_every_kind_of_client_makes_a_long_call(long_calls: LongCalls, kind: str) -> None:
    assert long_calls.running[kind].get(block=False) == long_calls.sleeper_pid


@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", CLIENTS)
def test_every_kind_of_client_waits_long_in_the_queue(long_calls: LongCalls, kind: str) -> None:
    assert not long_calls.overtook, "they wait behind the first"
    assert long_calls.waiting[kind].get(block=False) < 5


@pytest.mark.fault(6)
def test_a_model_that_holds_the_interpreter_loses_neither_worker_nor_client(long_calls: LongCalls) -> None:
    assert long_calls.holding.get(block=False) >= LONG_S
    assert long_calls.workers_after == long_calls.workers_before, "no worker was evicted"


@pytest.mark.fault(12)
def test_a_client_whose_broker_dies_is_told_by_its_own_heartbeat(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client(heartbeat=1)
        call = gevent.spawn(client, "sleeper_predict", 60)
        wait_until(lambda: made.in_flight() == 1, 5, "the call runs")
        made.broker.end()
        with pytest.raises(zerorpc.LostRemote):
            call.get(timeout=10)
