"""The procedures of a model: which jobs make the answers to calls of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from worker.jobs.job import Call, Job, Registration
from worker.jobs.long_job import RowsCall, Stream
from worker.jobs.predict import Batch
from worker.jobs.prediction import Prediction


class Procedure(ABC):
    """Something that clients can call.

    Attributes:
        name: as clients call it, without a version.
    """

    def __init__(self, name: str, prediction: Prediction) -> None:
        self.name = name
        self._prediction = prediction

    @abstractmethod
    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """The jobs that answer calls which came together."""


class Predict(Procedure):
    """`<qualified_name>_predict(data)`."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for all."""
        return [Batch(registration, self.name, self._prediction, calls)]


class PredictBatch(Procedure):
    """`<qualified_name>_predict_batch(rows)`."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for each, which may take long."""
        return [RowsCall(registration, self.name, self._prediction, call) for call in calls]


class PredictStream(Procedure):
    """`<qualified_name>_predict_stream(rows)`, or `(data)` for a model that makes its own streams."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for each, which may take very long."""
        prediction = self._prediction
        source = prediction.of_rows if prediction.model.predict_stream is None else prediction.of_stream
        return [Stream(registration, self.name, prediction, call, source) for call in calls]


def procedures_of(prediction: Prediction) -> dict[bytes, Procedure]:
    """The procedures of a model, by the names that WORK has for them."""
    made: dict[bytes, Procedure] = {}
    model = prediction.model.description
    for described in model.procedures:
        kind = PredictStream if described.is_stream else PredictBatch if described.is_list else Predict
        made[model.pinned(described.name).encode()] = kind(described.name, prediction)
    return made
