"""The latency of the cluster and of other model servers at half of what each can do at most, in an open loop."""

from collections.abc import Sequence

from bench.compare import Case, Point, measure_cases
from bench.systems import System

KEY = "half rate"
"""The workload of its points."""

OURS = "cluster-2"


def measure_half_rate(points: Sequence[Point], systems: Sequence[System], rounds: int, seconds: float) -> list[Point]:
    """Measure one row at half the rate that each product reached at most, in the setting with which it reached it.

    The cluster is measured once more at the rate of the best other product.

    Args:
        points: what `compare` has measured.
        systems: the systems that it has measured.
        rounds: number of measurements.
        seconds: duration of each.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    by_key = {system.key: system for system in systems}
    best: dict[str, Point] = {}
    for point in points:
        family = point.family if point.system != OURS else OURS
        most = best.get(family)
        if family and (most is None or point.measured.calls_a_second > most.measured.calls_a_second):
            best[family] = point
    rates = {family: point.measured.calls_a_second / 2 for family, point in best.items()}
    cases = [Case(by_key[best[family].system], 1, rate) for family, rate in rates.items()]
    others = [rate for family, rate in rates.items() if family != OURS]
    cases.append(Case(by_key[OURS], 1, max(others)))
    return measure_cases(cases, rounds, seconds, KEY)
