"""The loader: starts loadings, one at a time, and records or undoes what they have done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.core.deployment import lookups
from broker.core.deployment.loading import Loading, LoadState, LoadTarget
from broker.core.errors import ProcedureError
from broker.core.state.plan import LoadedModel
from cluster.wire.protocol import ModelKey, model_source

if TYPE_CHECKING:
    from broker.core.deployment.orders import Orders
    from broker.core.deployment.restoring import Restorer
    from broker.core.deployment.routing import Routing
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.deployment.unloading import Answer, Unloader
    from broker.core.state.outbox import Outbox
    from broker.core.state.pool import Replica, Worker
    from broker.core.state.registry import Registry


class Loader:
    """Carries out one loading at a time."""

    def __init__(
        self,
        registry: Registry,
        plan: TrackedPlan,
        orders: Orders,
        outbox: Outbox,
        routing: Routing,
        restorer: Restorer,
        unloader: Unloader,
    ) -> None:
        self._registry = registry
        self._plan = plan
        self._orders = orders
        self._outbox = outbox
        self._routing = routing
        self._restorer = restorer
        self._unloader = unloader
        self._loading: Loading | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no model is being loaded."""
        return self._loading is None

    def is_loading(self, key: ModelKey) -> bool:
        """Return whether a first worker has loaded this model version, and others still load it."""
        return self._loading is not None and self._loading.key == key

    def may_be_loading(self, key: ModelKey) -> bool:
        """Return whether this model version is being loaded, or one that is not known yet."""
        return self._loading is not None and self._loading.key in (None, key)

    def expected_key(self, worker: Worker, number: bytes) -> ModelKey | None:
        """Return what a worker must load by this order; None if any model will do, or the order is not a loader's."""
        loading = self._loading
        return loading.key if loading is not None and loading.awaits(worker, number) else None

    def refuse_if_loading(self) -> None:
        """Refuse a second change while a model is being loaded.

        Raises:
            ProcedureError: if a model is being loaded.
        """
        if self._loading is not None:
            workers = ", ".join(target.worker.description.id for target in self._loading.awaited.values())
            text = f"{self._loading.description} on {workers}; try again after that, or cancel it"
            raise ProcedureError("Busy", text)

    # -- requests -------------------------------------------------------------------------------------------------

    def load(self, entry: dict[str, Any], patterns: Sequence[str], answer: Answer) -> None:
        """Start to load a model; see `Deployment.load`."""
        self.refuse_if_loading()
        workers = lookups.loadable_workers(self._registry)
        targets = [LoadTarget(worker, entry) for worker in workers if lookups.matches(worker, patterns)]
        if not targets:
            known = ", ".join(worker.description.metrics_address for worker in workers) or "none"
            wanted = f" matches {' or '.join(map(repr, patterns))}" if patterns else ""
            raise ProcedureError("ValueError", f"no ready worker that can load models{wanted}; there are {known}")
        self._start(Loading(f"{model_source(entry)} is being loaded", targets, patterns, answer))

    def reload(self, key: ModelKey, answer: Answer) -> None:
        """Start to load a model again; see `Deployment.reload`."""
        self.refuse_if_loading()
        name, version = key
        targets = [
            LoadTarget(replica.worker, replica.entry)
            for replica in lookups.call_replicas(self._registry, key)
            if replica.worker.description.loads and replica.entry
        ]
        if not targets:
            raise ProcedureError("ValueError", f"no ready worker hosts {name} {version} and can load it again")
        self._start(Loading(f"{name} {version} is being loaded again", targets, None, answer))

    def cancel(self) -> str:
        """Cancel the loading; see `Deployment.cancel`."""
        if self._loading is None:
            raise ProcedureError("ValueError", "no model is being loaded")
        self._loading.cancel()
        return self._loading.description

    def _start(self, loading: Loading) -> None:
        self._loading = loading
        self._outbox.note(loading.description)

    # -- events ---------------------------------------------------------------------------------------------------

    def worker_loaded(self, worker: Worker, number: bytes, key: ModelKey) -> bool:
        """A worker has loaded a model. Returns whether that was an order of the loader."""
        if self._loading is None or not self._loading.awaits(worker, number):
            return False
        planned = self._plan.find(key)
        is_new = not lookups.is_served_by(self._registry, worker, key) and not (
            planned is not None and lookups.matches(worker, planned.workers)
        )
        version = self._registry.find(key)
        if version is None or not version.is_callable:
            self._loading.has_opened = True
        self._loading.worker_loaded(number, key, is_new=is_new)
        return True

    def worker_failed(self, worker: Worker, number: bytes, reason: str) -> None:
        """A worker could not load a model."""
        if self._loading is not None and self._loading.awaits(worker, number):
            self._loading.worker_failed(number, reason)

    def worker_lost(self, worker: Worker, *, died: bool) -> None:
        """A worker has gone."""
        if self._loading is not None:
            self._loading.worker_lost(worker, died=died)

    def advance(self, now_s: float) -> None:
        """Do the next step of the loading, if it can go on."""
        loading = self._loading
        state = loading.advance(self._orders) if loading is not None else None
        if loading is None or state not in (LoadState.LOADED, LoadState.FAILED, LoadState.ABANDONED):
            return
        self._loading = None
        if state is LoadState.LOADED:
            self._complete(loading)
        elif state is LoadState.FAILED:
            self._undo(loading, now_s)
        else:
            text = "every worker that was to load the model has left. Nothing has changed"
            loading.answer(ProcedureError("LoadFailed", text))

    # -- a loading that has succeeded -----------------------------------------------------------------------------

    def _complete(self, loading: Loading) -> None:
        assert loading.key is not None
        name, version = loading.key
        planned = self._planned(loading, loading.key)
        if planned is not None:
            self._record(planned)
        workers = [target.worker.description.id for target in loading.loaded]
        self._outbox.note(f"{name} {version} was loaded on {len(workers)} worker(s)")
        loading.answer({"model": name, "version": str(version), "workers": workers})

    def _planned(self, loading: Loading, key: ModelKey) -> LoadedModel | None:
        """Return what the plan must say after a loading; None if it was the reload of a configured model."""
        name, version = key
        before = self._plan.find(key)
        if loading.patterns is None and before is None and not loading.new:
            return None
        entry = loading.loaded[-1].entry
        return LoadedModel(entry, _patterns(loading.patterns, entry, before), name, str(version))

    def _record(self, model: LoadedModel) -> None:
        """Make a model part of the plan, and restore it on workers that have registered during the loading."""
        self._plan.add(model)
        self._restorer.reset_deaths(model.key)
        self._routing.pin_default(model.model)
        for worker in lookups.loadable_workers(self._registry):
            if not lookups.is_served_by(self._registry, worker, model.key):
                self._restorer.restore(worker, model)

    # -- a loading that has failed --------------------------------------------------------------------------------

    def _undo(self, loading: Loading, now_s: float) -> None:
        """Unload the model from the workers where it is new; where it was loaded again, it stays."""
        self._outbox.note(f"a model was not loaded: {'; '.join(loading.failures)}")
        error = _load_failed(loading)
        replicas = self._replicas_to_undo(loading)
        if loading.key is None or not (replicas or loading.has_opened):
            loading.answer(error)
        elif len(replicas) == len(lookups.all_replicas(self._registry, loading.key)):
            self._unloader.unload_everywhere(loading.key, lambda _: loading.answer(error))
        else:
            self._unloader.unload_from(loading.key, replicas, lambda _: loading.answer(error), now_s)

    def _replicas_to_undo(self, loading: Loading) -> list[Replica]:
        if loading.key is None:
            return []
        replicas = lookups.all_replicas(self._registry, loading.key)
        if self._unloader.has_unloaded(loading.key):
            return replicas
        return [replica for replica in replicas if replica.worker in loading.new]


def _patterns(patterns: Sequence[str] | None, entry: dict[str, Any], before: LoadedModel | None) -> list[str]:
    """Return which workers the plan names for a model: a second load of the same class adds its workers."""
    if before is None or (patterns is not None and model_source(before.entry) != model_source(entry)):
        return list(patterns or [])
    if not before.workers or patterns == []:
        return []  # all workers
    return list(dict.fromkeys([*before.workers, *(patterns or [])]))


def _load_failed(loading: Loading) -> ProcedureError:
    again = [target.worker.description.id for target in loading.loaded if target.worker not in loading.new]
    rest = f"It was loaded again on {', '.join(again)}" if again else "Nothing has changed"
    return ProcedureError("LoadFailed", f"{'; '.join(loading.failures)}. {rest}")
