"""Which thread runs the message loop: the pattern Leader/Followers (Schmidt et al., POSA volume 2).

The leader takes messages from the socket. It runs a quick job itself, because waking another thread and being woken by
it costs more than many models take. Before a slow job it promotes a follower to be the new leader. If a job that was
expected to be quick takes longer than `LEADER_TIMEOUT_S`, the main thread promotes a follower. So the loop goes on
whatever a model does, unless the model holds the interpreter's lock.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from cluster.runtime.threads import ServerThread

LEADER_TIMEOUT_S = 0.02
"""Longest time in seconds that the leader may run a job before another thread leads."""


class Runnable(Protocol):
    """What the leader runs: a job."""

    started_s: float | None
    """When it began to run, in monotonic seconds; None before."""


class Leadership:
    """Lets one of several threads lead at a time.

    Attributes:
        over: set when no thread leads any more.
    """

    def __init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._promotions = threading.Semaphore(0)
        self._lead: Callable[[int], None] = lambda term: None
        self._threads = 0
        self._term = 0  # grows with each change of the leader
        self._job: Runnable | None = None  # that the leader runs, and that should be quick

    def start(self, threads: int, lead: Callable[[int], None]) -> None:
        """Start the threads and promote one of them.

        Args:
            threads: how many: one more than jobs may run at once.
            lead: called in the leader, with its term. It returns when the thread does not lead any more.
        """
        self._lead = lead
        self.grow_to(threads)
        self._promotions.release()

    def grow_to(self, threads: int) -> None:
        """Start threads until there are at least that many."""
        while self._threads < threads:
            # Daemons: a predict that never returns must not keep the process from ending.
            ServerThread(target=self._follow, name=f"loop-{self._threads}", daemon=True).start()
            self._threads += 1

    def _follow(self) -> None:
        while True:
            self._promotions.acquire()
            self._lead(self._term)

    def promote_new_leader(self) -> None:
        """Make a follower the leader. For the leader, which must not touch the loop's state afterwards."""
        with self._lock:
            self._promote()

    def start_job(self, job: Runnable) -> None:
        """Note that the leader begins a job which should be quick."""
        self._job = job

    def end_job(self, term: int) -> bool:
        """Note that the job of that term's leader has ended. Returns whether the thread still leads."""
        with self._lock:
            if term != self._term:
                return False
            self._job = None
            return True

    def check_leader(self, now_s: float) -> None:
        """Make a follower the leader if the leader has run a job for too long. For a thread that never leads."""
        with self._lock:
            started_s = self._job.started_s if self._job is not None else None
            if started_s is not None and now_s - started_s >= LEADER_TIMEOUT_S:
                self._promote()

    def _promote(self) -> None:
        self._term += 1
        self._job = None
        self._promotions.release()
