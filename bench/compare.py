"""Measures systems under loads, in rounds, so that other work of the machine affects all systems alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
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
    seconds apart. Each round starts with another system. Every other system runs alone, once for all rounds.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    measurements: dict[Case, list[Measurement]] = defaultdict(list)
    systems = list(dict.fromkeys(case.system for case in cases))
    idling = [system for system in systems if system.can_idle]
    starts = [([i], idling) for i in range(rounds)] if idling else []
    starts += [(list(range(rounds)), [system]) for system in systems if not system.can_idle]
    with tqdm(total=rounds * len(cases), unit="measurement", desc=workload) as progress:
        for numbers, group in starts:
            with ExitStack() as stack:
                under_test = {system: stack.enter_context(running(system)) for system in group}
                own = sorted((case for case in cases if case.system in under_test), key=_in_flight)
                for i in numbers:
                    for case in _in_turn(own, i):
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


def _in_turn(cases: list[Case], number: int) -> Iterator[Case]:
    """Yield the cases of a round: load after load, each with another system first."""
    for _, of_load in groupby(cases, _in_flight):
        turns = list(of_load)
        first = number % len(turns)
        yield from turns[first:] + turns[:first]


def _median(measurements: list[Measurement]) -> Measurement:
    rows: list[dict[str, Any]] = [asdict(measurement) for measurement in measurements]
    medians = {name: median(row[name] for row in rows) for name in rows[0]}
    return Measurement(**{**medians, "failed": sum(measurement.failed for measurement in measurements)})
