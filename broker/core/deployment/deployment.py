"""Deployment: what administrators can change and what workers report, passed to the part that owns it.

| part | owns |
|---|---|
| `TrackedPlan` | the deployment plan, which outlives the broker |
| `Loader`, `Loading` | a model on its way to workers: one worker first, then all others |
| `Unloader`, `Unloading` | models on their way out: each leaves when its calls have ended |
| `Restorer` | workers that register: they load what the plan says |
| `Routing` | calls that name no version: default version and split |
| `listing`, `lookups` | what administrators see; what the parts look up |

One model is loaded at a time. Any number of models may be unloaded meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from broker.core.deployment import lookups
from broker.core.deployment.listing import list_models
from broker.core.deployment.loader import Loader
from broker.core.deployment.orders import Orders
from broker.core.deployment.restoring import Restorer
from broker.core.deployment.routing import Routing
from broker.core.deployment.tracked_plan import TrackedPlan
from broker.core.deployment.unloading import Answer, Unloader
from broker.core.errors import ProcedureError
from broker.core.state.access import Access
from broker.core.state.counters import EXIT, HEARTBEAT
from cluster.wire.protocol import ModelDescription, ModelKey, Version, model_source

if TYPE_CHECKING:
    from broker.core.scheduling.scheduler import Scheduler
    from broker.core.state.outbox import Outbox
    from broker.core.state.plan import DeploymentPlan
    from broker.core.state.pool import Worker, WorkerPool
    from broker.core.state.registry import Registry


class Deployment:
    """Loads, unloads and routes models while the cluster runs, and restores them on workers that register.

    Attributes:
        plan: the deployment plan.
        restorer: the loads of workers that have registered.
    """

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        outbox: Outbox,
        plan: DeploymentPlan,
        access: Access,
        *,
        has_waiting: Callable[[WorkerPool], bool],
    ) -> None:
        """Start from a plan.

        Args:
            registry: the workers and their models.
            scheduler: knows whether the broker drains.
            outbox: takes orders to workers, and log lines.
            plan: what an earlier broker saved.
            access: knows which models the workers of a key may host.
            has_waiting: returns whether calls wait in the queue of a pool.
        """
        orders = Orders(outbox)
        self._registry = registry
        self._access = access
        self._scheduler = scheduler
        self._orders = orders
        self._outbox = outbox
        self._noted: set[str] = set()  # the withheld models that the log has named
        self.plan = TrackedPlan(plan)
        self.restorer = Restorer(self.plan, orders, outbox)
        self.routing = Routing(registry, self.plan, outbox)
        self._unloader = Unloader(registry, self.plan, orders, outbox, has_waiting)
        self._loader = Loader(registry, self.plan, orders, outbox, self.routing, self.restorer, self._unloader)
        self.routing.restore(plan)

    @property
    def is_idle(self) -> bool:
        """Whether no model is being loaded or unloaded by an administrator."""
        return self._loader.is_idle and self._unloader.is_idle

    def take_plan(self) -> DeploymentPlan | None:
        """Return the plan if it has changed since the last call; None otherwise."""
        return self.plan.take(self._registry.routes)

    # -- what administrators ask for ------------------------------------------------------------------------------

    def load(self, entry: dict[str, Any], patterns: Sequence[str], answer: Answer) -> None:
        """Load a model on workers; a worker that hosts it already loads it again.

        Args:
            entry: the configuration entry of the model.
            patterns: for the ids, hosts or addresses of the workers; empty for all workers.
            answer: takes the result.

        Raises:
            ProcedureError: if the load cannot begin.
        """
        self._refuse_if_draining()
        self._loader.load(entry, patterns, answer)

    def reload(self, key: ModelKey, answer: Answer) -> None:
        """Load a model again on every worker that hosts it, from its present code and files.

        Raises:
            ProcedureError: if the load cannot begin.
        """
        self._refuse_if_draining()
        self._loader.reload(key, answer)

    def cancel(self) -> str:
        """Cancel the load in progress; the model is unloaded where it is new. Returns which load that was.

        Raises:
            ProcedureError: if no model is being loaded.
        """
        return self._loader.cancel()

    def unload(self, key: ModelKey, answer: Answer) -> None:
        """Let a model's calls end, then unload it from every worker, for good.

        Raises:
            ProcedureError: if the unload cannot begin.
        """
        self._refuse_if_draining()
        if self._loader.may_be_loading(key):
            self._loader.refuse_if_loading()
        self._unloader.refuse_if_unloading(key)
        self.plan.remove(key, is_configured=lookups.is_configured(self._registry, self.plan, key))
        self.restorer.cancel(key)
        if self._registry.find(key) is not None:
            self.routing.remove_version(key)
        self._unloader.unload_everywhere(key, answer)

    def route(self, name: str, weights: Mapping[Version, int]) -> None:
        """Split a model's calls that name no version; see `Routing.set_weights`."""
        self.routing.set_weights(name, weights)

    def find(self, name: str, version: str) -> ModelKey:
        """Return the key of a model version; see `lookups.find_key`."""
        return lookups.find_key(self._registry, self.plan, name, version)

    def list_models(self) -> list[dict[str, Any]]:
        """Return one object for each model version; see `listing`."""
        return list_models(self._registry, self.plan, self.restorer, self._unloader)

    def pending_loads(self, worker: Worker) -> list[str]:
        """Return the models that a worker must still load before it is complete, as `module:Class`."""
        return self.restorer.pending(worker)

    def expected_models(self) -> set[str]:
        """Return the qualified names of the models that administrators have loaded."""
        return {model.model for model in self.plan.loaded}

    def withheld_by(self, worker: Worker) -> list[str]:
        """Return the model versions that a worker is configured to host and an administrator has unloaded."""
        return [f"{name} {version}" for name, version in lookups.withheld_by(worker, set(self.plan.unloaded))]

    def _refuse_if_draining(self) -> None:
        if self._scheduler.draining:
            raise ProcedureError("Draining", "the broker is shutting down")

    # -- what workers report --------------------------------------------------------------------------------------

    def is_unloaded(self, key: ModelKey) -> bool:
        """Return whether workers must not host a model version, although their configuration names it.

        While the version still has calls, or is being loaded again, workers may host it.
        """
        return self._unloader.has_unloaded(key) and not self._loader.is_loading(key)

    def worker_registered(self, worker: Worker) -> None:
        """A worker has registered and hosts its models, but for unloaded ones: bring it up to the plan."""
        described = {model.key: model for model in worker.description.models}
        for model in self.withheld_by(worker):
            if model not in self._noted:
                self._noted.add(model)
                self._outbox.note(f"{model} is configured and was unloaded: workers do not host it")
        self._unloader.worker_registered(worker, described)
        for name in dict.fromkeys(name for name, _ in described):
            self.routing.pin_default(name)
        if worker.description.loads:
            for key in described:
                if self.is_unloaded(key):
                    self._orders.unload(worker, key)
            self.restorer.worker_registered(worker, described)

    def worker_loaded(self, worker: Worker, number: bytes, model: ModelDescription) -> bool:
        """A worker has loaded a model by order `number`. Returns whether the worker may serve it."""
        objection = self._objection(worker, number, model)
        if objection:
            self._discard(worker, model.key)
            self.worker_failed(worker, number, objection)
            return False
        is_expected = self.restorer.worker_loaded(worker, number, model) or self._loader.worker_loaded(
            worker, number, model.key
        )
        if is_expected:
            self.restorer.clear_failure(worker, model.key)
        else:
            self._discard(worker, model.key)
        return is_expected

    def worker_failed(self, worker: Worker, number: bytes, reason: str) -> None:
        """A worker could not load a model by order `number`."""
        if not self.restorer.worker_failed(worker, number, reason):
            self._loader.worker_failed(worker, number, reason)

    def worker_unloaded(self, worker: Worker, number: bytes) -> None:
        """A worker has unloaded a model by order `number`."""
        self._unloader.worker_unloaded(worker, number)

    def worker_lost(self, worker: Worker, reason: str | None) -> None:
        """A worker has gone; `reason` is None if it left in good order."""
        died = reason in (EXIT, HEARTBEAT)
        self.restorer.worker_lost(worker, died=died)
        self._loader.worker_lost(worker, died=died)
        self._unloader.worker_lost(worker)

    def advance(self, now_s: float) -> None:
        """Do the next step of each change that can go on. The core calls it after each event and on each tick."""
        self._loader.advance(now_s)
        self._unloader.advance(now_s)

    def _objection(self, worker: Worker, number: bytes, model: ModelDescription) -> str:
        """Return why a worker may not serve a model that it has loaded; empty if it may."""
        name, version = model.key
        if self._unloader.is_unloading_from(worker, model.key):
            return f"{name} {version} is being unloaded from this worker"
        expected = self._loader.expected_key(worker, number)
        if expected is not None and expected != model.key:
            return f"it is {name} {version} on this worker, but {expected[0]} {expected[1]} on others"
        for replica in lookups.call_replicas(self._registry, model.key):
            other = model_source(replica.entry)
            if replica.entry and replica.worker is not worker and other != model_source(model.entry):
                return f"{name} {version} is {other} on other workers: rename the model, or give it another version"
        return self._access.hosting_objection(worker.key_name, [name]) or self._registry.objection([model]) or ""

    def _discard(self, worker: Worker, key: ModelKey) -> None:
        """Have a worker unload a model that it has loaded but may not serve.

        A worker that hosted the model before goes on hosting it; one that is about to unload it has its order.
        """
        is_leaving = self._unloader.is_unloading_from(worker, key)
        if not is_leaving and not lookups.is_hosted_by(self._registry, worker, key):
            self._orders.unload(worker, key)
