"""Loading: one model on its way to several workers. A state machine; `Loader` acts on its final states.

    FIRST_WORKER   one worker at a time tries the model, until one has loaded it
    OTHER_WORKERS  one worker has it; all others load it at once
    STOPPING       a worker has failed, or an administrator has cancelled; no worker gets a further order
    LOADED         final: the model becomes part of the plan
    FAILED         final: workers that did not host the model before unload it
    ABANDONED      final: every worker has left before it loaded the model; there is nothing to undo

One worker goes first because a model that cannot be loaded, or ends its process, then costs only one worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster.wire.protocol import ModelKey

if TYPE_CHECKING:
    from broker.core.deployment.orders import Orders
    from broker.core.deployment.unloading import Answer
    from broker.core.state.pool import Worker


class LoadState(Enum):
    """The state of a loading; see the module."""

    FIRST_WORKER = auto()
    OTHER_WORKERS = auto()
    STOPPING = auto()
    LOADED = auto()
    FAILED = auto()
    ABANDONED = auto()


class LoadEvent(Enum):
    """What changes the state of a loading."""

    WORKER_LOADED = auto()
    WORKER_FAILED = auto()
    NONE_LEFT = auto()
    """No order is awaited, and no further one will be sent."""


TRANSITIONS: dict[LoadState, dict[LoadEvent, LoadState]] = {
    LoadState.FIRST_WORKER: {
        LoadEvent.WORKER_LOADED: LoadState.OTHER_WORKERS,
        LoadEvent.WORKER_FAILED: LoadState.STOPPING,
        LoadEvent.NONE_LEFT: LoadState.ABANDONED,
    },
    LoadState.OTHER_WORKERS: {
        LoadEvent.WORKER_LOADED: LoadState.OTHER_WORKERS,
        LoadEvent.WORKER_FAILED: LoadState.STOPPING,
        LoadEvent.NONE_LEFT: LoadState.LOADED,
    },
    LoadState.STOPPING: {
        LoadEvent.WORKER_LOADED: LoadState.STOPPING,
        LoadEvent.WORKER_FAILED: LoadState.STOPPING,
        LoadEvent.NONE_LEFT: LoadState.FAILED,
    },
}
"""The next state for each event. A worker that leaves in good order is not an event: the loading goes on without it."""


class LoadTarget(NamedTuple):
    """A worker, and the configuration entry that it loads the model from."""

    worker: Worker
    entry: dict[str, Any]


class Loading:
    """One model on its way to workers, some of which may host it already and load it again.

    Attributes:
        description: what happens, for people.
        answer: takes the result.
        patterns: for workers that register later; None for a reload, which stays where the model is.
        state: where it stands.
        untried: the workers that have no order yet.
        awaited: the workers whose answer is awaited, by order number.
        loaded: the workers that have loaded the model.
        new: those of them that neither hosted the model before nor should have.
        key: the model version; None until a worker has loaded it.
        has_opened: whether the model version could not be called before a worker loaded it.
        failures: why workers have not loaded it, each with the worker's id.
    """

    def __init__(
        self,
        description: str,
        targets: Iterable[LoadTarget],
        patterns: Sequence[str] | None,
        answer: Answer,
    ) -> None:
        self.description = description
        self.answer = answer
        self.patterns = patterns
        self.state = LoadState.FIRST_WORKER
        self.untried = list(targets)
        self.awaited: dict[bytes, LoadTarget] = {}
        self.loaded: list[LoadTarget] = []
        self.new: list[Worker] = []
        self.key: ModelKey | None = None
        self.has_opened = False
        self.failures: list[str] = []

    def awaits(self, worker: Worker, number: bytes) -> bool:
        """Return whether a worker has not yet answered this order."""
        return number in self.awaited and self.awaited[number].worker is worker

    def advance(self, orders: Orders) -> LoadState:
        """Send the next orders if no answer is awaited, or end. Returns the state after that."""
        if self.awaited:
            return self.state
        if self.untried and self.state is not LoadState.STOPPING:
            count = 1 if self.state is LoadState.FIRST_WORKER else len(self.untried)
            for target in self.untried[:count]:
                self.awaited[orders.load(target.worker, target.entry)] = target
            del self.untried[:count]
        else:
            self._enter(LoadEvent.NONE_LEFT)
        return self.state

    # -- events ---------------------------------------------------------------------------------------------------

    def worker_loaded(self, number: bytes, key: ModelKey, *, is_new: bool) -> None:
        """The worker that has this order has loaded the model.

        Args:
            number: of the order.
            key: the model version that it has loaded.
            is_new: whether the worker neither hosted it before nor should have.
        """
        target = self.awaited.pop(number)
        self.loaded.append(target)
        self.key = key
        if is_new:
            self.new.append(target.worker)
        self._enter(LoadEvent.WORKER_LOADED)

    def worker_failed(self, number: bytes, reason: str) -> None:
        """The worker that has this order could not load the model."""
        self._fail(self.awaited.pop(number).worker, reason)

    def worker_lost(self, worker: Worker, *, died: bool) -> None:
        """A worker has gone; if it died while it loaded the model, the model may be the cause."""
        self.untried = [target for target in self.untried if target.worker is not worker]
        for number in [number for number, target in self.awaited.items() if target.worker is worker]:
            del self.awaited[number]
            if died:
                self._fail(worker, "it was lost while it loaded the model")

    def cancel(self) -> None:
        """An administrator waits no longer for the awaited answers."""
        for target in self.awaited.values():
            self._fail(target.worker, "the load was cancelled; restart the worker if it never ends")
        self.awaited.clear()
        self.untried.clear()

    def _fail(self, worker: Worker, reason: str) -> None:
        self.failures.append(f"{worker.description.id}: {reason}")
        self._enter(LoadEvent.WORKER_FAILED)

    def _enter(self, event: LoadEvent) -> None:
        self.state = TRANSITIONS[self.state][event]
