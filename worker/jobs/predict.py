"""Jobs of `<qualified_name>_predict`: the calls that came in one message, which the model gets together."""

from collections.abc import Sequence

from cluster.wire import protocol
from cluster.wire.events import BadArgumentsError
from worker.http.metrics import ERROR
from worker.jobs.job import CANCELLED, Answer, Call, Job, Registration, refusal
from worker.jobs.prediction import Prediction


class Batch(Job):
    """Calls of one row each."""

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, calls: Sequence[Call]
    ) -> None:
        super().__init__(registration, procedure, prediction.model.description, calls)
        self._prediction = prediction
        self._answers: list[Answer] = []

    @property
    def wants_to_run(self) -> bool:
        """Once is enough."""
        return False

    @property
    def is_over(self) -> bool:
        """Every call has its answer once it has run."""
        return bool(self._answers)

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """One for each call."""
        return [(call.number, answer) for call, answer in zip(self.calls, self._answers, strict=True)]

    def _run(self) -> None:
        registration = self.registration
        if registration.live and not registration.cancelled:
            self._answers = self._answer(self.calls)
            return
        asked = [call for call in self.calls if not self._is_unwanted(call)]
        by_number = {call.number: answer for call, answer in zip(asked, self._answer(asked), strict=True)}
        self._answers = [by_number.get(call.number, CANCELLED) for call in self.calls]

    def _answer(self, calls: Sequence[Call]) -> list[Answer]:
        rows = []
        refused: list[Answer | None] = []
        for call in calls:
            try:
                rows.append(self._prediction.argument(call))
                refused.append(None)
            except BadArgumentsError as error:
                refused.append(refusal(self.procedure, error))
        predicted = iter(self._prediction.answers(rows) if rows else [])
        return [answer or (protocol.REPLY, next(predicted)) for answer in refused]

    def _fail(self, answer: Answer) -> None:
        self._prediction.metrics.begin(len(self.calls))
        self._prediction.metrics.end({ERROR: len(self.calls)})
        self._answers = [answer] * len(self.calls)
