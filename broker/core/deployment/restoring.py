"""Restoring: has workers that register load the models of the deployment plan.

The restorer counts the workers that die while they restore a model. After `MAX_DEATHS` deaths in a row it stops
restoring that model, because a model that ends its process would otherwise end every worker that registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.core.deployment import lookups
from broker.core.state.plan import LoadedModel
from cluster.wire.protocol import ModelDescription, ModelKey, model_source

if TYPE_CHECKING:
    from broker.core.deployment.orders import Orders
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.state.outbox import Outbox
    from broker.core.state.pool import Worker

MAX_DEATHS = 3
"""Workers that may die in a row while they restore a model, before the broker stops restoring it."""


class Restorer:
    """Restores loaded models on workers that register.

    Attributes:
        failures: why a worker does not host a model that it should, by the worker's identity and the model.
    """

    def __init__(self, plan: TrackedPlan, orders: Orders, outbox: Outbox) -> None:
        self._plan = plan
        self._orders = orders
        self._outbox = outbox
        self._awaited: dict[bytes, tuple[Worker, LoadedModel]] = {}  # by order number, the oldest first
        self._deaths: Counter[ModelKey] = Counter()
        self.failures: dict[tuple[bytes, ModelKey], str] = {}

    def pending(self, worker: Worker) -> list[str]:
        """Return the models that a worker has still to restore, as `module:Class`."""
        return [model_source(model.entry) for other, model in self._awaited.values() if other is worker]

    def has_stopped(self, key: ModelKey) -> bool:
        """Return whether a model is no longer restored, because too many workers died of it."""
        return self._deaths[key] >= MAX_DEATHS

    def restore(self, worker: Worker, model: LoadedModel) -> None:
        """Order a worker to load a model, if the model belongs there and may be restored."""
        if lookups.matches(worker, model.workers) and not self.has_stopped(model.key):
            self._awaited[self._orders.load(worker, model.entry)] = worker, model

    def cancel(self, key: ModelKey) -> None:
        """Forget the orders for a model; if a worker loads it all the same, the broker has it unloaded there."""
        for number in [number for number, (_, model) in self._awaited.items() if model.key == key]:
            del self._awaited[number]

    def reset_deaths(self, key: ModelKey) -> None:
        """Forget the deaths of a model: workers have loaded it."""
        del self._deaths[key]

    def clear_failure(self, worker: Worker, key: ModelKey) -> None:
        """Forget why a worker did not host a model: now it does."""
        self.failures.pop((worker.identity, key), None)

    # -- events ---------------------------------------------------------------------------------------------------

    def worker_registered(self, worker: Worker, described: Mapping[ModelKey, ModelDescription]) -> None:
        """Restore each loaded model that a new worker lacks, or has from an entry with other settings."""
        for model in self._plan.loaded:
            present = described.get(model.key)
            if present is None or _has_other_settings(present, model):
                self.restore(worker, model)

    def worker_loaded(self, worker: Worker, number: bytes, loaded: ModelDescription) -> bool:
        """A worker has loaded a model. Returns whether that was an order of the restorer.

        The code may have another version by now. Then that one takes the place of the former in the plan, so that the
        plan says what the next restart brings.
        """
        model = self._take(worker, number)
        if model is None:
            return False
        self.reset_deaths(model.key)
        if model.key != loaded.key:
            name, version = loaded.key
            self._plan.replace(model.key, LoadedModel(model.entry, model.workers, name, str(version)))
            self._outbox.note(
                f"{model_source(model.entry)} has the version {version} on worker {worker.description.id}; "
                f"it was loaded as {model.version}"
            )
        return True

    def worker_failed(self, worker: Worker, number: bytes, reason: str) -> bool:
        """A worker could not load a model. Returns whether that was an order of the restorer."""
        model = self._take(worker, number)
        if model is None:
            return False
        self.failures[worker.identity, model.key] = reason
        self._outbox.note(f"worker {worker.description.id} could not load {model_source(model.entry)}: {reason}")
        return True

    def worker_lost(self, worker: Worker, *, died: bool) -> None:
        """A worker has gone.

        A worker loads its models one after the other. So a death counts only for the model of its oldest order.
        """
        for failure in [failure for failure in self.failures if failure[0] == worker.identity]:
            del self.failures[failure]
        awaited = {number: model for number, (other, model) in self._awaited.items() if other is worker}
        for number in awaited:
            del self._awaited[number]
        if died and awaited:
            self._deaths[next(iter(awaited.values())).key] += 1

    def _take(self, worker: Worker, number: bytes) -> LoadedModel | None:
        other, model = self._awaited.get(number, (None, None))
        if other is not worker:
            return None
        del self._awaited[number]
        return model


def _has_other_settings(present: ModelDescription, model: LoadedModel) -> bool:
    return present.entry != model.entry and model_source(present.entry) == model_source(model.entry)
