"""Terminates the process when a job has been stuck in its model for too long. supervisor then starts another.

Python cannot stop a thread that a model occupies, so the process has to end. There are two checks, because a stuck
model may or may not hold the interpreter's lock. While it does not, the main thread checks the running jobs. While it
does, no Python code runs, and a C thread of the standard library's faulthandler waits for the main thread's next check.
"""

import faulthandler
import logging
import os
import signal
from collections.abc import Iterable

from cluster.runtime import logs
from worker.jobs.job import Job

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""Seconds that a job may run beyond its model's `timeout_s`. The broker has sent DeadlineExceeded by then."""

STUCK_EXIT_CODE = 3

TRACEBACK_TIMEOUT_S = 2
"""Longest time that writing the traceback of the stuck job may take, in seconds."""

_REARM_INTERVAL_S = 1.0


class Watchdog:
    """Watches the running jobs of one process."""

    def __init__(self) -> None:
        """Build. The watch begins with the first check."""
        self._armed_s = float("-inf")

    def check(self, running: Iterable[Job], longest_timeout_s: float, now_s: float) -> None:
        """Check the running jobs. A thread that runs no model calls this at short intervals.

        Args:
            running: the jobs that run.
            longest_timeout_s: the longest time-out of all models, in seconds.
            now_s: monotonic seconds.
        """
        if now_s - self._armed_s >= _REARM_INTERVAL_S:
            self._armed_s = now_s
            self.arm(longest_timeout_s)
        for job in running:
            started_s = job.started_s
            if started_s is not None and now_s - started_s > job.prediction.model.description.timeout_s + GRACE_S:
                log.critical("%s has been stuck for %.1f s; terminating", job.procedure, now_s - started_s)
                logs.flush()
                signal.alarm(TRACEBACK_TIMEOUT_S)  # ends the process if the reader of stderr does not read
                faulthandler.dump_traceback(all_threads=True)
                os._exit(STUCK_EXIT_CODE)

    @staticmethod
    def arm(longest_timeout_s: float) -> None:
        """Terminate the process if no check follows within that many seconds and `GRACE_S`."""
        faulthandler.dump_traceback_later(longest_timeout_s + GRACE_S, exit=True)

    def close(self) -> None:
        """Stop watching."""
        faulthandler.cancel_dump_traceback_later()
