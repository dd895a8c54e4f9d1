"""What can be called, and which version of a model answers a call. Pure state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from broker.core.state.counters import OUTCOMES, SECONDS, from_zero
from cluster.histogram import Histogram
from cluster.wire import events

if TYPE_CHECKING:
    from broker.core.state.pool import WorkerPool
    from cluster.wire.protocol import ProcedureDescription, Version


class Target:
    """Where calls of a procedure may go: to one version of its model.

    Attributes:
        procedure: what is called.
        service: whose workers answer.
        described: the procedure, as the worker that hosts that version since last describes it.
        work_name: the procedure's name in WORK, which has the version in it.
        is_stream: whether it is answered with a stream.
        is_list: whether each call of it is a batch of its own.
        outcomes: how many calls that came here ended how.
        duration, queue_wait: of these, the first until their end, the second until a worker had them.
    """

    __slots__ = (
        "described",
        "duration",
        "is_list",
        "is_stream",
        "outcomes",
        "pool",
        "procedure",
        "queue_wait",
        "work_name",
    )

    def __init__(self, procedure: Procedure, pool: WorkerPool, described: ProcedureDescription) -> None:
        self.procedure = procedure
        self.pool = pool
        self.is_stream = pool.is_for_streams
        self.outcomes = Counter[str]()
        self.duration = Histogram(SECONDS)
        self.queue_wait = Histogram(SECONDS)
        self.describe(described)

    def describe(self, described: ProcedureDescription) -> None:
        """A worker describes the procedure anew."""
        self.described = described
        self.is_list = described.is_list
        self.work_name = self.pool.model.pinned(described.name).encode()


class WeightedRoundRobin:
    """Deals calls out to several targets by their weights, evenly mixed: smooth weighted round robin, as in nginx."""

    def __init__(self, weights: Iterable[tuple[Target, int]]) -> None:
        self._weights = [(target, weight) for target, weight in weights if weight > 0]
        self._total = sum(weight for _, weight in self._weights)
        self._due = [0] * len(self._weights)

    def next(self) -> Target:
        """Where the next call goes."""
        due = self._due
        for place, (_, weight) in enumerate(self._weights):
            due[place] += weight
        first = due.index(max(due))
        due[first] -= self._total
        return self._weights[first][0]


class Procedure:
    """Something callable, with what is counted about it.

    Attributes:
        name, doc, args: as introspection shows them.
        model: the qualified name of the model that it is of; None if the broker answers it itself.
        version: which version's it is; None if calls go to whichever is routed to.
        is_stream: whether it is answered with a stream.
        args_head: with which byte as many arguments begin.
        targets: where its calls may go, or could before.
        target: where they go now; None if the broker answers, or there is a split.
        split: deals them out, where they go to several versions.
        outcomes: how many calls of it that went to no target ended how.
    """

    __slots__ = (
        "args",
        "args_head",
        "doc",
        "is_stream",
        "model",
        "name",
        "outcomes",
        "split",
        "target",
        "targets",
        "version",
    )

    def __init__(
        self,
        name: str,
        doc: str,
        args: Iterable[str],
        *,
        model: str | None = None,
        version: Version | None = None,
        is_stream: bool = False,
    ) -> None:
        self.name = name
        self.model = model
        self.version = version
        self.is_stream = is_stream
        self.targets: dict[WorkerPool, Target] = {}
        self.target: Target | None = None
        self.split: WeightedRoundRobin | None = None
        self.outcomes = from_zero(*OUTCOMES) if model is not None else Counter[str]()
        self.describe(doc, args)

    def describe(self, doc: str, args: Iterable[str]) -> None:
        """What introspection shows, and how many arguments are taken."""
        self.doc = doc if self.version is None else f"{doc} Version {self.version}."
        self.args = list(args)
        self.args_head = events.encode_array_header(len(self.args))

    def next_target(self) -> Target | None:
        """Where the next call goes; None if the broker answers it itself."""
        return self.target if self.split is None else self.split.next()

    def send_to(self, weights: Sequence[tuple[Target, int]]) -> None:
        """Send calls to these targets from now on, so many to each."""
        first, _ = weights[0]
        self.target, self.split = (first, None) if len(weights) == 1 else (None, WeightedRoundRobin(weights))
        self.describe(first.described.doc, first.described.args)

    def all_outcomes(self) -> Counter[str]:
        """How many of its calls ended how, wherever they went."""
        total = Counter(self.outcomes)
        for target in self.targets.values():
            total.update(target.outcomes)
        return total
