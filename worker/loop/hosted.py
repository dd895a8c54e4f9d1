"""What a worker hosts: models that come and go, and what can be called of them. For one thread at a time."""

from dataclasses import replace

from cluster.wire.protocol import ModelDescription, ModelKey
from worker.http.metrics import WorkerMetrics
from worker.jobs.model_queue import Desk
from worker.jobs.prediction import Prediction
from worker.jobs.procedures import Procedure, procedures_of
from worker.models.models import HostedModel

_TIMEOUT_OF_NONE_S = 300.0
"""Where nothing is hosted, in seconds."""


class Hosted:
    """The models of a worker process, which come and go.

    Attributes:
        desks: of each model.
        longest_timeout_s: of all models, in seconds.
    """

    def __init__(self, metrics: WorkerMetrics, *, expose_tracebacks: bool) -> None:
        """Build.

        Args:
            metrics: where predictions are counted.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        self._metrics = metrics
        self._expose_tracebacks = expose_tracebacks
        self._models: dict[ModelKey, HostedModel] = {}
        self._procedures: dict[bytes, Procedure] = {}
        self._configured: set[ModelKey] = set()
        self.desks: dict[ModelKey, Desk] = {}
        self.longest_timeout_s = _TIMEOUT_OF_NONE_S

    @property
    def descriptions(self) -> list[ModelDescription]:
        """Of all models, as READY has them."""
        return [model.description for model in self._models.values()]

    @property
    def slots(self) -> int:
        """How many jobs may run at one time."""
        return sum(desk.slots for desk in self.desks.values())

    def find(self, work_name: bytes) -> Procedure | None:
        """The procedure that WORK names."""
        return self._procedures.get(work_name)

    def get(self, key: ModelKey) -> ModelDescription | None:
        """A model's description, if it is hosted."""
        model = self._models.get(key)
        return model.description if model is not None else None

    def add(self, model: HostedModel, *, is_configured: bool = False) -> ModelDescription:
        """Host a model; in place of the one of its name and version, which ends what it has begun.

        Args:
            model: the loaded model.
            is_configured: whether the configuration names it.

        Returns:
            What the broker is to be told of it.
        """
        if is_configured:
            self._configured.add(model.description.key)
        is_configured = model.description.key in self._configured
        model = replace(model, description=replace(model.description, is_configured=is_configured))
        description = model.description
        self._models[description.key] = model
        prediction = Prediction(model, self._metrics.of_model(description), expose_tracebacks=self._expose_tracebacks)
        self._procedures.update(procedures_of(prediction))
        desk = self.desks.setdefault(description.key, Desk(description.slots))
        desk.slots = description.slots
        self._look_at_timeouts()
        return description

    def remove(self, key: ModelKey) -> None:
        """Host a model no longer. If it is not hosted, nothing happens."""
        model = self._models.pop(key, None)
        if model is None:
            return
        for described in model.description.procedures:
            del self._procedures[model.description.pinned(described.name).encode()]
        del self.desks[key]
        self._metrics.forget(key)
        self._look_at_timeouts()

    def _look_at_timeouts(self) -> None:
        self.longest_timeout_s = max(
            (one.description.timeout_s for one in self._models.values()), default=_TIMEOUT_OF_NONE_S
        )
