"""Workers that describe too much, or what nobody should print."""

from pathlib import Path
from typing import Any

import pytest

from cluster.wire import protocol
from tests.faults.attacks.attack import attack
from tests.faults.attacks.hostile_worker import hostile_worker, model
from tests.figures import Figure
from tests.processes import wait_until

IRIS = "iris_model"


@pytest.mark.alone
@pytest.mark.fault(58)
@pytest.mark.parametrize(("count", "says"), [(1000, ""), (5000, "READY has 5000 models; a worker may have 1000")])
def test_a_worker_with_very_many_models(tmp_path: Path, figure: Figure, count: int, says: str) -> None:
    with attack(tmp_path, figure, f"{count} models of one worker") as made, hostile_worker(made.cluster.backend) as one:
        answer = one.register([model(f"m{number}") for number in range(count)])
        assert says.encode() in answer
        client = made.cluster.client()
        expected = 1 if says else count + 1
        wait_until(lambda: len(client.get_models()) == expected, 10, f"{expected} models are registered")


@pytest.mark.alone
@pytest.mark.fault(49)
def test_the_limits_of_a_worker_end_with_it(tmp_path: Path, figure: Figure) -> None:
    described: dict[str, Any] = {"slots": 10_000, "max_streams": 10_000, "batch_wait_ms": 60_000.0, "timeout_s": 0.001}
    with attack(tmp_path, figure, "extreme limits of a worker") as made:
        for _ in range(20):
            with hostile_worker(made.cluster.backend) as one:
                assert one.register([model("other", **described)]) == protocol.WELCOME
        with hostile_worker(made.cluster.backend) as one:
            assert b"batch_wait_ms should be from 0 to 60,000.0" in one.register([model(IRIS, batch_wait_ms=1e9)])


@pytest.mark.fault(54)
def test_names_that_change_a_terminal_are_refused(tmp_path: Path, figure: Figure) -> None:
    with attack(tmp_path, figure, "names with control characters") as made:
        with hostile_worker(made.cluster.backend) as one:
            assert b"should be an identifier" in one.register([model("a\nb\x1b[2J")])
        broker = made.cluster.broker
        wait_until(lambda: "a worker was refused: " in broker.output(), 10, "the refusal is logged")
        assert "\x1b" not in broker.output()
