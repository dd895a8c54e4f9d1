"""Measures every system under every load, round by round, so that changes of the machine affect all systems alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tqdm import tqdm

from bench.running import Measured, running
from bench.systems import System

IN_FLIGHT = (1, 16, 64, 256)


@dataclass(frozen=True)
class Point:
    """One system under one load: the median of each figure over the rounds."""

    system: str
    title: str
    family: str
    in_flight: int
    measured: Measured


def compare(systems: Iterable[System], rounds: int, seconds: float) -> list[Point]:
    """Measure each system under each load.

    Systems that take nothing while they rest run at one time, and take turns at each load, so that what is compared was
    measured within seconds; each round begins with another one.

    Raises:
        BenchError: if a system cannot be measured.
    """
    systems = list(systems)
    seen: dict[tuple[System, int], list[Measured]] = defaultdict(list)
    with tqdm(total=rounds * len(systems) * len(IN_FLIGHT), unit="measurement") as bar:
        for i in range(rounds):
            for together in _side_by_side(systems):
                with ExitStack() as stack:
                    under_test = [stack.enter_context(running(system)) for system in together]
                    first = i % len(together)
                    for in_flight in IN_FLIGHT:
                        for one in under_test[first:] + under_test[:first]:
                            bar.set_postfix_str(f"{one.system.title}, {in_flight} in flight")
                            seen[one.system, in_flight].append(one.measure(in_flight, seconds))
                            bar.update()
    return [
        Point(system.key, system.title, system.family, in_flight, _median(seen[system, in_flight]))
        for system in systems
        for in_flight in IN_FLIGHT
    ]


def _side_by_side(systems: list[System]) -> list[list[System]]:
    """Return groups of systems that can run at the same time."""
    resting = [system for system in systems if system.rests]
    alone = [[system] for system in systems if not system.rests]
    return [resting, *alone] if resting else alone


def _median(measured: list[Measured]) -> Measured:
    rows: list[dict[str, Any]] = [asdict(one) for one in measured]
    middle = {name: median(row[name] for row in rows) for name in rows[0]}
    return Measured(**{**middle, "failed": sum(one.failed for one in measured)})
