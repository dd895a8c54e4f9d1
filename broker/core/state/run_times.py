"""How long batches take by their size, and over how many workers waiting calls should be divided. Pure."""

from __future__ import annotations

from math import sqrt

_WEIGHT_OF_FASTER, _WEIGHT_OF_SLOWER = 0.25, 0.05
"""Weights of a new observation. What is slow once (a first call, a pause of the machine) says little."""

_MOST_SLOWER = 4.0
"""An observation counts as at most this many times what is known."""

_FORGOTTEN_AFTER = 1000
"""A size that has not occurred in so many batches is forgotten, and a division shows it, or another one, again."""

_LEAST_FIXED_S = 0.0001
"""Least time that a batch takes whatever is in it, in seconds: two messages and a turn of the worker's loop."""


class RunTimes:
    """The run times of the batches of one pool, from their dispatch to their answers.

    A batch of n calls takes about `fixed + n * each`. For each power of two, one size stands for those up to the next.
    """

    __slots__ = ("_batches", "_known")

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float, int]] = {}  # by the bits of the size: calls, seconds, last batch
        self._batches = 0

    def observe(self, calls: int, seconds: float) -> None:
        """Learn from a batch whose worker had nothing else to do."""
        self._batches += 1
        bits = calls.bit_length()
        known = self._known.get(bits)
        if known is None:
            self._known[bits] = (calls, seconds, self._batches)
            return
        known_calls, known_s, _ = known
        change_s = min(seconds, _MOST_SLOWER * known_s) - known_s
        weight = _WEIGHT_OF_FASTER if change_s < 0 else _WEIGHT_OF_SLOWER
        self._known[bits] = (
            known_calls + _WEIGHT_OF_FASTER * (calls - known_calls),
            known_s + weight * change_s,
            self._batches,
        )

    def parts(self, calls: int, workers: int) -> int:
        """Return over how many workers that many calls should be divided.

        With p parts, the calls end after `fixed + calls * each / p`, and the workers spend `p * fixed` beside the calls
        themselves. The sum of the two is least for p = sqrt(calls * each / fixed). This function returns that p divided
        by the square root of 2, because a division that gains little costs CPU time that others may need.

        Args:
            calls: at least one.
            workers: how many are idle, at least one.
        """
        most = min(calls, workers)
        if most == 1:
            return 1
        self._forget_old()
        if len(self._known) < 2:
            return 2  # to learn another size: only two sizes tell `fixed` from `each`
        fixed_s, each_s = self.fit()
        return max(1, min(most, round(sqrt(each_s * calls / (2 * fixed_s)))))

    def _forget_old(self) -> None:
        oldest = self._batches - _FORGOTTEN_AFTER
        if any(last < oldest for _, _, last in self._known.values()):
            self._known = {bits: known for bits, known in self._known.items() if known[2] >= oldest}

    def fit(self) -> tuple[float, float]:
        """Return `fixed` and `each`, in seconds: the line of least squares through two known sizes or more."""
        known = self._known.values()
        count = len(known)
        center = sum(calls for calls, _, _ in known) / count
        center_s = sum(seconds for _, seconds, _ in known) / count
        spread = sum((calls - center) ** 2 for calls, _, _ in known)
        joint = sum((calls - center) * (seconds - center_s) for calls, seconds, _ in known)
        each_s = max(0.0, joint / spread)
        return max(_LEAST_FIXED_S, center_s - each_s * center), each_s
