"""Attacks on the state file: rights, contents, a truncated file, and a broker that is killed while it writes."""

import json
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zerorpc

from tests.faults.attacks.attack import ATTACKED, attack
from tests.figures import Figure
from tests.processes import Cluster, cluster, total, wait_until

PLAN = {
    "loaded": [],
    "unloaded": [["gone_model", "1.0"]],
    "routes": {"iris_model": {"default": "0.1", "split": {"0.1": 9, "0.2": 1}}},
}
WRONG_WEIGHTS = json.dumps(PLAN).replace("9", "-9")
TRUNCATED = json.dumps(PLAN)[:-30]
FAILURES = "zerorpc_broker_state_file_failures_total"


@contextmanager
def administrator(made: Cluster) -> Iterator[Any]:
    client = zerorpc.Client(made.admin, timeout=60)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (WRONG_WEIGHTS, "0.1=-9: a weight should be a whole number"),
        (TRUNCATED, "is broken"),
    ],
)
@pytest.mark.fault(59, 63)
def test_a_broker_starts_beside_a_broken_state_file(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "state" / "plan.json"
    path.parent.mkdir()
    path.write_text(content)
    with cluster(tmp_path, None, code=ATTACKED, BROKER_STATE=str(path)) as made:
        log = made.broker.output()
        assert "ERROR" in log
        assert says in log
        assert total(made.http, FAILURES, reason="broken") == 1
        (aside,) = path.parent.iterdir()
        assert aside.read_text() == content
        with administrator(made) as admin:
            (row,) = admin.route_model("iris_model", {"0.1": 1})
        assert row["share"] == 100
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["routes"]["iris_model"]["default"] == "0.1"


@pytest.mark.fault(63)
def test_an_answered_change_outlives_the_kill_of_the_broker(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with cluster(tmp_path, None, code=ATTACKED, BROKER_STATE=str(path)) as made:
        with administrator(made) as admin:
            admin.route_model("iris_model", {"0.1": 1})
            made.broker.signal(signal.SIGKILL)
            made.broker.wait(10)
        assert json.loads(path.read_text())["routes"]["iris_model"]["default"] == "0.1"
        made.start_broker(BROKER_STATE=str(path))
        assert total(made.http, FAILURES, reason="broken") == 0


@pytest.mark.alone
@pytest.mark.fault(63)
def test_calls_are_fast_while_an_administrator_changes_routes_without_end(tmp_path: Path, figure: Figure) -> None:
    path = tmp_path / "plan.json"
    with attack(tmp_path, figure, "200 routes in the state file", BROKER_STATE=str(path)) as made:
        with administrator(made.cluster) as admin:
            for weight in range(1, 201):
                admin.route_model("iris_model", {"0.1": weight})
        assert "iris_model" in json.loads(path.read_text())["routes"]


@pytest.mark.fault(63)
def test_a_plan_that_cannot_be_written_is_logged_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "state" / "plan.json"
    path.parent.mkdir()
    with cluster(tmp_path, None, code=ATTACKED, BROKER_STATE=str(path)) as made, administrator(made) as admin:
        (tmp_path / "state").rename(tmp_path / "gone")
        admin.route_model("iris_model", {"0.1": 1})
        assert total(made.http, FAILURES, reason="write") == 1
        wait_until(lambda: "ends with this broker" in made.broker.output(), 5, "the log says so")
