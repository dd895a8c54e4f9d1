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
from broker.model import HostedVersion, Model, Route
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
        models: every model that a worker has hosted since the broker started, by qualified name.
        workers: the registered workers, by identity.
        document: what describes the service, packed; None after a change, until somebody asks for it.
    """

    def __init__(self, own_procedures: Iterable[Procedure]) -> None:
        self.procedures = {procedure.name: procedure for procedure in own_procedures}
        self._own_names = frozenset(self.procedures)
        self._counted = dict(self.procedures)  # and those that can be called no longer
        self.models: dict[str, Model] = {}
        self.routes: dict[str, Route] = {}
        self.workers: dict[bytes, Worker] = {}
        self.document: bytes | None = None

    def objection(self, models: Sequence[ModelDescription]) -> str | None:
        """Why a worker cannot host these, for its log; None if it can."""
        theirs: dict[str, tuple[object, ...]] = {}
        for model in models:
            for procedure in model.procedures:
                for name, version in _names(model, procedure):
                    if name in self._own_names or name.startswith("_") or name == UNKNOWN_METHOD:
                        return f"the procedure name {name!r} is the broker's own: rename the model"
                    known = self._counted.get(name)
                    owner = (known.model, known.version, known.is_stream) if known is not None else theirs.get(name)
                    theirs[name] = model.qualified_name, version, procedure.is_stream
                    if owner is not None and owner != theirs[name]:
                        return f"the procedure name {name!r} is another model's already: rename the model"
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

    def versions(self) -> Iterator[HostedVersion]:
        """Every version of every model that may be called, or has calls left."""
        for model in self.models.values():
            yield from model.versions.values()

    def all_services(self) -> Iterator[Service]:
        """The services of all of them."""
        return chain.from_iterable(one.services for one in self.versions())

    def find(self, key: ModelKey) -> HostedVersion | None:
        """A version of a model, if it was ever hosted."""
        name, version = key
        model = self.models.get(name)
        return model.versions.get(version) if model is not None else None

    def add(self, identity: bytes, description: WorkerDescription, now_s: float) -> Worker:
        """Register a worker; `host` says what it hosts."""
        worker = self.workers[identity] = Worker(identity, description, now_s)
        return worker

    def host(self, worker: Worker, described: ModelDescription, now_s: float) -> None:
        """A worker can be called for a model that `objection` has nothing against, from now on, or as it is now."""
        model = self.models.get(described.qualified_name)
        if model is None:
            route = self.routes.get(described.qualified_name) or Route(described.version, {})
            model = self.models[described.qualified_name] = Model(described.qualified_name, route)
        hosted = model.versions.get(described.version)
        if hosted is None:
            hosted = model.versions[described.version] = HostedVersion(described, now_s)
        hosted.is_callable = True
        for service in hosted.services:
            service.model = described
            self._offer(worker, service, described, now_s)
        for procedure in described.procedures:
            for name, version in _names(described, procedure):
                self._describe(name, procedure, model, version, hosted)
        self.reroute(model)

    def _offer(self, worker: Worker, service: Service, described: ModelDescription, now_s: float) -> None:
        hosting = Hosting(worker, service, described)
        for former in [one for one in worker.hostings if one.service is service]:
            if (former.capacity, former.max_batch_size) == (hosting.capacity, hosting.max_batch_size):
                return  # the same room, part of which may be taken
            self.withdraw(former, now_s)
        worker.hostings.append(hosting)
        if worker.state == "ready":
            service.offer(hosting)
            service.unserved_since_s = None

    def _describe(
        self, name: str, described: ProcedureDescription, model: Model, version: Version | None, hosted: HostedVersion
    ) -> None:
        procedure = self._counted.get(name)
        if procedure is None:
            procedure = self._counted[name] = Procedure(
                name,
                described.doc,
                described.args,
                model=model.qualified_name,
                version=version,
                is_stream=described.is_stream,
            )
        service = hosted.service_of(procedure)
        target = procedure.targets.get(service)
        if target is None:
            target = procedure.targets[service] = Target(procedure, service, described)
        target.describe(described)
        if version is None:
            model.procedures[name] = procedure
        else:
            procedure.send_to([(target, 1)])
            self.procedures[name] = procedure

    def route(self, name: str, route: Route) -> None:
        """Decide about a model's calls that name no version."""
        self.routes[name] = route
        self.models[name].route = route
        self.reroute(self.models[name])

    def reroute(self, model: Model) -> None:
        """Calls that name no version go where they belong now: after any change of who hosts what, and of the route."""
        able = {procedure.name for procedure in model.rerouted()}
        for name, procedure in model.procedures.items():
            if name in able:
                self.procedures[name] = procedure
            else:
                self.procedures.pop(name, None)
        self.document = None

    def close(self, key: ModelKey) -> HostedVersion:
        """A version of a model can be called no longer; what waits or runs goes on."""
        name, version = key
        model = self.models[name]
        hosted = model.versions[version]
        hosted.is_callable = False
        for procedure in hosted.description.procedures:
            self.procedures.pop(hosted.description.pinned(procedure.name), None)
        self.reroute(model)
        return hosted

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
            self.reroute(self.models[service.model.qualified_name])

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
