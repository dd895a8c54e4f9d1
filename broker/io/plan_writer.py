"""Saves deployment plans in a thread of its own: a slow disk must not stop the message loop."""

import logging
import threading
import time
from collections.abc import Callable

from broker.core.state.plan import DeploymentPlan
from cluster.runtime.threads import ServerThread

log = logging.getLogger(__name__)

Saved = Callable[[bool], None]
"""Takes whether a plan is on the disk. The thread calls it."""


class PlanWriter:
    """Writes the newest plan. Plans that come while one is being written replace each other."""

    def __init__(self, write: Callable[[DeploymentPlan], None], name: str) -> None:
        """Start the thread.

        Args:
            write: writes a plan; raises OSError if that is not possible.
            name: of the file, for the log.
        """
        self._write = write
        self._name = name
        self._changed = threading.Condition()
        self._next: DeploymentPlan | None = None
        self._waiting: list[Saved] = []
        self._is_writing = False
        ServerThread(target=self._run, name="plan writer", daemon=True).start()

    def save(self, plan: DeploymentPlan, saved: Saved) -> None:
        """Have a plan written, and return at once. The plan must not change any more."""
        with self._changed:
            self._next = plan
            self._waiting.append(saved)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until every plan is written; return whether that is so."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while self._next is not None or self._is_writing:
                if not self._changed.wait(max(0.0, until_s - time.monotonic())) and time.monotonic() >= until_s:
                    log.error("%s is not written after %g s: the last changes may be lost", self._name, timeout_s)
                    return False
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._next is None:
                    self._changed.wait()
                plan, self._next = self._next, None
                waiting, self._waiting = self._waiting, []
                self._is_writing = True
            is_on_disk = self._try(plan)
            for saved in waiting:
                saved(is_on_disk)
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def _try(self, plan: DeploymentPlan) -> bool:
        try:
            self._write(plan)
        except OSError as error:
            log.error("the deployment plan could not be written to %s and ends with this broker: %s", self._name, error)
        except Exception:  # the thread must go on, because administrators wait for it
            log.exception("the deployment plan could not be written to %s and ends with this broker", self._name)
        else:
            return True
        return False
