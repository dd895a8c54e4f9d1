"""The procedures that a worker answers: names and descriptions, and which jobs make their answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from cluster.events import ClientEvent
from cluster.protocol import ProcedureDescription
from worker.batch import Batch
from worker.job import Call, Job, Registration
from worker.long_call import RowsCall, Stream
from worker.metrics import WorkerMetrics
from worker.models import HostedModel
from worker.prediction import Prediction


class Procedure(ABC):
    """Something that clients can call.

    Attributes:
        description: as READY has it.
    """

    def __init__(self, description: ProcedureDescription, prediction: Prediction) -> None:
        self.description = description
        self._prediction = prediction

    @abstractmethod
    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """The jobs that answer calls which came together."""


class Predict(Procedure):
    """`<qualified_name>_predict(data)`."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for all."""
        return [Batch(registration, self.description.name, self._prediction, calls)]


class PredictBatch(Procedure):
    """`<qualified_name>_predict_batch(rows)`."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for each, which may take long."""
        return [RowsCall(registration, self.description.name, self._prediction, call) for call in calls]


class PredictStream(Procedure):
    """`<qualified_name>_predict_stream(rows)`, or `(data)` for a model that makes its own streams."""

    def jobs(self, registration: Registration, calls: Sequence[Call]) -> list[Job]:
        """One for each, which may take very long."""
        prediction = self._prediction
        source = prediction.of_rows if prediction.model.predict_stream is None else prediction.of_stream
        return [Stream(registration, self.description.name, prediction, call, source) for call in calls]


class Procedures:
    """Every procedure of a worker process."""

    def __init__(self, models: Iterable[HostedModel], metrics: WorkerMetrics, *, expose_tracebacks: bool) -> None:
        """Give each model its procedures.

        Args:
            models: the loaded models.
            metrics: where predictions are counted.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        self._by_name = {
            procedure.description.name: procedure
            for model in models
            for procedure in _of_model(model, metrics, expose_tracebacks=expose_tracebacks)
        }

    @property
    def descriptions(self) -> list[ProcedureDescription]:
        """What READY says of them."""
        return [procedure.description for procedure in self._by_name.values()]

    def find(self, event: ClientEvent) -> Procedure | None:
        """The procedure that an event calls."""
        return self._by_name.get(event.name) if event.name is not None else None


def _of_model(model: HostedModel, metrics: WorkerMetrics, *, expose_tracebacks: bool) -> list[Procedure]:
    name, title = model.description.qualified_name, model.description.display_name
    prediction = Prediction(model, metrics.of_model(model.description), expose_tracebacks=expose_tracebacks)
    streamed = "rows" if model.predict_stream is None else "data"
    return [
        Predict(ProcedureDescription(f"{name}_predict", name, f"Predict with the {title}.", ["data"]), prediction),
        PredictBatch(
            ProcedureDescription(
                f"{name}_predict_batch",
                name,
                f"Predict many rows with the {title}: a list, in their order.",
                ["rows"],
                is_list=True,
            ),
            prediction,
        ),
        PredictStream(
            ProcedureDescription(
                f"{name}_predict_stream",
                name,
                f"Stream what the {title} predicts, as soon as it is there.",
                [streamed],
                is_stream=True,
            ),
            prediction,
        ),
    ]
