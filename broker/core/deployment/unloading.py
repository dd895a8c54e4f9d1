"""Unloading: one model version leaves workers as soon as its calls have ended.

    DRAINING   the workers still have calls of the model, or calls wait for it
    UNLOADING  the workers have UNLOAD orders; their answers are awaited
    DONE       no worker hosts the model any more

A worker that registers with the model while it is unloaded everywhere takes the unloading back to DRAINING.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING

from broker.core.deployment import lookups
from broker.core.errors import ProcedureError
from cluster.wire.protocol import ModelKey

if TYPE_CHECKING:
    from broker.core.deployment.orders import Orders
    from broker.core.deployment.tracked_plan import TrackedPlan
    from broker.core.state.outbox import Outbox
    from broker.core.state.pool import Replica, Worker, WorkerPool
    from broker.core.state.registry import Registry

Answer = Callable[[object], None]
"""Takes the result of a change, or the `ProcedureError` that it ended with."""


class UnloadState(Enum):
    """The state of an unloading; see the module."""

    DRAINING = auto()
    UNLOADING = auto()
    DONE = auto()


class Unloading:
    """One model version on its way out.

    Attributes:
        key: the model version.
        is_everywhere: whether it leaves all workers, so that it can no longer be called.
        answer: takes the result.
        state: where it stands.
        replicas: its calls and streams on workers that have no UNLOAD order yet.
        awaited: the workers whose answer is awaited, by order number.
    """

    def __init__(self, key: ModelKey, replicas: Iterable[Replica], answer: Answer, *, is_everywhere: bool) -> None:
        self.key = key
        self.is_everywhere = is_everywhere
        self.answer = answer
        self.state = UnloadState.DRAINING
        self.replicas = list(replicas)
        self.awaited: dict[bytes, Worker] = {}

    @property
    def name(self) -> str:
        """The model version, for people."""
        return f"{self.key[0]} {self.key[1]}"

    def concerns(self, worker: Worker) -> bool:
        """Return whether the model leaves this worker."""
        if self.is_everywhere:
            return True
        return worker in self.awaited.values() or any(replica.worker is worker for replica in self.replicas)

    def worker_registered(self, replicas: Iterable[Replica]) -> None:
        """A worker has registered with the model: it may end the calls that still wait, then it unloads as well."""
        self.replicas += replicas
        self.state = UnloadState.DRAINING

    def worker_unloaded(self, worker: Worker, number: bytes) -> None:
        """A worker has carried its order out."""
        if self.awaited.get(number) is worker:
            del self.awaited[number]

    def worker_lost(self, worker: Worker) -> None:
        """A worker has gone, and the model with it."""
        self.replicas = [replica for replica in self.replicas if replica.worker is not worker]
        self.awaited = {number: other for number, other in self.awaited.items() if other is not worker}

    def has_calls(self) -> bool:
        """Return whether one of the replicas has calls or streams in flight."""
        return any(replica.free < replica.capacity for replica in self.replicas)

    def drained(self, orders: Orders) -> None:
        """The last call has ended: order the workers to unload. A worker that knows no orders just gets no calls."""
        for worker in {replica.worker: None for replica in self.replicas}:
            if worker.description.loads:
                self.awaited[orders.unload(worker, self.key)] = worker
        self.replicas = []
        self.state = UnloadState.UNLOADING

    def settle(self) -> None:
        """End if all workers have answered their orders."""
        if self.state is UnloadState.UNLOADING and not self.awaited:
            self.state = UnloadState.DONE


class Unloader:
    """Carries out all unloadings; several may run at once.

    Args:
        registry: the workers and their models.
        plan: the deployment plan.
        orders: sends the UNLOAD orders.
        outbox: takes the log lines.
        has_waiting: returns whether calls wait in the queue of a pool.
    """

    def __init__(
        self,
        registry: Registry,
        plan: TrackedPlan,
        orders: Orders,
        outbox: Outbox,
        has_waiting: Callable[[WorkerPool], bool],
    ) -> None:
        self._registry = registry
        self._plan = plan
        self._orders = orders
        self._outbox = outbox
        self._has_waiting = has_waiting
        self._unloadings: list[Unloading] = []

    @property
    def is_idle(self) -> bool:
        """Whether no model is being unloaded."""
        return not self._unloadings

    def is_unloading(self, key: ModelKey) -> bool:
        """Return whether a model version is leaving all workers."""
        return any(unloading.is_everywhere and unloading.key == key for unloading in self._unloadings)

    def has_unloaded(self, key: ModelKey) -> bool:
        """Return whether the plan names a model version as unloaded, and its last calls have ended."""
        return self._plan.is_unloaded(key) and not self.is_unloading(key)

    def is_unloading_from(self, worker: Worker, key: ModelKey) -> bool:
        """Return whether a model version is leaving a worker."""
        return any(unloading.key == key and unloading.concerns(worker) for unloading in self._unloadings)

    def refuse_if_unloading(self, key: ModelKey) -> None:
        """Refuse a second unload of a model version.

        Raises:
            ProcedureError: if the model version is leaving all workers.
        """
        if self.is_unloading(key):
            name, version = key
            raise ProcedureError("Busy", f"{name} {version} is already being unloaded")

    def unload_everywhere(self, key: ModelKey, answer: Answer) -> None:
        """Let no further call of a model version begin, and unload it from all workers.

        Args:
            key: the model version; it may be unknown to the registry.
            answer: takes the result.
        """
        replicas = lookups.all_replicas(self._registry, key)
        if self._registry.find(key) is not None:
            self._registry.close(key)
        self._start(Unloading(key, replicas, answer, is_everywhere=True))

    def unload_from(self, key: ModelKey, replicas: list[Replica], answer: Answer, now_s: float) -> None:
        """Unload a model version from some workers; the others go on serving it.

        Args:
            key: the model version.
            replicas: its calls and streams on those workers; they get no further call.
            answer: takes the result.
            now_s: monotonic seconds.
        """
        for replica in replicas:
            self._registry.withdraw(replica, now_s)
        self._start(Unloading(key, replicas, answer, is_everywhere=False))

    def _start(self, unloading: Unloading) -> None:
        self._unloadings.append(unloading)
        self._outbox.note(f"{unloading.name} is being unloaded")

    # -- events ---------------------------------------------------------------------------------------------------

    def worker_registered(self, worker: Worker, keys: Container[ModelKey]) -> None:
        """A worker has registered. It serves the calls that wait for a leaving model; no further call begins."""
        for unloading in self._unloadings:
            if unloading.is_everywhere and unloading.key in keys:
                self._registry.close(unloading.key)
                replicas = lookups.all_replicas(self._registry, unloading.key)
                unloading.worker_registered(replica for replica in replicas if replica.worker is worker)

    def worker_unloaded(self, worker: Worker, number: bytes) -> None:
        """A worker has unloaded a model."""
        for unloading in self._unloadings:
            unloading.worker_unloaded(worker, number)

    def worker_lost(self, worker: Worker) -> None:
        """A worker has gone."""
        for unloading in self._unloadings:
            unloading.worker_lost(worker)

    def advance(self, now_s: float) -> None:
        """Do the next step of each unloading that can go on."""
        for unloading in list(self._unloadings):
            self._advance(unloading, now_s)

    def _advance(self, unloading: Unloading, now_s: float) -> None:
        if unloading.has_calls() or self._has_queue(unloading):
            return
        if unloading.state is UnloadState.DRAINING:
            for replica in unloading.replicas:
                self._registry.withdraw(replica, now_s)
            unloading.drained(self._orders)
        unloading.settle()
        if unloading.state is UnloadState.DONE:
            self._unloadings.remove(unloading)
            name, version = unloading.key
            self._outbox.note(f"{unloading.name} was unloaded")
            unloading.answer({"model": name, "version": str(version)})

    def _has_queue(self, unloading: Unloading) -> bool:
        """Return whether calls wait that only the leaving workers can serve."""
        version = self._registry.find(unloading.key)
        if version is None or not unloading.is_everywhere:
            return False
        return any(self._has_waiting(pool) for pool in version.pools)
