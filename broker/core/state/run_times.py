"""How long batches take by their size, and over how many workers waiting calls should be divided. Pure."""

from __future__ import annotations

from math import sqrt

_WEIGHT = 0.125
"""Weight of the last batch in the means."""

_LEAST_FIXED_S = 0.0001
"""Least time that a batch takes whatever is in it, in seconds: two messages and a turn of the worker's loop."""


class RunTimes:
    """The run times of the batches of one pool, from their dispatch to their answers.

    A batch of n calls takes about `fixed + n * each`. What is learned of a size stays: a mean for each power of two.
    """

    __slots__ = ("_means",)

    def __init__(self) -> None:
        self._means: dict[int, tuple[float, float]] = {}  # by the bits of the size: calls, seconds

    def observe(self, calls: int, seconds: float) -> None:
        """Learn from a batch whose worker had nothing else to do."""
        bits = calls.bit_length()
        known = self._means.get(bits)
        if known is None:
            self._means[bits] = (calls, seconds)
        else:
            mean_calls, mean_s = known
            self._means[bits] = (
                mean_calls + _WEIGHT * (calls - mean_calls),
                mean_s + _WEIGHT * (seconds - mean_s),
            )

    def parts(self, calls: int, workers: int) -> int:
        """Return over how many workers that many calls should be divided.

        More parts end sooner, and each costs the fixed time of a batch once more. With p parts, the calls end after
        `fixed + calls * each / p`. The p that is chosen is less than the best for the sum of that and of
        `p * fixed`, so that batches stay large where it matters little.

        Args:
            calls: at least one.
            workers: how many are idle, at least one.
        """
        most = min(calls, workers)
        if most == 1:
            return 1
        if len(self._means) < 2:
            return 2  # of one size alone, nobody can tell what a batch costs and what a call
        fixed_s, each_s = self.fit()
        return max(1, min(most, round(sqrt(each_s * calls / (2 * fixed_s)))))

    def fit(self) -> tuple[float, float]:
        """Return the time of a batch and the time of each call in it, in seconds: least squares over the means."""
        means = self._means.values()
        count = len(means)
        center = sum(calls for calls, _ in means) / count
        center_s = sum(seconds for _, seconds in means) / count
        spread = sum((calls - center) ** 2 for calls, _ in means)
        joint = sum((calls - center) * (seconds - center_s) for calls, seconds in means)
        each_s = max(0.0, joint / spread)
        return max(_LEAST_FIXED_S, center_s - each_s * center), each_s
