"""What one model has to do: which job is next, and how many run. Pure."""

from collections import deque

from worker.jobs.job import Job
from worker.jobs.long_job import Stream

QUICK_S = 0.01
"""A model whose last job took less, in seconds, is run by the thread that runs the loop."""


class Desk:
    """The jobs of one model.

    Attributes:
        slots: how many jobs of it run at one time.
        is_quick: whether the last one was.
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
        """Let a job wait for its turn."""
        job.is_queued = True
        (self._streams if isinstance(job, Stream) else self._calls).append(job)

    def take(self) -> Job | None:
        """The job that may run now; None if there is none. Streams, however many, take turns with all else."""
        if not self.has_work:
            return None
        first, second = (self._calls, self._streams) if self._was_stream else (self._streams, self._calls)
        waiting = first or second
        self._was_stream = waiting is self._streams
        job = waiting.popleft()
        job.started_s = None
        self._running.add(job)
        return job

    def done(self, job: Job) -> None:
        """A job has run."""
        self._running.discard(job)
        # Where several may run at one time, they do so in other threads than the loop's.
        self.is_quick = job.took_s < QUICK_S and self.slots == 1
