"""Measures systems under loads, in rounds, so that other work of the machine affects all systems alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any

from tqdm import tqdm

from bench.running import Measurement, running
from bench.systems import System


@dataclass(frozen=True)
class Case:
    """A system under a load: calls that are kept in flight, or calls per second in an open loop."""

    system: System
    in_flight: int
    rate: float = 0.0


@dataclass(frozen=True)
class Point:
    """The medians over all rounds for one system under one load of one workload."""

    workload: str
    system: str
    title: str
    family: str
    in_flight: int
    rate: float
    measured: Measurement


def compare(
    systems: Iterable[System], in_flights: Sequence[int], rounds: int, seconds: float, workload: str = "row"
) -> list[Point]:
    """Measure each system with each number of calls in flight.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    cases = [Case(system, in_flight) for system in systems for in_flight in in_flights]
    return measure_cases(cases, rounds, seconds, workload)


def measure_cases(cases: Sequence[Case], rounds: int, seconds: float, workload: str) -> list[Point]:
    """Measure each case in each round.

    Systems that can idle run at the same time and take turns at each load, so that the measurements to compare are only
    seconds apart. Each round starts with another system.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    measurements: dict[Case, list[Measurement]] = defaultdict(list)
    with tqdm(total=rounds * len(cases), unit="measurement", desc=workload) as progress:
        for i in range(rounds):
            for group in _concurrent_groups(list(dict.fromkeys(case.system for case in cases))):
                with ExitStack() as stack:
                    under_test = {system: stack.enter_context(running(system)) for system in group}
                    own = sorted((case for case in cases if case.system in under_test), key=_in_flight)
                    for _, in_turn in groupby(own, _in_flight):
                        turns = list(in_turn)
                        first = i % len(turns)
                        for case in turns[first:] + turns[:first]:
                            progress.set_postfix_str(f"{case.system.title}, {case.in_flight} in flight")
                            measured = under_test[case.system].measure(case.in_flight, seconds, rate=case.rate)
                            measurements[case].append(measured)
                            progress.update()
    return [
        Point(
            workload,
            case.system.key,
            case.system.title,
            case.system.family,
            case.in_flight,
            case.rate,
            _median(measurements[case]),
        )
        for case in cases
    ]


def _in_flight(case: Case) -> int:
    return case.in_flight


def _concurrent_groups(systems: list[System]) -> list[list[System]]:
    """Return the systems in groups that run at the same time."""
    idling = [system for system in systems if system.can_idle]
    alone = [[system] for system in systems if not system.can_idle]
    return [idling, *alone] if idling else alone


def _median(measurements: list[Measurement]) -> Measurement:
    rows: list[dict[str, Any]] = [asdict(measurement) for measurement in measurements]
    medians = {name: median(row[name] for row in rows) for name in rows[0]}
    return Measurement(**{**medians, "failed": sum(measurement.failed for measurement in measurements)})
