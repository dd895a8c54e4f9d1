"""Ctrl-C in a command: one sentence in place of a traceback."""

import sys
from collections.abc import Callable
from types import TracebackType


def _nothing() -> str:
    return "nothing was changed"


_say: Callable[[], str] = _nothing


def explain(say: Callable[[], str]) -> None:
    """Set what a command says when it is interrupted.

    Args:
        say: returns what runs, how to go on, and how to stop it.
    """
    global _say  # noqa: PLW0603 - an interpreter has one hook
    _say = say


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"\ninterrupted: {_say()}", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
