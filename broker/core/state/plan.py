"""What differs from the workers' configurations: models that were loaded, unloaded and routed. Plain data."""

from dataclasses import dataclass, field
from typing import Any

from cluster.wire.protocol import ModelKey, Version


@dataclass(slots=True)
class Placed:
    """A model that was loaded.

    Attributes:
        entry: what it is loaded from, as a configuration has it.
        workers: patterns for the workers that are to host it; all, if there are none.
        model, version: its qualified name and its version, when it was loaded.
    """

    entry: dict[str, Any]
    workers: list[str]
    model: str
    version: str

    @property
    def key(self) -> ModelKey:
        """Names it among all versions of all models."""
        return self.model, Version.read(self.version)


@dataclass(slots=True)
class Routed:
    """Where calls that name no version go: see `broker.family.Route`."""

    default: str
    split: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What differs from the workers' configurations, and is to outlive the processes.

    Attributes:
        loaded: models that are hosted as well.
        unloaded: qualified names and versions of models that are not hosted, whatever a configuration says.
        routes: by qualified name.
    """

    loaded: list[Placed] = field(default_factory=list)
    unloaded: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, Routed] = field(default_factory=dict)
