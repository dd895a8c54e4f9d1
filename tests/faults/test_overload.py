"""Deadlines, full queues and stuck models, with real processes and stock clients."""

import time
from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from tests.processes import cluster, total, wait_until
from worker.loop.watchdog import GRACE_S, STUCK_EXIT_CODE


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("config", "call", "says"),
    [
        ("ImpatientSleeper", ("sleeper_predict", 3600), "sleeper_predict has been stuck for"),
        ("ImpatientLockHolder", ("foreverlockholder_predict", None), "Timeout (0:00:0"),
    ],
)
def test_a_model_that_hangs_costs_its_caller_the_call_and_its_worker_the_process(
    tmp_path: Path, config: str, call: tuple[str, Any], says: str
) -> None:
    with cluster(tmp_path, config) as made:
        made.start_worker("EchoOnly")
        made.wait_for_workers(2)
        client = made.client()
        started_s = time.monotonic()
        with pytest.raises(zerorpc.RemoteError) as raised:
            client(*call)
        assert raised.value.name == "DeadlineExceeded"
        assert 1.0 <= time.monotonic() - started_s < 1.0 + GRACE_S, "the deadline ends it, not the worker's death"
        assert made.processes[1].wait(GRACE_S + 10) in (1, STUCK_EXIT_CODE)
        assert says in made.processes[1].output()
        assert "in predict" in made.processes[1].output(), "its log shows where it was stuck"
        made.wait_for_workers(1)
        assert client.echo_predict("served") == "served"
        assert total(made.http, "zerorpc_broker_requests_total", method=call[0], outcome="deadline") == 1


def test_a_caller_sets_a_deadline_with_a_context_hook(tmp_path: Path) -> None:
    class Deadline:
        def get_task_context(self) -> dict[str, float]:
            return {"timeout_s": 0.5}

    context = zerorpc.Context()
    context.register_middleware(Deadline())
    with cluster(tmp_path, "SleeperOnly") as made:
        patient, hurried = made.client(), made.client(context=context)
        first = gevent.spawn(patient, "sleeper_predict", 2)
        wait_until(lambda: made.in_flight() == 1, 5, "the first call runs")
        with pytest.raises(zerorpc.RemoteError) as raised:
            hurried.sleeper_predict(0)
        assert raised.value.name == "DeadlineExceeded"
        assert "it was not executed" in raised.value.msg
        assert isinstance(first.get(timeout=10), int)
        assert total(made.http, "zerorpc_broker_dispatched_total") == 1
    context.term()


@pytest.mark.fault(20)
def test_a_flood_is_refused_beyond_its_share_and_others_are_served(tmp_path: Path) -> None:
    flood, share, seconds_each = 300, 100, 0.2
    with cluster(tmp_path, "SleeperOnly", BROKER_QUEUE_CLIENT_CALLS=str(share)) as made:
        flooder, other = made.client(), made.client()

        def call() -> str:
            try:
                flooder.sleeper_predict(seconds_each)
            except zerorpc.RemoteError as error:
                return str(error.name)
            return "OK"

        calls = [gevent.spawn(call) for _ in range(flood)]

        def count(outcome: str) -> float:
            return total(made.http, "zerorpc_broker_requests_total", method="sleeper_predict", outcome=outcome)

        wait_until(
            lambda: count("busy") + count("ok") + share >= flood - 1, 20, "the flood has come, and is refused in part"
        )
        assert count("busy") >= flood - share - 20
        started_s = time.monotonic()
        other.sleeper_predict(0)
        assert time.monotonic() - started_s < share * seconds_each / 4, "its turn comes before the rest of the flood"
        wait_until(lambda: sum(call.ready() for call in calls) >= count("busy"), 10, "the refusals have arrived")
        assert {call.get() for call in calls if call.ready()} <= {"ServerBusy", "OK"}
        gevent.killall(calls)
        flooder.close()
        wait_until(lambda: made.in_flight() == 0, 15, "what the flooder had is dropped")
        assert count("busy") + count("ok") + count("cancelled") == flood + 1
