"""Counts of values by bucket, in plain numbers, as Prometheus wants them: cheap enough for every call."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Histogram:
    """Counts values by bucket.

    Attributes:
        sum: of all values.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Build an empty one; the bounds are the upper bounds of the buckets, in rising order."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it was seen."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def add(self, other: "Histogram") -> None:
        """Count what another one with the same buckets has counted."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.sum += other.sum

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, count of all values up to it), the last bound being "+Inf"."""
        bounds = [str(float(bound)) for bound in self._bounds] + ["+Inf"]
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self._counts), strict=True)]
