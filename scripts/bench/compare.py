"""Every system under every load, round by round, so that what the machine does besides falls on all alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tqdm import tqdm

from scripts.bench.running import Measured, running
from scripts.bench.systems import System

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

    Raises:
        BenchError: if a system cannot be measured.
    """
    systems = list(systems)
    seen: dict[tuple[System, int], list[Measured]] = defaultdict(list)
    with tqdm(total=rounds * len(systems) * len(IN_FLIGHT), unit="measurement") as bar:
        for _ in range(rounds):
            for system in systems:
                with running(system) as under_test:
                    for in_flight in IN_FLIGHT:
                        bar.set_postfix_str(f"{system.title}, {in_flight} in flight")
                        seen[system, in_flight].append(under_test.measure(in_flight, seconds))
                        bar.update()
    return [
        Point(system.key, system.title, system.family, in_flight, _median(measured))
        for (system, in_flight), measured in seen.items()
    ]


def _median(measured: list[Measured]) -> Measured:
    rows: list[dict[str, Any]] = [asdict(one) for one in measured]
    middle = {name: median(row[name] for row in rows) for name in rows[0]}
    return Measured(**{**middle, "failed": sum(one.failed for one in measured)})
