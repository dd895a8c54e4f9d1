"""Who can answer what: workers, the models they host, and the procedures of the whole cluster. Pure state.

The catalogue is merged from the workers' own descriptions. What was registered once stays known when its workers
are gone, so that a call in a restart waits for a worker instead of being told that there is no such procedure; only
what is unloaded is forgotten, but for what was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from broker.counters import UNKNOWN_METHOD
from broker.family import HostedVersion, ModelFamily, Route
from broker.procedure import Procedure, Target
from broker.service import Batch, Hosting, Service, Worker
from cluster.protocol import ModelDescription, ModelKey, ProcedureDescription, Version, WorkerDescription

if TYPE_CHECKING:
    from broker.conversation import Conversation


class Catalogue:
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
        self.families: dict[str, ModelFamily] = {}
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
        places = {name: place for place, name in enumerate(self.families)}

        def place(procedure: Procedure) -> tuple[int, tuple[int, ...]]:
            return places[procedure.model] if procedure.model is not None else -1, procedure.version or ()

        return sorted((one for one in self.procedures.values() if not one.name.startswith("_")), key=place)

    def counted(self) -> Iterable[Procedure]:
        """Every procedure about which something was counted, whether it can still be called or not."""
        return self._counted.values()

    def all_versions(self) -> Iterator[HostedVersion]:
        """Every version of every model that was ever hosted."""
        for family in self.families.values():
            yield from family.versions.values()

    def all_services(self) -> Iterator[Service]:
        """The services of all of them."""
        return chain.from_iterable(one.services for one in self.all_versions())

    def find(self, key: ModelKey) -> HostedVersion | None:
        """A version of a model, if it was ever hosted."""
        name, version = key
        family = self.families.get(name)
        return family.versions.get(version) if family is not None else None

    def add(self, identity: bytes, description: WorkerDescription, now_s: float) -> Worker:
        """Register a worker; `host` says what it hosts."""
        worker = self.workers[identity] = Worker(identity, description, now_s)
        return worker

    def host(self, worker: Worker, model: ModelDescription, now_s: float) -> None:
        """A worker can be called for a model that `objection` has nothing against, from now on, or as it is now."""
        name, version = model.key
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = ModelFamily(name)
        if not family.callable_versions:
            family.route = self.routes.get(name) or Route(version, {})
        hosted = family.versions.get(version)
        if hosted is None:
            hosted = family.versions[version] = HostedVersion(model, now_s)
        hosted.is_callable = True
        for service in hosted.services:
            service.model = model
            self._offer(worker, service, model)
        for described in model.procedures:
            for procedure_name, pinned_to in _names(model, described):
                self._describe(procedure_name, described, family, pinned_to, hosted)
        self.reroute(family)

    @staticmethod
    def _offer(worker: Worker, service: Service, model: ModelDescription) -> None:
        for hosting in worker.hostings:
            if hosting.service is service:
                service.resize(hosting, model)
                return
        hosting = Hosting(worker, service, model)
        worker.hostings.append(hosting)
        if worker.state == "ready":
            service.offer(hosting)
            service.unserved_since_s = None

    def _describe(
        self,
        name: str,
        described: ProcedureDescription,
        family: ModelFamily,
        version: Version | None,
        hosted: HostedVersion,
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
        service = hosted.service_of(procedure)
        target = procedure.targets.get(service)
        if target is None:
            target = procedure.targets[service] = Target(procedure, service, described)
        target.describe(described)
        if version is None:
            family.procedures[name] = procedure
        else:
            procedure.send_to([(target, 1)])
            self.procedures[name] = procedure

    def route(self, name: str, route: Route) -> None:
        """Decide about a model's calls that name no version."""
        self.routes[name] = route
        self.families[name].route = route
        self.reroute(self.families[name])

    def reroute(self, family: ModelFamily) -> None:
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
        family = self.families[name]
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
        for hosting in worker.hostings:
            self._take_back(hosting, now_s)

    def withdraw(self, hosting: Hosting, now_s: float) -> None:
        """A worker hosts the calls or streams of a version of a model no longer; again, nothing happens."""
        if hosting in hosting.worker.hostings:
            hosting.worker.hostings.remove(hosting)
        if hosting in hosting.service.hostings:
            self._take_back(hosting, now_s)

    def _take_back(self, hosting: Hosting, now_s: float) -> None:
        service = hosting.service
        service.withdraw(hosting)
        if not service.hostings:
            service.unserved_since_s = now_s
            self.reroute(self.families[service.model.qualified_name])

    def is_needed(self, worker: Worker) -> bool:
        """Whether calls wait that only this worker, or others that want to leave as well, could answer."""
        return any(
            hosting.service.queue and all(other.worker.leaving_s is not None for other in hosting.service.hostings)
            for hosting in worker.hostings
        )

    def take(self, hosting: Hosting, room: int, calls: int, now_s: float) -> Batch:
        """Take room for a batch of so many calls."""
        hosting.asked_s = now_s
        hosting.service.change_room(hosting, -room)
        hosting.worker.dispatched += calls
        return Batch(hosting, room, calls)

    def release(self, conversation: Conversation) -> Service | None:
        """The worker has answered that call; return the service that has more room now, because its batch is done."""
        batch = conversation.batch
        assert batch is not None
        del batch.hosting.worker.in_flight[conversation.number]
        batch.unanswered -= 1
        if batch.unanswered:
            return None
        service = batch.hosting.service
        service.change_room(batch.hosting, batch.room)
        return service


def _names(model: ModelDescription, procedure: ProcedureDescription) -> tuple[tuple[str, Version | None], ...]:
    """The names by which clients call a procedure, with the version that each names."""
    return (procedure.name, None), (model.pinned(procedure.name), model.version)
