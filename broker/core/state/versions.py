"""A model in all its versions, and which of them answers calls that name none. Pure state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.core.state.pool import WorkerPool
from broker.core.state.procedures import Procedure, Target
from cluster.wire.protocol import ModelDescription, Version


class ModelVersion:
    """One version of a model, hosted now, or once.

    Attributes:
        version: which.
        calls, streams: its two services.
        is_callable: whether calls may begin; not from when it is to be unloaded until it is loaded again.
    """

    __slots__ = ("calls", "is_callable", "streams", "version")

    def __init__(self, description: ModelDescription, now_s: float) -> None:
        self.version = description.version
        self.calls = WorkerPool(description, now_s)
        self.streams = WorkerPool(description, now_s, is_for_streams=True)
        self.is_callable = True

    @property
    def pools(self) -> tuple[WorkerPool, WorkerPool]:
        """Both."""
        return self.calls, self.streams

    @property
    def description(self) -> ModelDescription:
        """Of the model, from the worker that hosts it since last."""
        return self.calls.model

    def pool_of(self, procedure: Procedure) -> WorkerPool:
        """Whose workers answer one of its procedures."""
        return self.streams if procedure.is_stream else self.calls


@dataclass(frozen=True, slots=True)
class Route:
    """Which versions of a model answer calls that name none.

    Attributes:
        default: the version that does.
        split: so many calls of their sum for each of several versions; empty if there is no such split.
    """

    default: Version
    split: Mapping[Version, int]


class ModelVersions:
    """A model in all its versions.

    The default version is the one that was hosted first, until a route names another. A version without a ready worker
    gets no calls while another has one: a service that answers comes before the share of a version. Which one then has
    the default version's calls stays so until that is back, or has no worker itself.

    Attributes:
        qualified_name: the model's.
        versions: every one that was ever hosted.
        route: what calls that name no version do.
        shares: how they are dealt out to versions now; empty if none may be called.
        procedures: by name, for calls that name no version.
    """

    def __init__(self, qualified_name: str) -> None:
        self.qualified_name = qualified_name
        self.versions: dict[Version, ModelVersion] = {}
        self.shares: dict[Version, int] = {}
        self._stand_in: Version | None = None  # has the default version's calls while that has no worker
        self.route = Route(Version(0, 0), {})  # until the first version is hosted
        self.procedures: dict[str, Procedure] = {}

    @property
    def callable_versions(self) -> list[ModelVersion]:
        """Those that may be called, in rising order."""
        return [self.versions[version] for version in sorted(self.versions) if self.versions[version].is_callable]

    @property
    def current(self) -> ModelVersion | None:
        """The version that answers, or most of its calls; None if none may be called."""
        return self.versions[max(self.shares, key=lambda version: self.shares[version])] if self.shares else None

    def _deal(self) -> dict[Version, int]:
        """How calls that name no version are to be dealt out from now on."""
        able = self.callable_versions
        if not able:
            return {}
        served = {one.version for one in able if one.calls.replicas}
        split = {version: weight for version, weight in self.route.split.items() if version in served and weight}
        if split:
            return split
        if self.route.default in served:
            self._stand_in = None
            return {self.route.default: 1}
        if served:
            if self._stand_in not in served:
                self._stand_in = max(served)
            return {self._stand_in: 1}
        # Of those that nobody serves the one that was served last, so that its calls are given time for a new worker.
        return {max(able, key=_unserved_since).version: 1}

    def rerouted(self) -> Iterator[Procedure]:
        """Have every procedure that names no version send its calls where they belong now; those that can be called."""
        self.shares = self._deal()
        for procedure in self.procedures.values():
            able = [
                (target, one)
                for one in self.callable_versions
                if (target := procedure.targets.get(one.pool_of(procedure))) is not None
            ]
            if able:
                chosen = [(target, self.shares[one.version]) for target, one in able if one.version in self.shares]
                procedure.send_to(chosen or [(able[-1][0], 1)])
                yield procedure

    def target_of_waiting(self, target: Target) -> Target | None:
        """Where a call that waits at a target nobody serves should wait instead; None if it should stay."""
        if target.procedure.version is not None or not target.procedure.targets:
            return None
        other = target.procedure.next_target()
        return other if other is not None and other.pool is not target.pool and other.pool.replicas else None


def _unserved_since(one: ModelVersion) -> tuple[float, Version]:
    return one.calls.unserved_since_s or 0.0, one.version
