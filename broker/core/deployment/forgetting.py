"""Forgetting: a model version that no worker has hosted for long leaves the tables, the metrics and `/readyz`.

Until then the version stays known, so that a call during a restart waits for a worker instead of getting `NameError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.core.deployment.routing import Routing
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.state.call_table import CallTable
    from broker.core.state.outbox import Outbox
    from broker.core.state.registry import Registry
    from broker.core.state.versions import ModelVersion
    from cluster.wire.protocol import ModelKey

FORGET_AFTER_S = 3600.0
"""How long a model version must be without a worker before the broker forgets it, in seconds."""

CHECK_INTERVAL_S = 1.0
"""Seconds between two checks."""

MOST_AT_ONCE = 20
"""Most versions that are forgotten at one check, so that no turn of the message loop takes long."""


class Forgetter:
    """Forgets versions without workers, unless an administrator wants them."""

    def __init__(
        self, registry: Registry, calls: CallTable, plan: TrackedPlan, routing: Routing, outbox: Outbox
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._plan = plan
        self._routing = routing
        self._outbox = outbox
        self._checked_s = float("-inf")

    def advance_if_due(self, now_s: float) -> None:
        """Forget some of the versions that have been without a worker for `FORGET_AFTER_S`."""
        if now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        due = [one.description.key for one in self._registry.all_versions() if _is_unserved(one, now_s)]
        for key in [key for key in due if not self._is_wanted(key)][:MOST_AT_ONCE]:
            self._routing.remove_version(key)
            for pool in self._registry.forget(key).pools:
                self._calls.queues.pop(pool, None)
                self._calls.shares.pop(pool, None)
            self._outbox.note(f"{key[0]} {key[1]} was forgotten: it had no worker for {FORGET_AFTER_S:g} s")

    def _is_wanted(self, key: ModelKey) -> bool:
        """Whether an administrator has loaded or routed the version, or calls wait for it."""
        hosted = self._registry.find(key)
        assert hosted is not None
        return (
            self._plan.find(key) is not None
            or self._routing.is_routed(key)
            or any(self._calls.queues[pool] for pool in hosted.pools)
        )


def _is_unserved(version: ModelVersion, now_s: float) -> bool:
    return all(
        pool.unserved_since_s is not None and now_s - pool.unserved_since_s > FORGET_AFTER_S for pool in version.pools
    )
