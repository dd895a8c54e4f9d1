"""The deployment plan: how the deployed models differ from the workers' configurations. Plain data."""

from dataclasses import dataclass, field
from typing import Any

from cluster.wire.protocol import ModelKey, Version


@dataclass(slots=True)
class LoadedModel:
    """A model version that an administrator has loaded.

    Attributes:
        entry: the configuration entry that workers load it from.
        workers: patterns for the ids, hosts or addresses of the workers that host it; empty for all workers.
        model: qualified name of the model.
        version: version that the model had when it was loaded, as text.
    """

    entry: dict[str, Any]
    workers: list[str]
    model: str
    version: str

    @property
    def key(self) -> ModelKey:
        """The qualified name and the version."""
        return self.model, Version.read(self.version)


@dataclass(slots=True)
class SavedRoute:
    """A `broker.core.state.versions.Route`, with its versions as text."""

    default: str
    split: dict[str, int] = field(default_factory=dict)
    is_automatic: bool = False


@dataclass(slots=True)
class DeploymentPlan:
    """What administrators have changed. It outlives the broker.

    Attributes:
        loaded: models that workers host beside those of their configurations.
        unloaded: qualified names and versions of models that no worker hosts, whatever its configuration says.
        routes: routes of calls that name no version, by qualified name.
    """

    loaded: list[LoadedModel] = field(default_factory=list)
    unloaded: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, SavedRoute] = field(default_factory=dict)
