"""Procedures: the names that clients call, where their calls may go, and what is counted about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from broker.core.state.counters import OUTCOMES, SECONDS, from_zero
from broker.core.state.pool import WorkerPool
from cluster.histogram import Histogram
from cluster.wire.arguments import encode_array_header
from cluster.wire.protocol import ProcedureDescription, Version


class Target:
    """A destination of a procedure's calls: one version of its model.

    Attributes:
        procedure: the procedure.
        pool: the workers that answer.
        described: the procedure's description, from the worker that registered the version last.
        work_name: the procedure's name in WORK, which names the version.
        is_stream: whether the procedure is answered with a stream.
        is_list: whether each call is a batch of its own.
        outcomes: calls that went to this target, by outcome.
        duration: seconds from a call's arrival to its end.
        queue_wait: seconds from a call's arrival to its dispatch.
        waiting: calls that wait in the queue of the pool.
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
        "waiting",
        "work_name",
    )

    def __init__(self, procedure: Procedure, pool: WorkerPool, described: ProcedureDescription) -> None:
        self.procedure = procedure
        self.pool = pool
        self.is_stream = pool.is_for_streams
        self.outcomes = Counter[str]()
        self.duration = Histogram(SECONDS)
        self.queue_wait = Histogram(SECONDS)
        self.waiting = 0
        self.describe(described)

    def describe(self, described: ProcedureDescription) -> None:
        """Take over a new description."""
        self.described = described
        self.is_list = described.is_list
        self.work_name = self.pool.model.pinned(described.name).encode()


class Split(Protocol):
    """Distributes calls over several targets."""

    @property
    def head(self) -> Target:
        """The target of the next call."""

    def advance(self) -> None:
        """Record that the head got its call."""


class MostRoom:
    """Sends each call to the target with the most room at one worker; if none has room, where the fewest calls wait."""

    __slots__ = ("_targets",)

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    @property
    def head(self) -> Target:
        """The target of the next call."""
        return max(self._targets, key=_room)

    def advance(self) -> None:
        """Take note of nothing: the pools know what room is left."""


def _room(target: Target) -> tuple[int, float]:
    return target.pool.most_free, -target.waiting / (len(target.pool.replicas) or 1)


class WeightedRoundRobin:
    """Distributes calls over targets by weight, evenly interleaved: smooth weighted round robin, as in nginx.

    Attributes:
        head: the target of the next call, until `advance` has been called.
    """

    __slots__ = ("_credits", "_total", "_weights", "head")

    def __init__(self, weights: Iterable[tuple[Target, int]]) -> None:
        self._weights = [(target, weight) for target, weight in weights if weight > 0]
        self._total = sum(weight for _, weight in self._weights)
        self._credits = [0] * len(self._weights)
        self.advance()

    def advance(self) -> None:
        """Record that the head got its call, and choose the next."""
        credits_ = self._credits
        for place, (_, weight) in enumerate(self._weights):
            credits_[place] += weight
        first = credits_.index(max(credits_))
        credits_[first] -= self._total
        self.head = self._weights[first][0]


class Procedure:
    """A procedure, with its counts.

    Attributes:
        name, doc, args: as introspection shows them.
        owner: qualified name of its model, or name of its service; None if the broker answers the procedure itself.
        is_method: whether it is a method of a service, which stock ZeroRPC servers answer.
        may_retry: whether a call of a method may be made again at another server when its server has died.
        version: the version that the name pins; None if calls follow the model's route.
        is_stream: whether the procedure is answered with a stream.
        args_head: first msgpack byte of an argument list of the right length.
        targets: every target that its calls may go to, or could before.
        target: the target of all its calls; None if the broker answers, or if `split` decides.
        split: distributes the calls over several targets; None if there is only one.
        outcomes: calls that went to no target, or to a target that is forgotten, by outcome.
        former: the durations and queue waits of forgotten targets; None if there are none.
    """

    __slots__ = (
        "args",
        "args_head",
        "doc",
        "former",
        "is_method",
        "is_stream",
        "may_retry",
        "name",
        "outcomes",
        "owner",
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
        owner: str | None = None,
        version: Version | None = None,
        is_stream: bool = False,
        is_method: bool = False,
        may_retry: bool = False,
    ) -> None:
        self.name = name
        self.owner = owner
        self.version = version
        self.is_stream = is_stream
        self.is_method = is_method
        self.may_retry = may_retry
        self.targets: dict[WorkerPool, Target] = {}
        self.target: Target | None = None
        self.split: Split | None = None
        self.outcomes = from_zero(*OUTCOMES) if owner is not None else Counter[str]()
        self.former: tuple[Histogram, Histogram] | None = None
        self.describe(doc, args)

    def describe(self, doc: str, args: Iterable[str]) -> None:
        """Set the docstring and the parameters."""
        self.doc = doc if self.version is None else f"{doc} Version {self.version}."
        self.args = list(args)
        self.args_head = encode_array_header(len(self.args))

    def next_target(self) -> Target | None:
        """Return the target of the next call; None if the broker answers the call itself."""
        return self.target if self.split is None else self.split.head

    def set_targets(self, weights: Sequence[tuple[Target, int]]) -> None:
        """Send the calls to these targets from now on, by weight."""
        first, _ = weights[0]
        self.target, self.split = (first, None) if len(weights) == 1 else (None, WeightedRoundRobin(weights))
        self.describe(first.described.doc, first.described.args)

    def follow_room(self, targets: Sequence[Target]) -> None:
        """Send each call to that of these targets which has the most room."""
        first = targets[0]
        self.target, self.split = (first, None) if len(targets) == 1 else (None, MostRoom(targets))
        self.describe(first.described.doc, first.described.args)

    def forget_target(self, pool: WorkerPool) -> None:
        """Remove a target. Its counts stay with the procedure; call `set_targets` before the next call."""
        target = self.targets.pop(pool, None)
        if target is None:
            return
        self.outcomes.update(target.outcomes)
        if self.former is None:
            self.former = Histogram(SECONDS), Histogram(SECONDS)
        self.former[0].add(target.duration)
        self.former[1].add(target.queue_wait)
        self.target = self.split = None

    def all_outcomes(self) -> Counter[str]:
        """Return all its calls by outcome, wherever they went."""
        total = Counter(self.outcomes)
        for target in self.targets.values():
            total.update(target.outcomes)
        return total
