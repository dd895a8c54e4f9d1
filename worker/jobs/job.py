"""The base class of jobs: calls that one thread answers together."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from worker.jobs import errors
from worker.jobs.calls import Answer, Call, Registration
from worker.jobs.prediction import Prediction

log = logging.getLogger(__name__)


class Job(ABC):
    """Calls of one procedure that are answered together.

    A thread runs a job once, or several times with other jobs in between. After each run the loop takes the answers
    that are ready. The loop never takes answers while the job runs.

    Attributes:
        registration: the registration in which the calls came.
        procedure: the name of the procedure.
        prediction: predicts with the job's model.
        calls: in the order in which they came.
        started_s: when the present run began, in monotonic seconds; None before it began.
        took_s: how long the last run took, in seconds.
        is_queued: whether the job is in its model's queue, or runs.
    """

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, calls: Sequence[Call]
    ) -> None:
        self.registration = registration
        self.procedure = procedure
        self.prediction = prediction
        self.calls = calls
        self.started_s: float | None = None
        self.took_s = 0.0
        self.is_queued = False

    def run(self) -> None:
        """Do the work, or a part of it."""
        self.started_s = started_s = time.monotonic()
        try:
            self._run()
        except Exception as error:  # a fault of the worker's own must cost these calls, and not the thread
            log.exception("the worker failed to answer calls of %s", self.procedure)
            self._fail(errors.internal_error(error))
        self.took_s = time.monotonic() - started_s

    @property
    @abstractmethod
    def has_more_work(self) -> bool:
        """Whether another run is useful now."""

    @property
    @abstractmethod
    def is_answered(self) -> bool:
        """Whether every answer has been taken, or will be by the next `take_answers`."""

    @abstractmethod
    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """The answers that can be sent now, in this order, each with the number of its call. For the loop."""

    @abstractmethod
    def _run(self) -> None: ...

    @abstractmethod
    def _fail(self, answer: Answer) -> None:
        """Give that answer to every call that has none."""

    def _is_cancelled(self, call: Call) -> bool:
        """Whether the call needs no answer any more."""
        return not self.registration.is_live or call.number in self.registration.cancelled
