"""Ends the process when a call has been stuck in its model for too long; supervisor then starts another.

A model's thread cannot be stopped, so the process goes. Two watches, because a stuck model may or may not hold the
interpreter's lock: while it does not, the main thread looks at the batches that run; while it does, no Python runs at
all, and a C thread of the standard library's faulthandler waits for the main thread to come by.
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
"""Seconds that a call may run beyond its model's `timeout_s`, when its caller was told that it takes too long."""

STUCK_EXIT_CODE = 3

LAST_WORDS_S = 2
"""How long it may take to write where the stuck call was, in seconds."""

_REARM_INTERVAL_S = 1.0


class Watchdog:
    """Watches the running calls of one process."""

    def __init__(self) -> None:
        """Build; nothing is watched before the first `look`."""
        self._armed_s = float("-inf")

    def look(self, running: Iterable[Job], longest_timeout_s: float, now_s: float) -> None:
        """Look at what runs; to be called again and again by a thread that runs no model.

        Args:
            running: the jobs that run.
            longest_timeout_s: of all models, in seconds.
            now_s: monotonic seconds.
        """
        if now_s - self._armed_s >= _REARM_INTERVAL_S:
            self._armed_s = now_s
            self.arm(longest_timeout_s)
        for job in running:
            started_s = job.started_s
            if started_s is not None and now_s - started_s > job.model.timeout_s + GRACE_S:
                log.critical("%s is stuck since %.1f s: ending", job.procedure, now_s - started_s)
                logs.flush()
                signal.alarm(LAST_WORDS_S)  # ends the process, should nobody read what follows
                faulthandler.dump_traceback(all_threads=True)
                os._exit(STUCK_EXIT_CODE)

    @staticmethod
    def arm(longest_timeout_s: float) -> None:
        """From now on no Python at all may go without a look for so long, in seconds."""
        faulthandler.dump_traceback_later(longest_timeout_s + GRACE_S, exit=True)

    def close(self) -> None:
        """Watch no longer."""
        faulthandler.cancel_dump_traceback_later()
