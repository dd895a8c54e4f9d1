"""SIGTERM and SIGINT of a worker. A model's constructor may install handlers of its own; the worker takes them back."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from cluster.runtime import forks

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """The handlers of both signals. For the main thread."""

    def __init__(self, wakeup_fd: int, on_signal: Callable[[], None]) -> None:
        """Install the handlers.

        Args:
            wakeup_fd: gets a byte for each signal (`signal.set_wakeup_fd`).
            on_signal: called for each signal.
        """
        self._wakeup_fd = wakeup_fd
        self._on_signal = on_signal
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._forking = threading.local()  # the signal mask of a thread that forks
        self._install()
        forks.register(self)
        # A child that is terminated at once must not lose the signal to a handler that is about to go.
        os.register_at_fork(before=self._block, after_in_parent=self._unblock)

    def _install(self) -> None:
        signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self._on_signal()

    def take_back(self, culprit: str) -> None:
        """Install the handlers again, and log which others were there.

        Args:
            culprit: who may have installed others, for the log.
        """
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler != self._handle:
                log.warning(
                    "%s has replaced the handler of %s by %s; the worker's own is in force again, so that it can stop "
                    "without losing calls",
                    culprit,
                    number.name,
                    _name(handler),
                )
        self._install()  # also if nothing seems changed: a library in C may have installed a handler

    def leave_to_parent(self) -> None:
        """In a forked child: the signals do what they did before this object was there."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            with contextlib.suppress(ValueError, TypeError):  # a handler that Python has not installed is None
                signal.signal(number, handler)
        self._unblock()

    def _block(self) -> None:
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)


def _name(handler: object) -> str:
    module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(handler)
