"""The job of `<qualified_name>_predict`: the calls of one message, which the model gets together."""

from collections.abc import Sequence

from cluster.wire import protocol
from cluster.wire.arguments import BadArgumentsError
from worker.jobs.calls import Answer, Call, Registration
from worker.jobs.counters import ERROR
from worker.jobs.errors import CANCELLED, bad_request
from worker.jobs.job import Job
from worker.jobs.prediction import Prediction


class PredictJob(Job):
    """Calls of one row each. One run answers them all."""

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, calls: Sequence[Call]
    ) -> None:
        super().__init__(registration, procedure, prediction, calls)
        self._answers: list[Answer] = []

    @property
    def has_more_work(self) -> bool:
        """Never: the first run does everything."""
        return False

    @property
    def is_answered(self) -> bool:
        """Whether the job has run."""
        return bool(self._answers)

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """One answer for each call."""
        return [(call.number, answer) for call, answer in zip(self.calls, self._answers, strict=True)]

    def _run(self) -> None:
        registration = self.registration
        if registration.is_live and not registration.cancelled:
            self._answers = self._answer(self.calls)
            return
        wanted = [call for call in self.calls if not self._is_cancelled(call)]
        by_number = {call.number: answer for call, answer in zip(wanted, self._answer(wanted), strict=True)}
        self._answers = [by_number.get(call.number, CANCELLED) for call in self.calls]

    def _answer(self, calls: Sequence[Call]) -> list[Answer]:
        argument = self.prediction.argument
        rows = []
        accepted = []
        refused: list[Answer | None] = []
        for call in calls:
            try:
                rows.append(argument(call))
                accepted.append(call)
                refused.append(None)
            except BadArgumentsError as error:
                refused.append(bad_request(self.procedure, error))
        predicted = iter(self.prediction.answers(rows, lambda: map(argument, accepted)) if rows else [])
        return [answer or (protocol.REPLY, next(predicted)) for answer in refused]

    def _fail(self, answer: Answer) -> None:
        self.prediction.counters.on_calls_started(len(self.calls))
        self.prediction.counters.on_calls_ended(ERROR, len(self.calls))
        self._answers = [answer] * len(self.calls)
