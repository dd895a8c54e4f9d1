"""The deployment plan while the broker runs: owns every change to it, and notes that it must be saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.core.state.plan import DeploymentPlan, LoadedModel, SavedRoute
from cluster.wire.protocol import ModelKey, Version

if TYPE_CHECKING:
    from broker.core.state.versions import Route


class TrackedPlan:
    """A deployment plan that knows whether it has changed since it was last taken, and since it was last saved.

    Attributes:
        changes: how often the plan has changed.
    """

    def __init__(self, plan: DeploymentPlan) -> None:
        self._plan = plan
        self._has_changed = False
        self._saved = 0  # changes
        self.changes = 0

    @property
    def is_unsaved(self) -> bool:
        """Whether the plan has changes that are not saved yet."""
        return self._saved < self.changes

    def mark_saved(self, changes: int) -> None:
        """Note that the plan with so many changes was saved."""
        self._saved = max(self._saved, changes)

    @property
    def loaded(self) -> list[LoadedModel]:
        """The model versions that administrators have loaded."""
        return self._plan.loaded

    @property
    def unloaded(self) -> list[ModelKey]:
        """The model versions that no worker hosts, whatever its configuration says."""
        return [(name, Version.read(version)) for name, version in self._plan.unloaded]

    def find(self, key: ModelKey) -> LoadedModel | None:
        """Return a loaded model version; None if no administrator has loaded it."""
        return next((model for model in self._plan.loaded if model.key == key), None)

    def is_unloaded(self, key: ModelKey) -> bool:
        """Return whether an administrator has unloaded a configured model version."""
        return _as_text(key) in self._plan.unloaded

    def add(self, model: LoadedModel) -> None:
        """Add a loaded model version, in place of an earlier one with the same key."""
        self._plan.loaded = [other for other in self._plan.loaded if other.key != model.key] + [model]
        self._plan.unloaded = [key for key in self._plan.unloaded if key != _as_text(model.key)]
        self._mark_changed()

    def replace(self, key: ModelKey, model: LoadedModel) -> None:
        """Put a loaded model version in the place of another one, whose code it has become."""
        self._plan.loaded = [other for other in self._plan.loaded if other.key != key]
        self.add(model)

    def remove(self, key: ModelKey, *, is_configured: bool) -> None:
        """Remove a model version.

        Args:
            key: the model version.
            is_configured: whether workers host it by their configuration; the plan then names it as unloaded.
        """
        if is_configured and not self.is_unloaded(key):
            self._plan.unloaded.append(_as_text(key))
        self._plan.loaded = [model for model in self._plan.loaded if model.key != key]
        self._mark_changed()

    def mark_routes_changed(self) -> None:
        """Note that the routes have changed; `take` gets them."""
        self._mark_changed()

    def take(self, routes: Mapping[str, Route]) -> DeploymentPlan | None:
        """Return a copy of the plan if it has changed since the last call; None otherwise.

        Args:
            routes: the routes now, by qualified name.
        """
        if not self._has_changed:
            return None
        self._has_changed = False
        self._plan.routes = {name: _saved(route) for name, route in routes.items()}
        return DeploymentPlan(list(self._plan.loaded), list(self._plan.unloaded), dict(self._plan.routes))

    def _mark_changed(self) -> None:
        self._has_changed = True
        self.changes += 1


def _as_text(key: ModelKey) -> tuple[str, str]:
    name, version = key
    return name, str(version)


def _saved(route: Route) -> SavedRoute:
    split = {str(version): weight for version, weight in route.split.items()}
    return SavedRoute(str(route.default), split, route.is_automatic)
