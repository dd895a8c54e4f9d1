"""Measures every system under every load, in rounds, so that other work of the machine affects all systems alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tqdm import tqdm

from bench.running import Measurement, running
from bench.systems import System

IN_FLIGHT = (1, 16, 64, 256)


@dataclass(frozen=True)
class Point:
    """The medians over all rounds for one system under one load."""

    system: str
    title: str
    family: str
    in_flight: int
    measured: Measurement


def compare(systems: Iterable[System], rounds: int, seconds: float) -> list[Point]:
    """Measure each system under each load.

    Systems that can idle run at the same time and take turns at each load, so that the measurements to compare are only
    seconds apart. Each round starts with another system.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    systems = list(systems)
    measurements: dict[tuple[System, int], list[Measurement]] = defaultdict(list)
    with tqdm(total=rounds * len(systems) * len(IN_FLIGHT), unit="measurement") as progress:
        for i in range(rounds):
            for group in _concurrent_groups(systems):
                with ExitStack() as stack:
                    under_test = [stack.enter_context(running(system)) for system in group]
                    first = i % len(group)
                    for in_flight in IN_FLIGHT:
                        for tested in under_test[first:] + under_test[:first]:
                            progress.set_postfix_str(f"{tested.system.title}, {in_flight} in flight")
                            measurements[tested.system, in_flight].append(tested.measure(in_flight, seconds))
                            progress.update()
    return [
        Point(system.key, system.title, system.family, in_flight, _median(measurements[system, in_flight]))
        for system in systems
        for in_flight in IN_FLIGHT
    ]


def _concurrent_groups(systems: list[System]) -> list[list[System]]:
    """Return the systems in groups that run at the same time."""
    idling = [system for system in systems if system.can_idle]
    alone = [[system] for system in systems if not system.can_idle]
    return [idling, *alone] if idling else alone


def _median(measurements: list[Measurement]) -> Measurement:
    rows: list[dict[str, Any]] = [asdict(measurement) for measurement in measurements]
    medians = {name: median(row[name] for row in rows) for name in rows[0]}
    return Measurement(**{**medians, "failed": sum(measurement.failed for measurement in measurements)})
