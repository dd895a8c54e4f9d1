"""The queue of one model's jobs: which job is next, and how many run. Pure."""

from collections import deque

from worker.jobs.job import Job
from worker.jobs.long_job import StreamJob

QUICK_S = 0.01
"""Longest last run, in seconds, after which the leader runs a model's next job itself."""


class ModelQueue:
    """The jobs of one model.

    Attributes:
        slots: how many jobs of it may run at once.
        is_quick: whether its last job was quick, so that the leader may run the next one itself.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.is_quick = False
        self._running: set[Job] = set()
        self._calls: deque[Job] = deque()
        self._streams: deque[Job] = deque()
        self._was_stream = False

    @property
    def has_work(self) -> bool:
        """Whether a job could run now."""
        return len(self._running) < self.slots and bool(self._calls or self._streams)

    def put(self, job: Job) -> None:
        """Queue a job."""
        job.is_queued = True
        (self._streams if isinstance(job, StreamJob) else self._calls).append(job)

    def take(self) -> Job | None:
        """The job that runs next; None if none can run now. Streams alternate with all other jobs."""
        if not self.has_work:
            return None
        first, second = (self._calls, self._streams) if self._was_stream else (self._streams, self._calls)
        waiting = first or second
        self._was_stream = waiting is self._streams
        job = waiting.popleft()
        job.started_s = None
        self._running.add(job)
        return job

    def on_run_ended(self, job: Job) -> None:
        """Free the slot of a job that has run."""
        self._running.discard(job)
        # Jobs of a model with several slots run beside each other, so never in the leader.
        self.is_quick = job.took_s < QUICK_S and self.slots == 1
