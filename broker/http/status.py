"""The content of `/readyz`, `/workers` and `/prometheus/targets`, made from the registry."""

from collections.abc import Callable, Collection
from typing import Any

from broker.core.state.pool import Worker
from broker.core.state.registry import Registry


def missing(registry: Registry, expected_models: Collection[str], loaded_models: Collection[str]) -> list[str]:
    """Return the models that should have a ready worker and have none.

    A model should have one if it is expected, or was loaded by an administrator. If no models are expected, every
    callable model should.
    """
    callable_now = {name: model_versions.callable_versions for name, model_versions in registry.models.items()}
    ready = {name for name, versions in callable_now.items() if any(one.calls.replicas for one in versions)}
    expected = set(expected_models or (name for name, versions in callable_now.items() if versions))
    return sorted(expected.union(loaded_models) - ready)


def workers(registry: Registry, awaited: Callable[[Worker], list[str]], now_s: float) -> list[dict[str, Any]]:
    """Return one object per worker, for `/workers`; `uptime_s` counts from its registration.

    Args:
        registry: the workers.
        awaited: returns the models that a worker has yet to load.
        now_s: monotonic seconds.
    """
    return [
        {
            "id": worker.description.id,
            "host": worker.description.host,
            "pid": worker.description.pid,
            "state": worker.state,
            "models": sorted({pool.model.qualified_name for pool in worker.replicas}),
            "loading": awaited(worker),
            "in_flight": worker.in_flight,
            "uptime_s": round(now_s - worker.registered_s, 3),
            "metrics_address": worker.description.metrics_address,
        }
        for worker in registry.workers.values()
    ]


def prometheus_targets(registry: Registry) -> list[dict[str, Any]]:
    """Return every worker's metrics address, in the form of Prometheus' HTTP service discovery."""
    # By address, because a process may be registered twice for a moment.
    addresses = {one.description.metrics_address: one.description.process for one in registry.workers.values()}
    return [{"targets": [address], "labels": {"worker": process}} for address, process in addresses.items()]
