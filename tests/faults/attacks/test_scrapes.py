"""Scrapes of a broker that knows very many models."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import gevent
import pytest

from broker.http.snapshot import Snapshot
from cluster.wire.protocol import ModelDescription
from tests.faults.attacks.attack import attack
from tests.faults.attacks.hostile_worker import hostile_worker, model
from tests.figures import Figure
from tests.processes import samples, wait_until
from tests.unit.world import World, describe, describe_model

SCRAPES = 10
MODELS = 1000

Answer = TypeVar("Answer")


@pytest.mark.alone
@pytest.mark.fault(51)
def test_scrapes_of_1000_models_delay_no_call(tmp_path: Path, figure: Figure) -> None:
    with attack(tmp_path, figure, f"{SCRAPES} scrapes of {MODELS} models") as made:
        cluster = made.cluster
        with hostile_worker(cluster.backend) as worker:
            worker.register([model(f"m{number}") for number in range(MODELS)])
            wait_until(lambda: len(cluster.client().get_models()) == MODELS + 1, 10, "all models are registered")
            for _ in range(SCRAPES):
                scrape = gevent.get_hub().threadpool.spawn(count_procedures, cluster.http)
                counted = scrape.get(timeout=30)
                assert counted is not None
                assert counted >= MODELS


def count_procedures(http: str) -> int:
    return len(samples(http, "zerorpc_broker_request_duration_seconds_count"))


@pytest.mark.alone
@pytest.mark.fault(51)
def test_a_scrape_stops_the_loop_for_milliseconds_only(figure: Figure) -> None:
    models: list[ModelDescription] = [describe_model(f"m{number}") for number in range(MODELS)]
    world = World()
    world.join_as(b"w1", replace(describe("w1"), models=models))
    while world.core.dispatch(world.now_s) == world.now_s:
        pass
    longest_s = 0.0  # of the slices of one snapshot

    def ask(question: Callable[[], Answer], /) -> Answer:
        nonlocal longest_s
        started_s = time.perf_counter()
        answer = question()
        longest_s = max(longest_s, time.perf_counter() - started_s)
        return answer

    least_s = float("inf")  # of several snapshots, because the garbage collector and other programs interrupt some
    for _ in range(5):
        longest_s = 0.0
        assert len(Snapshot(world.core, ask).procedures) >= 4 * MODELS
        least_s = min(least_s, longest_s)
    figure(f"longest slice of a scrape of {MODELS} models", 1000 * least_s, "ms")
    assert least_s < 0.005
