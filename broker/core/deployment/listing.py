"""The rows of `list_models`: one for each model version that is hosted, planned, unloaded, or still has calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from broker.core.deployment import lookups
from broker.core.deployment.restoring import MAX_DEATHS
from cluster.wire.protocol import ModelKey, model_source

if TYPE_CHECKING:
    from broker.core.deployment.restoring import Restorer
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.deployment.unloading import Unloader
    from broker.core.state.registry import Registry
    from broker.core.state.versions import ModelVersion

Row = dict[str, Any]


def list_models(registry: Registry, plan: TrackedPlan, restorer: Restorer, unloader: Unloader) -> list[Row]:
    """Return the rows: the models of the registry first, then those that only the plan names."""
    rows = dict(_registered(registry, unloader))
    for model in plan.loaded:
        row = rows.setdefault(model.key, _row(model.key, model.entry, "no worker"))
        row["loaded"] = True
        row["on"] = model.workers
        if restorer.has_stopped(model.key):
            row["troubles"].append(f"{MAX_DEATHS} workers died while they loaded it: load it again to retry")
    withheld = lookups.withheld_models(registry, plan)
    for key in plan.unloaded:
        entry = withheld.get(key, {})
        row = rows.setdefault(key, _row(key, entry, "unloaded"))
        if entry:
            row["troubles"].append(
                f"it is configured and was unloaded: scripts/models.py load {model_source(entry)} brings it back"
            )
    for (identity, key), reason in restorer.failures.items():
        if key in rows:
            rows[key]["troubles"].append(f"{registry.workers[identity].description.id}: {reason}")
    return list(rows.values())


def _registered(registry: Registry, unloader: Unloader) -> Iterator[tuple[ModelKey, Row]]:
    """Iterate over the rows of model versions that can be called, or still have calls."""
    for name, model in registry.models.items():
        total = sum(model.shares.values())
        for version in model.versions.values():
            key = name, version.version
            if version.is_callable or unloader.is_unloading(key):
                share = 100 * model.shares.get(version.version, 0) / total if total else 0.0
                yield key, _registered_row(registry, unloader, key, version, share)


def _registered_row(registry: Registry, unloader: Unloader, key: ModelKey, version: ModelVersion, share: float) -> Row:
    workers = [replica.worker.description.id for replica in lookups.call_replicas(registry, key)]
    state = "unloading" if unloader.is_unloading(key) else "ready" if workers else "no worker"
    row = _row(key, version.description.entry, state)
    return {**row, "share": round(share, 2), "workers": workers}


def _row(key: ModelKey, entry: Mapping[str, Any], state: str) -> Row:
    name, version = key
    return {
        "model": name,
        "version": str(version),
        "from": model_source(entry) if entry else "",
        "state": state,
        "share": 0.0,
        "workers": [],
        "loaded": False,
        "on": [],
        "troubles": [],
    }
