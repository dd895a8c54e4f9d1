"""Lookups of deployments: which workers, replicas and versions a change concerns. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from broker.core.errors import ProcedureError
from cluster.wire.protocol import ModelKey, Version, model_source

if TYPE_CHECKING:
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.state.pool import Replica, Worker
    from broker.core.state.registry import Registry


def matches(worker: Worker, patterns: Sequence[str]) -> bool:
    """Return whether one of the patterns matches a worker's id, host or metrics address; no patterns match all."""
    description = worker.description
    names = (description.id, description.host, description.metrics_address)
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def loadable_workers(registry: Registry) -> list[Worker]:
    """Return the ready workers that understand LOAD and UNLOAD."""
    return [worker for worker in registry.workers.values() if worker.description.loads and worker.state == "ready"]


def call_replicas(registry: Registry, key: ModelKey) -> list[Replica]:
    """Return the replicas of a model version's calls on ready workers: one for each worker that hosts it."""
    version = registry.find(key)
    return list(version.calls.replicas) if version is not None else []


def all_replicas(registry: Registry, key: ModelKey) -> list[Replica]:
    """Return the replicas of a model version's calls and streams on ready workers."""
    version = registry.find(key)
    return [replica for pool in version.pools for replica in pool.replicas] if version is not None else []


def is_served_by(registry: Registry, worker: Worker, key: ModelKey) -> bool:
    """Return whether a worker is ready and hosts a model version."""
    return any(replica.worker is worker for replica in call_replicas(registry, key))


def is_hosted_by(registry: Registry, worker: Worker, key: ModelKey) -> bool:
    """Return whether a worker hosts a model version, even if the worker drains."""
    version = registry.find(key)
    return version is not None and any(pool in worker.replicas for pool in version.pools)


def is_configured(registry: Registry, plan: TrackedPlan, key: ModelKey) -> bool:
    """Return whether workers host a model version by their configuration.

    If no registered worker describes it, every version that no administrator has loaded counts as configured.
    """
    models = (model for worker in registry.workers.values() for model in worker.description.models)
    described = [model for model in models if model.key == key]
    if described:
        return any(model.is_configured for model in described)
    return plan.find(key) is None


def withheld_by(worker: Worker, unloaded: Collection[ModelKey]) -> dict[ModelKey, dict[str, Any]]:
    """Return those of the unloaded model versions that a worker is configured to host, with their entries."""
    if not unloaded:
        return {}
    models = worker.description.models
    return {model.key: model.entry for model in models if model.is_configured and model.key in unloaded}


def withheld_models(registry: Registry, plan: TrackedPlan) -> dict[ModelKey, dict[str, Any]]:
    """Return the unloaded model versions that any worker is configured to host, with their entries."""
    unloaded = set(plan.unloaded)
    found: dict[ModelKey, dict[str, Any]] = {}
    for worker in registry.workers.values():
        found.update(withheld_by(worker, unloaded))
    return found


def callable_versions(registry: Registry, name: str) -> list[Version]:
    """Return the versions of a model that can be called, in rising order."""
    model = registry.models.get(name)
    return [one.version for one in model.callable_versions] if model is not None else []


def unknown_model(registry: Registry, name: str) -> ProcedureError:
    """Return the error for a model that does not exist; it names the models that do."""
    known = ", ".join(other for other in registry.models if callable_versions(registry, other)) or "none"
    return ProcedureError("ValueError", f"there is no model {name!r}; there are {known}")


def _unloaded_model(registry: Registry, plan: TrackedPlan, name: str) -> ProcedureError | None:
    versions = [str(version) for other, version in plan.unloaded if other == name]
    if not versions:
        return None
    entries = [entry for (other, _), entry in withheld_models(registry, plan).items() if other == name and entry]
    source = model_source(entries[0]) if entries else "MODULE:CLASS"
    text = f"{name} {', '.join(versions)} was unloaded; scripts/models.py load {source} brings it back"
    return ProcedureError("ValueError", text)


def find_key(registry: Registry, plan: TrackedPlan, name: str, version: str) -> ModelKey:
    """Return the key of a model version that can be called, or that an administrator has loaded.

    Args:
        registry: the workers and their models.
        plan: the deployment plan.
        name: qualified name of the model.
        version: the version as text; empty if the model has only one.

    Raises:
        ProcedureError: if there is no such model or version, or several versions to choose from.
    """
    planned = {model.key[1] for model in plan.loaded if model.model == name}
    known = [str(one) for one in sorted(planned.union(callable_versions(registry, name)))]
    if not known:
        raise _unloaded_model(registry, plan, name) or unknown_model(registry, name)
    if not version and len(known) > 1:
        raise ProcedureError("ValueError", f"{name} has the versions {', '.join(known)}: name one of them")
    chosen = version or known[0]
    if chosen not in known:
        raise ProcedureError("ValueError", f"{name} has no version {chosen}; it has {', '.join(known)}")
    return name, Version.read(chosen)
