"""Who can answer what: workers, the models they host, and the procedures of the whole cluster. Pure state.

The registry is merged from the workers' own descriptions. What was registered once stays known when its workers
are gone, so that a call in a restart waits for a worker instead of being told that there is no such procedure; only
what is unloaded is forgotten, but for what was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from broker.core.state.counters import UNKNOWN_METHOD
from broker.core.state.pool import Batch, Replica, Worker, WorkerPool
from broker.core.state.procedures import Procedure, Target
from broker.core.state.versions import ModelVersion, ModelVersions, Route
from cluster.wire.protocol import ModelDescription, ModelKey, ProcedureDescription, Version, WorkerDescription

if TYPE_CHECKING:
    from broker.core.state.calls import Call


class Registry:
    """The merged view of all workers.

    Attributes:
        procedures: everything that can be called, by name.
        routes: what was decided about calls that name no version, by the model's qualified name.
        families: every model that a worker has hosted since the broker started, by qualified name.
        workers: the registered workers, by identity.
        document: what describes the service, packed; None after a change, until somebody asks for it.
    """

    def __init__(self, own_procedures: Iterable[Procedure]) -> None:
        self.procedures = {procedure.name: procedure for procedure in own_procedures}
        self._own_names = frozenset(self.procedures)
        self._counted = dict(self.procedures)  # and those that can be called no longer
        self.models: dict[str, ModelVersions] = {}
        self.routes: dict[str, Route] = {}
        self.workers: dict[bytes, Worker] = {}
        self.document: bytes | None = None

    def objection(self, models: Sequence[ModelDescription]) -> str | None:
        """Why a worker cannot host these, for its log; None if it can."""
        owners: dict[str, tuple[str, Version | None, bool]] = {
            one.name: (one.model, one.version, one.is_stream) for one in self._counted.values() if one.model is not None
        }
        for model in models:
            for procedure in model.procedures:
                for name, version in _names(model, procedure):
                    if name in self._own_names or name.startswith("_") or name == UNKNOWN_METHOD:
                        return f"the procedure name {name!r} is the broker's own: rename the model"
                    mine = model.qualified_name, version, procedure.is_stream
                    owner = owners.setdefault(name, mine)
                    if owner[0] != mine[0]:
                        return f"the procedure name {name!r} is already that of model {owner[0]!r}: rename the model"
                    if owner != mine:
                        return f"the procedure {name!r} of another worker answers in another way: rename it"
        return None

    def public(self) -> list[Procedure]:
        """What can be called but ZeroRPC's own: the broker's, then each model's, those that name no version first."""
        places = {name: place for place, name in enumerate(self.models)}

        def place(procedure: Procedure) -> tuple[int, tuple[int, ...]]:
            return places[procedure.model] if procedure.model is not None else -1, procedure.version or ()

        return sorted((one for one in self.procedures.values() if not one.name.startswith("_")), key=place)

    def counted(self) -> Iterable[Procedure]:
        """Every procedure about which something was counted, whether it can still be called or not."""
        return self._counted.values()

    def all_versions(self) -> Iterator[ModelVersion]:
        """Every version of every model that was ever hosted."""
        for family in self.models.values():
            yield from family.versions.values()

    def all_pools(self) -> Iterator[WorkerPool]:
        """The services of all of them."""
        return chain.from_iterable(one.pools for one in self.all_versions())

    def find(self, key: ModelKey) -> ModelVersion | None:
        """A version of a model, if it was ever hosted."""
        name, version = key
        family = self.models.get(name)
        return family.versions.get(version) if family is not None else None

    def add(self, identity: bytes, description: WorkerDescription, now_s: float) -> Worker:
        """Register a worker; `host` says what it hosts."""
        worker = self.workers[identity] = Worker(identity, description, now_s)
        return worker

    def host(self, worker: Worker, model: ModelDescription, now_s: float) -> None:
        """A worker can be called for a model that `objection` has nothing against, from now on, or as it is now."""
        name, version = model.key
        family = self.models.get(name)
        if family is None:
            family = self.models[name] = ModelVersions(name)
        if not family.callable_versions:
            family.route = self.routes.get(name) or Route(version, {})
        hosted = family.versions.get(version)
        if hosted is None:
            hosted = family.versions[version] = ModelVersion(model, now_s)
        hosted.is_callable = True
        for pool in hosted.pools:
            pool.model = model
            self._offer(worker, pool, model)
        for described in model.procedures:
            for procedure_name, pinned_to in _names(model, described):
                self._describe(procedure_name, described, family, pinned_to, hosted)
        self.reroute(family)

    @staticmethod
    def _offer(worker: Worker, pool: WorkerPool, model: ModelDescription) -> None:
        for replica in worker.replicas:
            if replica.pool is pool:
                pool.resize(replica, model)
                return
        replica = Replica(worker, pool, model)
        worker.replicas.append(replica)
        if worker.state == "ready":
            pool.offer(replica)
            pool.unserved_since_s = None

    def _describe(
        self,
        name: str,
        described: ProcedureDescription,
        family: ModelVersions,
        version: Version | None,
        hosted: ModelVersion,
    ) -> None:
        procedure = self._counted.get(name)
        if procedure is None:
            procedure = self._counted[name] = Procedure(
                name,
                described.doc,
                described.args,
                model=family.qualified_name,
                version=version,
                is_stream=described.is_stream,
            )
        pool = hosted.pool_of(procedure)
        target = procedure.targets.get(pool)
        if target is None:
            target = procedure.targets[pool] = Target(procedure, pool, described)
        target.describe(described)
        if version is None:
            family.procedures[name] = procedure
        else:
            procedure.send_to([(target, 1)])
            self.procedures[name] = procedure

    def route(self, name: str, route: Route) -> None:
        """Decide about a model's calls that name no version."""
        self.routes[name] = route
        self.models[name].route = route
        self.reroute(self.models[name])

    def reroute(self, family: ModelVersions) -> None:
        """Calls that name no version go where they belong now: after any change of who hosts what, and of the route."""
        able = {procedure.name for procedure in family.rerouted()}
        for name, procedure in family.procedures.items():
            if name in able:
                self.procedures[name] = procedure
            else:
                self.procedures.pop(name, None)
        self.document = None

    def close(self, key: ModelKey) -> None:
        """A version of a model can be called no longer; what waits or runs goes on."""
        name, version = key
        family = self.models[name]
        hosted = family.versions[version]
        hosted.is_callable = False
        for procedure in hosted.description.procedures:
            self.procedures.pop(hosted.description.pinned(procedure.name), None)
        self.reroute(family)

    def drain(self, worker: Worker, now_s: float) -> None:
        """Offer the worker no more work; what it has under way stays its own."""
        if worker.state == "draining":
            return
        worker.state = "draining"
        for replica in worker.replicas:
            self._take_back(replica, now_s)

    def withdraw(self, replica: Replica, now_s: float) -> None:
        """A worker hosts the calls or streams of a version of a model no longer; again, nothing happens."""
        if replica in replica.worker.replicas:
            replica.worker.replicas.remove(replica)
        if replica in replica.pool.replicas:
            self._take_back(replica, now_s)

    def _take_back(self, replica: Replica, now_s: float) -> None:
        pool = replica.pool
        pool.withdraw(replica)
        if not pool.replicas:
            pool.unserved_since_s = now_s
            self.reroute(self.models[pool.model.qualified_name])

    def is_needed(self, worker: Worker) -> bool:
        """Whether calls wait that only this worker, or others that want to leave as well, could answer."""
        return any(
            replica.pool.queue and all(other.worker.leaving_s is not None for other in replica.pool.replicas)
            for replica in worker.replicas
        )

    def take(self, replica: Replica, room: int, calls: int, now_s: float) -> Batch:
        """Take room for a batch of so many calls."""
        replica.asked_s = now_s
        replica.pool.change_free(replica, -room)
        replica.worker.dispatched += calls
        return Batch(replica, room, calls)

    def release(self, call: Call) -> WorkerPool | None:
        """The worker has answered that call; return the service that has more room now, because its batch is done."""
        batch = call.batch
        assert batch is not None
        del batch.replica.worker.in_flight[call.number]
        batch.unanswered -= 1
        if batch.unanswered:
            return None
        pool = batch.replica.pool
        pool.change_free(batch.replica, batch.room)
        return pool


def _names(model: ModelDescription, procedure: ProcedureDescription) -> tuple[tuple[str, Version | None], ...]:
    """The names by which clients call a procedure, with the version that each names."""
    return (procedure.name, None), (model.pinned(procedure.name), model.version)
