"""The content of `/readyz`, `/workers` and `/prometheus/targets`, read from the core in slices."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from broker.core.core import Core
from broker.core.state.services import Server
from broker.http.slices import Ask, read_in_slices


class Readiness(NamedTuple):
    """What `/readyz` depends on.

    Attributes:
        draining: whether the broker drains.
        is_empty: whether there is neither a model nor a worker.
        missing: the models that should have a ready worker and have none.
        withheld: the model versions that are configured and were unloaded.
    """

    draining: bool
    is_empty: bool
    missing: list[str]
    withheld: list[str]


def readiness(core: Core, ask: Ask, expected: Collection[str]) -> Readiness:
    """Return whether the broker is ready.

    A model should have a ready worker if it is expected, or was loaded by an administrator. If nothing is expected,
    every callable model should. A service should have a server only if it is expected.
    """
    able: set[str] = set()
    ready: set[str] = set()
    serving: set[str] = set()
    withheld: set[str] = set()

    def read() -> Iterator[None]:
        for model in list(core.registry.models.values()):
            for one in model.versions.values():
                if one.is_callable:
                    able.add(model.qualified_name)
                    if one.calls.replicas:
                        ready.add(model.qualified_name)
            yield

        for service in list(core.registry.services.by_name.values()):
            if service.is_served:
                serving.add(service.name)
            yield

        for worker in list(core.registry.workers.values()):
            withheld.update(core.deployment.withheld_by(worker))
            yield

    read_in_slices(ask, read())
    draining, is_empty, loaded = ask(
        lambda: (
            core.draining,
            not core.registry.models and not core.registry.workers,
            core.deployment.expected_models(),
        )
    )
    needed = set(expected) or able
    missing = needed.union(loaded) - ready - serving.intersection(expected)
    return Readiness(draining, is_empty, sorted(missing), sorted(withheld))


def workers(core: Core, ask: Ask, now_s: float) -> list[dict[str, Any]]:
    """Return one object per worker and per stock server, for `/workers`; `uptime_s` counts from its registration.

    A server does not tell its process id, and has a service in place of models.
    """
    rows: list[dict[str, Any]] = []

    def read() -> Iterator[None]:
        for worker in list(core.registry.workers.values()):
            models = (
                [] if isinstance(worker, Server) else sorted({pool.model.qualified_name for pool in worker.replicas})
            )
            rows.append(
                {
                    "kind": worker.kind,
                    "id": worker.description.id,
                    "host": worker.description.host,
                    "pid": worker.description.pid or None,
                    "key": worker.key_name,
                    "state": worker.state,
                    "models": models,
                    "service": worker.service if isinstance(worker, Server) else None,
                    "loading": core.deployment.pending_loads(worker),
                    "in_flight": worker.in_flight,
                    "uptime_s": round(now_s - worker.registered_s, 3),
                    "metrics_address": worker.description.metrics_address,
                }
            )
            yield

    read_in_slices(ask, read())
    return rows


def prometheus_targets(core: Core, ask: Ask) -> list[dict[str, Any]]:
    """Return the metrics address of every worker that has one, in the form of Prometheus' HTTP service discovery."""
    addresses: dict[str, str] = {}

    def read() -> Iterator[None]:
        for worker in list(core.registry.workers.values()):
            # By address, because a process may be registered twice for a moment.
            if worker.description.metrics_address:  # a worker without HTTP has none
                addresses[worker.description.metrics_address] = worker.description.process
            yield

    read_in_slices(ask, read())
    return [{"targets": [address], "labels": {"worker": process}} for address, process in addresses.items()]
