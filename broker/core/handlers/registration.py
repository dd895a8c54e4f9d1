"""READY: a worker registers with its models, some at each turn, so that many models delay no call."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from broker.core.deployment.deployment import Deployment
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.access import Access
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Worker
from broker.core.state.registry import Registry
from cluster.wire import protocol
from cluster.wire.descriptions import read_description
from cluster.wire.protocol import ModelDescription, WorkerDescription

MODELS_PER_TURN = 20
"""Models of one worker that are registered in one turn of the message loop; each takes some 50 microseconds."""

_MAX_REASON_LENGTH = 500
"""Longest reason in a BYE, in characters; it quotes the worker's own values."""


class Registrations:
    """Registers workers, and keeps the models that are left for the next turn.

    Args:
        registry: the workers and their models.
        scheduler: learns of new capacity.
        deployment: knows which models were unloaded.
        outbox: takes the messages to workers, and log lines.
        access: knows which models the workers of a key may host.
        drop: removes a worker that registers again: (worker, reason of the loss, monotonic seconds).

    Attributes:
        name_of: returns the name of a worker's key; empty if it has none.
    """

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        deployment: Deployment,
        outbox: Outbox,
        access: Access,
        drop: Callable[[Worker, str | None, float], None],
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._deployment = deployment
        self._outbox = outbox
        self._access = access
        self._drop = drop
        self.name_of: Callable[[bytes], str] = lambda _: ""
        self._left: dict[Worker, Iterator[ModelDescription]] = {}

    def ready(self, identity: bytes, parts: Sequence[bytes], now_s: float) -> None:
        """Register the worker that has sent READY, or refuse it with BYE and a reason."""
        worker = self._registry.workers.get(identity)
        try:
            description = read_description(bytes(parts[0]) if parts else b"")
        except protocol.ProtocolError as error:
            self._refuse(identity, worker, str(error), now_s)
            return
        if worker is not None and worker.description.id == description.id:
            self._outbox.to_worker(identity, protocol.WELCOME)  # it repeated READY before it had read the WELCOME
            return
        key_name = self.name_of(identity)
        names = (model.qualified_name for model in description.models)
        objection = self._access.hosting_objection(key_name, names) or self._registry.objection(description.models)
        if objection is not None:
            self._refuse(identity, worker, f"{description.id}: {objection}", now_s)
            return
        for former in [one for one in self._registry.workers.values() if one.description.id == description.id]:
            # Its connection broke before it had read the WELCOME.
            self._drop(former, counters.EVICTED, now_s)
        if worker is not None:
            self._drop(worker, counters.EVICTED, now_s)
        self._register(identity, description, key_name, now_s)

    def access_changed(self, now_s: float) -> None:
        """Refuse the workers that host what their keys may not host any more."""
        for worker in [one for one in self._registry.workers.values() if one.kind == "worker"]:
            described = {model.qualified_name for model in worker.description.models}  # some may not be hosted yet
            hosted = sorted(described.union(pool.model.qualified_name for pool in worker.replicas))
            objection = self._access.hosting_objection(worker.key_name, hosted)
            if objection is not None:
                self._refuse(worker.identity, worker, f"{worker.description.id}: {objection}", now_s)

    def _register(self, identity: bytes, description: WorkerDescription, key_name: str, now_s: float) -> None:
        worker = self._registry.add(identity, description, now_s)
        worker.key_name = key_name
        self._outbox.to_worker(identity, protocol.WELCOME)
        self._left[worker] = iter(description.models)
        self._host_some(worker, now_s)

    def _refuse(self, identity: bytes, worker: Worker | None, reason: str, now_s: float) -> None:
        if worker is not None:
            self._drop(worker, counters.EVICTED, now_s)
        self._outbox.to_worker(identity, protocol.BYE, reason[:_MAX_REASON_LENGTH].encode("utf-8", "replace"))
        self._outbox.note(f"a worker was refused: {reason[:_MAX_REASON_LENGTH]!a}", key=self.name_of(identity))

    # -- hosting --------------------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> bool:
        """Host some more models of each worker that has some left; return whether any are left after that."""
        for worker in list(self._left):
            self._host_some(worker, now_s)
        return bool(self._left)

    def worker_lost(self, worker: Worker) -> None:
        """A worker has gone, and with it the models that are left."""
        self._left.pop(worker, None)

    def _host_some(self, worker: Worker, now_s: float) -> None:
        some = list(islice(self._left[worker], MODELS_PER_TURN))
        for model in some:
            if not self._deployment.is_unloaded(model.key):
                self.host(worker, model, now_s)
        if len(some) == MODELS_PER_TURN:
            return
        del self._left[worker]
        self._deployment.worker_registered(worker)
        names = ", ".join(_name(pool.model) for pool in worker.replicas if not pool.is_for_streams)
        self._outbox.note(
            f"worker {worker.description.id} registered; it hosts {names or 'nothing'}", key=worker.key_name
        )

    def host(self, worker: Worker, model: ModelDescription, now_s: float) -> None:
        """Offer the calls of a model, which the worker has just registered or loaded, to the worker."""
        try:
            self._host(worker, model, now_s)
        except Exception:
            # Its other models may be left out, too. Its next message is answered with RESET, and it registers anew.
            self._drop(worker, counters.EVICTED, now_s)
            raise

    def _host(self, worker: Worker, model: ModelDescription, now_s: float) -> None:
        names = (name for procedure in model.procedures for name in (procedure.name, model.pinned(procedure.name)))
        for text in self._registry.services.yield_names(names):
            self._outbox.note(text)
        self._registry.host(worker, model, now_s)
        self._scheduler.reassign_waiting(self._registry.models[model.qualified_name])
        version = self._registry.find(model.key)
        assert version is not None
        for pool in version.pools:
            self._scheduler.mark_dirty(pool)


def _name(model: ModelDescription) -> str:
    return f"{model.qualified_name} {model.version}"
