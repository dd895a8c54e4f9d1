"""The registry: all workers, the models that they host, and the procedures of the whole cluster.

The registry merges the workers' own descriptions. A model stays registered when its last worker leaves, so that a call
during a restart waits for a worker instead of getting `NameError`. An unload removes a model's procedures, and keeps
their counts. Both go when the model is forgotten (`deployment.forgetting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from broker.core.state.counters import UNKNOWN_METHOD
from broker.core.state.pool import Replica, Worker, WorkerPool
from broker.core.state.procedures import Procedure, Target
from broker.core.state.services import Method, Server, ServerRules, Service, Services
from broker.core.state.versions import ModelVersion, ModelVersions, Route
from cluster.wire.protocol import ModelDescription, ModelKey, ProcedureDescription, Version, WorkerDescription


class Registry:
    """The merged view of all workers.

    Attributes:
        procedures: every procedure that can be called, by name.
        routes: routes that an administrator has set, by the model's qualified name.
        models: every model that was registered and is not forgotten, by qualified name.
        services: the services of stock ZeroRPC servers.
        workers: the registered workers, stock servers among them, by identity.
        documents: packed OpenRPC documents, by the patterns of the clients that see them; None for those that see all.
            A change removes them.
    """

    def __init__(self, own_procedures: Iterable[Procedure]) -> None:
        self.procedures = {procedure.name: procedure for procedure in own_procedures}
        self._own_names = frozenset(self.procedures)
        self._counted = dict(self.procedures)  # including the procedures that can no longer be called
        self.models: dict[str, ModelVersions] = {}
        self.services = Services(self.procedures, self._counted, self.models)
        self.routes: dict[str, Route] = {}
        self.workers: dict[bytes, Worker] = {}
        self.documents: dict[tuple[str, ...] | None, bytes] = {}

    # -- lookups --------------------------------------------------------------------------------------------------

    def objection(self, models: Sequence[ModelDescription]) -> str | None:
        """Return why a worker cannot host these models, for its log; None if it can."""
        owners: dict[str, tuple[str, Version | None, bool]] = {
            one.name: (one.owner, one.version, one.is_stream)
            for one in self._counted.values()
            if one.owner is not None and not one.is_method  # a method gives way
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
        """Return the procedures for introspection: the broker's own, each model's, unpinned names first, methods."""
        places = {name: place for place, name in enumerate(self.models)}
        of_services = {name: place for place, name in enumerate(self.services.by_name, start=len(places))}

        def place(procedure: Procedure) -> tuple[int, tuple[int, ...]]:
            if procedure.owner is None:
                return -1, ()
            return (of_services if procedure.is_method else places)[procedure.owner], procedure.version or ()

        return sorted((one for one in self.procedures.values() if not one.name.startswith("_")), key=place)

    def counted(self) -> Iterable[Procedure]:
        """Return every procedure that has counts, whether it can still be called or not."""
        return self._counted.values()

    def all_versions(self) -> Iterator[ModelVersion]:
        """Iterate over every version of every model."""
        for model in self.models.values():
            yield from model.versions.values()

    def all_pools(self) -> Iterator[WorkerPool]:
        """Iterate over the pools of all versions and all services."""
        return chain(chain.from_iterable(one.pools for one in self.all_versions()), self.services.all_pools())

    def hosted_by(self, worker: Worker) -> list[ModelVersions | Service]:
        """Return the models, or the service, of a worker."""
        if isinstance(worker, Server):
            return [self.services.by_name[worker.service]]
        return [self.models[name] for name in {pool.model.qualified_name for pool in worker.replicas}]

    def find(self, key: ModelKey) -> ModelVersion | None:
        """Return a version of a model; None if it was never hosted."""
        name, version = key
        model = self.models.get(name)
        return model.versions.get(version) if model is not None else None

    # -- changes --------------------------------------------------------------------------------------------------

    def add(self, identity: bytes, description: WorkerDescription, now_s: float) -> Worker:
        """Register a worker; `host` then adds each of its models."""
        worker = self.workers[identity] = Worker(identity, description, now_s)
        return worker

    def add_server(self, server: Server, methods: Sequence[Method], rules: ServerRules, now_s: float) -> None:
        """Register a stock server with methods to which there is no objection."""
        self.workers[server.identity] = server
        self.services.add(server, methods, rules, now_s)
        self.documents.clear()

    def reoffer_server(self, server: Server, methods: Sequence[Method], rules: ServerRules, now_s: float) -> None:
        """Offer other methods of a registered server. Its calls in flight continue."""
        for replica in list(server.replicas.values()):
            self.withdraw(replica, now_s)
        self.services.add(server, methods, rules, now_s)
        self.documents.clear()

    def forget_service(self, pool: WorkerPool) -> None:
        """Remove a pool of a service that has neither servers nor calls."""
        self.services.forget(pool)
        self.documents.clear()

    def remove(self, worker: Worker, now_s: float) -> None:
        """Remove a worker that has gone."""
        self.drain(worker, now_s)
        del self.workers[worker.identity]

    def host(self, worker: Worker, description: ModelDescription, now_s: float) -> None:
        """Add a model that `objection` accepts to a worker, or update it."""
        name, version = description.key
        model = self.models.get(name)
        if model is None:
            model = self.models[name] = ModelVersions(name)
        if not model.callable_versions:
            model.route = self.routes.get(name) or Route(version, {})
        hosted = model.versions.get(version)
        if hosted is None:
            hosted = model.versions[version] = ModelVersion(description, now_s)
        hosted.is_callable = True
        for pool in hosted.pools:
            pool.model = description
            self._offer(worker, pool, description)
        self._describe(model, hosted, description)
        self.reroute(model)

    @staticmethod
    def _offer(worker: Worker, pool: WorkerPool, description: ModelDescription) -> None:
        replica = worker.replicas.get(pool)
        if replica is not None:
            pool.resize(replica, description)
            return
        replica = worker.replicas[pool] = Replica(worker, pool, description)
        if worker.state == "ready":
            pool.offer(replica)
            pool.unserved_since_s = None

    def _describe(self, model: ModelVersions, hosted: ModelVersion, description: ModelDescription) -> None:
        """Take over the procedures of a version from a description, and add those that are new."""
        for described in description.procedures:
            for name, pinned_to in _names(description, described):
                self._describe_procedure(name, described, model, pinned_to, hosted)

    def _describe_procedure(
        self,
        name: str,
        described: ProcedureDescription,
        model: ModelVersions,
        version: Version | None,
        hosted: ModelVersion,
    ) -> None:
        procedure = self._counted.get(name)
        if procedure is None:
            procedure = self._counted[name] = Procedure(
                name,
                described.doc,
                described.args,
                owner=model.qualified_name,
                version=version,
                is_stream=described.is_stream,
            )
        pool = hosted.pool_of(procedure)
        target = procedure.targets.get(pool)
        if target is None:
            target = procedure.targets[pool] = Target(procedure, pool, described)
        target.describe(described)
        if version is None:
            model.procedures[name] = procedure
        else:
            procedure.set_targets([(target, 1)])
            self.procedures[name] = procedure
            hosted.pinned_names.add(name)
            hosted.counted_names.add(name)

    def route(self, name: str, route: Route) -> None:
        """Set the route of a model's calls that name no version."""
        self.routes[name] = route
        self.models[name].route = route
        self.reroute(self.models[name])

    def reroute(self, model: ModelVersions) -> None:
        """Set the targets of calls that name no version, after a change of the route or of a replica."""
        able = {procedure.name for procedure in model.reroute()}
        for name, procedure in model.procedures.items():
            if name in able:
                self.procedures[name] = procedure
            else:
                self.procedures.pop(name, None)
        self.documents.clear()

    def close(self, key: ModelKey) -> None:
        """Accept no more calls of a model version; waiting and running calls continue."""
        name, version = key
        model = self.models[name]
        hosted = model.versions[version]
        hosted.is_callable = False
        self._remove_pinned(hosted)
        self.reroute(model)

    def _remove_pinned(self, hosted: ModelVersion) -> None:
        for name in hosted.pinned_names:
            self.procedures.pop(name, None)
        hosted.pinned_names.clear()

    def forget(self, key: ModelKey) -> ModelVersion:
        """Remove a model version that has no workers, with its procedures and counts; return it.

        The counts of calls that named no version stay as long as the model has another version.
        """
        name, version = key
        model = self.models[name]
        hosted = model.versions.pop(version)
        for pinned in hosted.counted_names:
            self.procedures.pop(pinned, None)
            del self._counted[pinned]
        for procedure in list(model.procedures.values()):
            procedure.forget_target(hosted.pool_of(procedure))
            if not procedure.targets:
                del model.procedures[procedure.name]
                del self._counted[procedure.name]
                self.procedures.pop(procedure.name, None)
        if not model.versions:
            del self.models[name]
        self.reroute(model)
        self.services.freed += 1
        return hosted

    def drain(self, worker: Worker, now_s: float) -> None:
        """Offer the worker no more work; it keeps its calls in flight."""
        if worker.state == "draining":
            return
        worker.state = "draining"
        for replica in worker.replicas.values():
            self._withdraw_from_pool(replica, now_s)

    def withdraw(self, replica: Replica, now_s: float) -> None:
        """Remove a replica from its worker and its pool; a second call has no effect."""
        if replica.worker.replicas.get(replica.pool) is replica:
            del replica.worker.replicas[replica.pool]
        if replica in replica.pool.replicas:
            self._withdraw_from_pool(replica, now_s)

    def _withdraw_from_pool(self, replica: Replica, now_s: float) -> None:
        if isinstance(replica.worker, Server):
            self.services.withdraw(replica, now_s)
            self.documents.clear()
            return
        pool = replica.pool
        before = pool.model
        pool.withdraw(replica)
        if not pool.replicas:
            pool.unserved_since_s = now_s
            self.reroute(self.models[pool.model.qualified_name])
        elif pool.model != before or pool.model.procedures != replica.model.procedures:
            self._redescribe(pool)

    def repair(self, now_s: float) -> None:
        """Withdraw the replicas of workers that are gone or draining. For tables that may be wrong."""
        for pool in self.all_pools():
            pool.recount()
            for replica in list(pool.replicas):
                worker = replica.worker
                if worker.state != "ready" or self.workers.get(worker.identity) is not worker:
                    self._withdraw_from_pool(replica, now_s)
            if not pool.replicas and pool.unserved_since_s is None:
                pool.unserved_since_s = now_s
        for model in self.models.values():
            self.reroute(model)

    def _redescribe(self, pool: WorkerPool) -> None:
        """Take over what the remaining workers say about a version, and remove the procedures that none of them has."""
        model = self.models[pool.model.qualified_name]
        hosted = model.versions[pool.model.version]
        for other in hosted.pools:
            other.model = pool.model
        if hosted.is_callable:
            self._remove_pinned(hosted)
            for replica in pool.replicas:
                self._describe(model, hosted, replica.model)
            self.reroute(model)


def _names(model: ModelDescription, procedure: ProcedureDescription) -> tuple[tuple[str, Version | None], ...]:
    """Return the names by which clients call a procedure, with the version that each pins."""
    return (procedure.name, None), (model.pinned(procedure.name), model.version)
