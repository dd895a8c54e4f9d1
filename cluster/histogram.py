"""A Prometheus histogram in plain numbers, cheap enough to update on every call."""

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
        """Build an empty histogram.

        Args:
            bounds: the upper bounds of the buckets, in ascending order.
        """
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def add(self, other: "Histogram") -> None:
        """Add the counts of another histogram with the same buckets."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.sum += other.sum

    def copy(self) -> "Histogram":
        """Return a histogram with the same counts."""
        made = Histogram.__new__(Histogram)
        made._bounds = self._bounds
        made._counts = self._counts[:]
        made.sum = self.sum
        return made

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, count of all values up to it) for each bucket; the last bound is "+Inf"."""
        bounds = [str(float(bound)) for bound in self._bounds] + ["+Inf"]
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self._counts), strict=True)]
