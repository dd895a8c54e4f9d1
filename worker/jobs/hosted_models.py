"""The models that a worker hosts at present, with the queue of each and the procedures that clients can call."""

from dataclasses import replace

from cluster.wire.protocol import ModelDescription, ModelKey
from worker.jobs.counters import WorkerCounters
from worker.jobs.job_factories import JobFactory, job_factories
from worker.jobs.model_queue import ModelQueue
from worker.jobs.prediction import Prediction
from worker.models.loaded_model import LoadedModel

_DEFAULT_TIMEOUT_S = 300.0
"""The longest time-out while no model is hosted, in seconds."""


class HostedModels:
    """The hosted models. One thread at a time may use them.

    Attributes:
        queues: the queue of each model.
        longest_timeout_s: the longest `timeout_s` of all models, in seconds.
    """

    def __init__(self, counters: WorkerCounters, *, expose_tracebacks: bool) -> None:
        """Build.

        Args:
            counters: count the predictions.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        self._counters = counters
        self._expose_tracebacks = expose_tracebacks
        self._models: dict[ModelKey, LoadedModel] = {}
        self._factories: dict[bytes, JobFactory] = {}
        self._configured: set[ModelKey] = set()
        self.queues: dict[ModelKey, ModelQueue] = {}
        self.longest_timeout_s = _DEFAULT_TIMEOUT_S

    @property
    def descriptions(self) -> list[ModelDescription]:
        """The descriptions of all models, for READY."""
        return [model.description for model in self._models.values()]

    @property
    def slots(self) -> int:
        """How many jobs may run at once, over all models."""
        return sum(queue.slots for queue in self.queues.values())

    def job_factory(self, work_name: bytes) -> JobFactory | None:
        """The factory of the procedure that WORK names; None if no hosted model has that procedure."""
        return self._factories.get(work_name)

    def get(self, key: ModelKey) -> ModelDescription | None:
        """The description of a model; None if it is not hosted."""
        model = self._models.get(key)
        return model.description if model is not None else None

    def add(self, model: LoadedModel, *, is_configured: bool = False) -> ModelDescription:
        """Host a model. It replaces a model of its name and version, whose jobs still run to their end.

        Args:
            model: the loaded model.
            is_configured: whether the worker's configuration names it.

        Returns:
            The description for the broker.
        """
        if is_configured:
            self._configured.add(model.description.key)
        is_configured = model.description.key in self._configured
        model = replace(model, description=replace(model.description, is_configured=is_configured))
        description = model.description
        self._models[description.key] = model
        prediction = Prediction(model, self._counters.host(description), expose_tracebacks=self._expose_tracebacks)
        self._factories.update(job_factories(prediction))
        queue = self.queues.setdefault(description.key, ModelQueue(description.slots))
        queue.slots = description.slots
        self._update_longest_timeout()
        return description

    def remove(self, key: ModelKey) -> None:
        """Stop hosting a model. Without effect if it is not hosted."""
        model = self._models.pop(key, None)
        if model is None:
            return
        for procedure in model.description.procedures:
            del self._factories[model.description.pinned(procedure.name).encode()]
        del self.queues[key]
        self._counters.remove(key)
        self._update_longest_timeout()

    def _update_longest_timeout(self) -> None:
        timeouts = (model.description.timeout_s for model in self._models.values())
        self.longest_timeout_s = max(timeouts, default=_DEFAULT_TIMEOUT_S)
