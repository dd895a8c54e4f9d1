"""A model in all its versions, and which of them answer the calls that name no version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from broker.core.state.pool import WorkerPool
from broker.core.state.procedures import Procedure, Target
from cluster.wire.protocol import ModelDescription, Version


class ModelVersion:
    """One version of a model, which is hosted now or was before.

    Attributes:
        version: its number.
        calls: the workers that serve its calls.
        streams: the workers that serve its streams.
        is_callable: whether new calls are accepted: False from the start of an unload until the next load.
        pinned_names: the procedures that can be called with this version in their names.
        counted_names: those, and all that could be called before.
    """

    __slots__ = ("calls", "counted_names", "is_callable", "pinned_names", "streams", "version")

    def __init__(self, description: ModelDescription, now_s: float) -> None:
        self.version = description.version
        self.calls = WorkerPool(description, now_s)
        self.streams = WorkerPool(description, now_s, is_for_streams=True)
        self.is_callable = True
        self.pinned_names: set[str] = set()
        self.counted_names: set[str] = set()

    @property
    def pools(self) -> tuple[WorkerPool, WorkerPool]:
        """Both pools."""
        return self.calls, self.streams

    @property
    def description(self) -> ModelDescription:
        """The model's description, from the worker that registered it last."""
        return self.calls.model

    def pool_of(self, procedure: Procedure) -> WorkerPool:
        """Return the pool that answers one of its procedures."""
        return self.streams if procedure.is_stream else self.calls


@dataclass(frozen=True, slots=True)
class Route:
    """Which versions of a model answer the calls that name no version.

    Attributes:
        default: the version that answers them all, unless there is a split.
        split: weights by version; empty if there is no split.
        is_automatic: whether the broker has set the route because the model has several versions; False if an
            administrator has set it.
    """

    default: Version
    split: Mapping[Version, int]
    is_automatic: bool = False


class ModelVersions:
    """A model in all its versions.

    The default version is the one that was hosted first, until a route names another. A version without a ready worker
    gets no calls while another version has one: availability comes before shares. The version that stands in for the
    default keeps that part until the default has a worker again, or has lost its own workers.

    Attributes:
        qualified_name: the model's qualified name.
        versions: every version that was hosted and is not forgotten.
        route: the route of calls that name no version.
        shares: the weights by which these calls are distributed now; empty if no version is callable.
        procedures: the procedures that name no version, by name.
    """

    def __init__(self, qualified_name: str) -> None:
        self.qualified_name = qualified_name
        self.versions: dict[Version, ModelVersion] = {}
        self.shares: dict[Version, int] = {}
        self._stand_in: Version | None = None  # answers for the default version while that has no worker
        self.route = Route(Version(0, 0), {})  # until the first version is hosted
        self.procedures: dict[str, Procedure] = {}

    @property
    def all_pools(self) -> Iterable[WorkerPool]:
        """The pools of every version."""
        return [pool for one in self.versions.values() for pool in one.pools]

    @property
    def callable_versions(self) -> list[ModelVersion]:
        """The versions that accept calls, in ascending order."""
        return [self.versions[version] for version in sorted(self.versions) if self.versions[version].is_callable]

    @property
    def current(self) -> ModelVersion | None:
        """The version with the largest share; None if no version is callable."""
        return self.versions[max(self.shares, key=lambda version: self.shares[version])] if self.shares else None

    def _distribute(self) -> dict[Version, int]:
        """Return the weights by which calls that name no version are to be distributed from now on."""
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
        # No version has a worker: the one that lost its workers last, so that its calls wait for a new worker.
        return {max(able, key=_unserved_since).version: 1}

    def reroute(self) -> Iterator[Procedure]:
        """Set the targets of every procedure that names no version; yield the procedures that can be called."""
        self.shares = self._distribute()
        for procedure in self.procedures.values():
            able = [
                (target, one)
                for one in self.callable_versions
                if (target := procedure.targets.get(one.pool_of(procedure))) is not None
                and one.description.pinned(procedure.name) in one.pinned_names
            ]
            if able:
                chosen = [(target, self.shares[one.version]) for target, one in able if one.version in self.shares]
                procedure.set_targets(chosen or [(able[-1][0], 1)])
                yield procedure

    def other_target(self, target: Target) -> Target | None:
        """Return where a call should wait that waits at a target without workers; None if it should stay."""
        if target.procedure.version is not None or not target.procedure.targets:
            return None
        other = target.procedure.next_target()
        if target.procedure.split is not None:
            target.procedure.split.advance()
        return other if other is not None and other.pool is not target.pool and other.pool.replicas else None


def _unserved_since(one: ModelVersion) -> tuple[float, Version]:
    return one.calls.unserved_since_s or 0.0, one.version
