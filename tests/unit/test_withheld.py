"""Models that are configured and unloaded cost the message loop the same, however many workers there are."""

import time
from collections.abc import Callable
from typing import TypeVar

from broker.http.status import readiness
from cluster.wire.protocol import Version
from tests.unit.world import World, describe_model

Answer = TypeVar("Answer")
MODELS = [
    describe_model(f"m{number}", Version(1, 0), entry={"module_name": "m", "class_name": "M"}, is_configured=True)
    for number in range(100)
]


def registered_s(others: int) -> float:
    """The shortest time in which the deployment takes up a worker beside so many others, in seconds."""
    world = World()
    for number in range(others):
        world.join_with(b"w%d" % number, *MODELS)
    world.ask("unload_model", "m7", "1.0")
    worker = world.core.registry.workers[b"w1"]
    times = []
    for _ in range(5):
        begun_s = time.perf_counter()
        world.core.deployment.worker_registered(worker)
        times.append(time.perf_counter() - begun_s)
    return min(times)


def test_a_registration_takes_as_long_beside_many_workers_as_beside_few() -> None:
    assert registered_s(200) < 5 * registered_s(2)


def test_readyz_asks_in_slices() -> None:
    world = World()
    for number in range(200):
        world.join_with(b"w%d" % number, *MODELS)
    world.ask("unload_model", "m7", "1.0")
    slices = 0

    def ask(question: Callable[[], Answer], /) -> Answer:
        nonlocal slices
        slices += 1
        return question()

    assert readiness(world.core, ask, []).withheld == ["m7 1.0"]
    assert slices >= 5
