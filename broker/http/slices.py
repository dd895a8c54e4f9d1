"""Reads the core in slices between the turns of the message loop, so that no page stops the loop for long."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

Answer = TypeVar("Answer")

SLICE_S = 0.001
"""How long the loop reads the core for a page before it handles messages again, in seconds."""


class Ask(Protocol):
    """Calls a function in the thread that may read the core, and returns its result (`Loop.ask`)."""

    def __call__(self, question: Callable[[], Answer], /) -> Answer:
        """Call the function there."""


def ask_directly(question: Callable[[], Answer], /) -> Answer:
    """Call a function in this thread: before the loop runs, or in a test without one."""
    return question()


def read_in_slices(ask: Ask, steps: Iterator[object]) -> None:
    """Have the loop carry out steps, as many in each turn as `SLICE_S` allows.

    Args:
        ask: calls a function in the loop.
        steps: carries out the next step whenever it is asked for one. Messages may be handled between two steps, so a
            step must not rely on a collection that it has not copied.
    """

    def carry_out_some() -> bool:
        until_s = time.monotonic() + SLICE_S
        return any(time.monotonic() >= until_s for _ in steps)

    while ask(carry_out_some):
        pass
