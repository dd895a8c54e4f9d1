"""Routes of calls that name no version: owns each change to a model's default version and split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.core.deployment import lookups
from broker.core.deployment.checks import checked_split
from broker.core.errors import ProcedureError
from broker.core.state.versions import Route
from cluster.wire.protocol import ModelKey, Version

if TYPE_CHECKING:
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.state.outbox import Outbox
    from broker.core.state.plan import DeploymentPlan
    from broker.core.state.registry import Registry


class Routing:
    """Sets routes in the registry, and has the plan save them."""

    def __init__(self, registry: Registry, plan: TrackedPlan, outbox: Outbox) -> None:
        self._registry = registry
        self._plan = plan
        self._outbox = outbox

    def restore(self, plan: DeploymentPlan) -> None:
        """Set the routes that an earlier broker saved."""
        for name, saved in plan.routes.items():
            split = {Version.read(version): weight for version, weight in saved.split.items()}
            self._registry.routes[name] = Route(Version.read(saved.default), split, saved.is_automatic)

    def set_weights(self, name: str, weights: Mapping[Version, int]) -> None:
        """Split a model's calls that name no version by weight.

        Args:
            name: qualified name of the model.
            weights: weight of each version. A single version becomes the default version and gets all calls; if
                empty, the present default version gets all calls.

        Raises:
            ProcedureError: if the model or a version does not exist, or all weights are 0.
        """
        known = lookups.callable_versions(self._registry, name)
        if not known:
            raise lookups.unknown_model(self._registry, name)
        for version in weights:
            if version not in known:
                text = f"{name} has no version {version}; it has {', '.join(map(str, known))}"
                raise ProcedureError("ValueError", text)
        split = checked_split(weights)
        default = next(iter(split)) if len(split) == 1 else self._registry.models[name].route.default
        self._set(name, default, split)
        shares = ", ".join(f"{version}={weight}" for version, weight in split.items()) or str(default)
        self._outbox.note(f"calls of {name} go to {shares}")

    def remove_version(self, key: ModelKey) -> None:
        """Give the calls of a version that is being unloaded, or was forgotten, to the other versions."""
        name, version = key
        others = [one for one in lookups.callable_versions(self._registry, name) if one != version]
        if not others:
            if self._registry.routes.pop(name, None) is not None:
                self._plan.mark_routes_changed()
            return
        route = self._registry.models[name].route
        split = {one: weight for one, weight in route.split.items() if one != version}
        default = self._successor(name, others, split) if route.default == version else route.default
        self._set(name, default, split, is_automatic=route.is_automatic)

    def _successor(self, name: str, others: list[Version], split: Mapping[Version, int]) -> Version:
        """Return the new default: the version with the largest weight, or without a split, with the most workers."""
        workers = {one: len(lookups.call_replicas(self._registry, (name, one))) for one in others}
        rank = split or workers
        return max(rank, key=lambda one: (rank[one], one))

    def pin_default(self, name: str) -> None:
        """Save which version of a model is the default, if the model has several and no route.

        Otherwise the first version that a worker registers is the default, and the next broker may see another order.
        """
        if len(lookups.callable_versions(self._registry, name)) > 1 and name not in self._registry.routes:
            route = self._registry.models[name].route
            self._set(name, route.default, route.split, is_automatic=True)

    def is_routed(self, key: ModelKey) -> bool:
        """Return whether an administrator's route names a model version."""
        name, version = key
        route = self._registry.routes.get(name)
        return route is not None and not route.is_automatic and (version == route.default or version in route.split)

    def _set(self, name: str, default: Version, split: Mapping[Version, int], *, is_automatic: bool = False) -> None:
        self._registry.route(name, Route(default, split if len(split) > 1 else {}, is_automatic))
        self._plan.mark_routes_changed()
