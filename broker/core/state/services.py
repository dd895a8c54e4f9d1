"""Services: what stock ZeroRPC servers offer. A service is all servers of one name; its methods are procedures.

Servers of one name mostly have the same methods, and form one pool. During an upgrade, some may have methods that the
others lack: each set of methods then has a pool of its own, and a call goes to a pool that has its method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.core.state.access import Patterns
from broker.core.state.counters import UNKNOWN_METHOD
from broker.core.state.pool import Replica, Worker, WorkerPool
from broker.core.state.procedures import Procedure, Target
from cluster.wire import protocol
from cluster.wire.protocol import ModelDescription, ProcedureDescription, WorkerDescription

MAX_METHODS = 20_000
"""Most methods of all sets of methods, with those whose servers have gone: each takes memory."""

FORGET_AFTER_S = 3600.0
"""How long a set of methods must be without a server before the broker forgets it, in seconds."""

REPLACED_AFTER_S = 60.0
"""The same for a set of methods whose service has servers with all of them; and the least time before it makes room."""

GIVES_WAY = ("get_models", "get_model_metadata")
"""Procedures of the broker's own that a service may have in their place while the broker knows no model."""

_NEVER_S = float("-inf")


@dataclass(frozen=True)
class ServerRules:
    """What holds for every stock server.

    Attributes:
        calls: most calls that one server may have at one time.
        timeout_s: how long a call may run, in seconds; of a stream, how long it may take to its next item.
        retry: methods whose calls may be made again, once, when their server has died.
    """

    calls: int = 100
    timeout_s: float = 300.0
    retry: Patterns = field(default_factory=lambda: Patterns(()))


class Method(NamedTuple):
    """A method as its server describes it."""

    name: str
    doc: str
    args: list[str]


class Server(Worker):
    """A stock ZeroRPC server that has connected to the broker.

    Attributes:
        service: the name of its service.
        pinged_s: monotonic time of the last question to it whether its loop turns.
        is_pinged: whether it has not answered that yet.
        pong_s: monotonic time of its last answer.
        turns_since_s: monotonic time since which it has answered in time.
        patience_s: how long its heartbeats for a call may be missing, in seconds; None before its first heartbeat.
    """

    kind = "server"

    __slots__ = ("is_pinged", "is_quiet", "patience_s", "pinged_s", "pong_s", "service", "turns_since_s")

    def __init__(self, identity: bytes, worker_id: str, service: str, address: str, now_s: float) -> None:
        super().__init__(identity, WorkerDescription(protocol.VERSION, worker_id, address, 0), now_s)
        self.service = service
        self.is_quiet = self.is_pinged = False
        self.patience_s: float | None = None
        self.pinged_s = self.pong_s = self.turns_since_s = _NEVER_S

    @property
    def label(self) -> str:
        """Its name in the metrics. It says nothing of its process, so each of its connections has a name of its own."""
        return self.description.id


class Service:
    """All servers of one name.

    Attributes:
        name: the name.
        pools: the servers, by the names of their methods.
        methods: the procedures that they answer, by name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pools: dict[frozenset[str], WorkerPool] = {}
        self.methods: dict[str, Procedure] = {}

    @property
    def all_pools(self) -> Collection[WorkerPool]:
        """Every pool."""
        return self.pools.values()

    @property
    def is_served(self) -> bool:
        """Whether it has a server."""
        return any(pool.replicas for pool in self.pools.values())

    def is_replaced(self, pool: WorkerPool) -> bool:
        """Whether servers of other pools have all methods of a pool."""
        mine = names_of(pool)
        return any(other.replicas and other is not pool and mine <= names for names, other in self.pools.items())

    def other_target(self, target: Target) -> Target | None:
        """Return where a call should wait that waits at a target without servers; None if it should stay."""
        able = [one for one in target.procedure.targets.values() if one.pool.replicas]
        return max(able, key=_most_free) if able else None

    def follow_room(self, names: Iterable[str]) -> None:
        """Send the calls of these methods to the servers that have them, after a change of the servers.

        Without any, calls wait where the last server was, which may come back.
        """
        for method in (self.methods[name] for name in names if name in self.methods):
            able = [target for target in method.targets.values() if target.pool.replicas]
            method.follow_room(able or [max(method.targets.values(), key=_unserved_since_s)])


class Services:
    """The services of a broker. It shares the tables of procedures with the registry.

    Attributes:
        by_name: every service that has a server, or had one lately.
        freed: grows whenever a name becomes free that a server could not have before.
    """

    def __init__(
        self, procedures: dict[str, Procedure], counted: dict[str, Procedure], models: Collection[object]
    ) -> None:
        """Build without services.

        Args:
            procedures: every procedure that can be called, by name: now the broker's own.
            counted: every procedure that has counts, by name.
            models: the models that the broker knows.
        """
        self.by_name: dict[str, Service] = {}
        self._procedures = procedures
        self._counted = counted
        self._models = models
        self._own = dict(procedures)
        self.freed = 0

    # -- lookups --------------------------------------------------------------------------------------------------

    def all_pools(self) -> Iterator[WorkerPool]:
        """Iterate over the pools of all services."""
        for service in self.by_name.values():
            yield from service.all_pools

    def objection(self, service: str, method: str) -> str | None:
        """Return why a method of a service cannot be called through the broker; None if it can."""
        other = self._counted.get(method)
        if method == UNKNOWN_METHOD:
            return f"{method!r} is the name under which the broker counts calls of unknown procedures"
        if other is None or (other.is_method and other.owner == service):
            return None
        if other.is_method and other.owner is not None and not self.by_name[other.owner].is_served:
            return None  # it gives way, for instance when a class has got another name
        if other.owner is None:
            may_have_it = method in GIVES_WAY and not self._models
            return None if may_have_it else f"the procedure {method!r} is the broker's own"
        return (
            f"the procedure {method!r} is already that of {'service' if other.is_method else 'model'} {other.owner!r}"
        )

    def missing_room(self, service: str, methods: Sequence[Method]) -> int:
        """Return by how much these methods of one server go beyond `MAX_METHODS`; 0 or less if they fit."""
        known = self.by_name[service].pools if service in self.by_name else {}
        if frozenset(method.name for method in methods) in known:
            return 0
        return len(methods) + sum(len(names) for one in self.by_name.values() for names in one.pools) - MAX_METHODS

    # -- changes --------------------------------------------------------------------------------------------------

    def add(self, server: Server, methods: Sequence[Method], rules: ServerRules, now_s: float) -> None:
        """Offer the calls of some methods, to which there is no objection, to a server."""
        service = self.by_name.setdefault(server.service, Service(server.service))
        described = _as_model(service.name, methods, rules)
        names = frozenset(method.name for method in methods)
        pool = service.pools.get(names)
        if pool is None:
            pool = service.pools[names] = WorkerPool(described, now_s, is_for_streams=True)
        if pool.model != described:
            pool.model = described
        for one in pool.model.procedures:
            self._describe(service, pool, one, rules)
        replica = server.replicas[pool] = Replica(server, pool, pool.model)
        pool.offer(replica)
        pool.unserved_since_s = None
        service.follow_room(names)

    def _describe(self, service: Service, pool: WorkerPool, one: ProcedureDescription, rules: ServerRules) -> None:
        method = service.methods.get(one.name)
        if method is None:
            other = self._counted.get(one.name)
            if other is not None and other.owner is not None:
                self._remove(self.by_name[other.owner], one.name)
            method = service.methods[one.name] = self._procedures[one.name] = self._counted[one.name] = Procedure(
                one.name, one.doc, one.args, owner=service.name, is_method=True, may_retry=rules.retry.match(one.name)
            )
        if pool in method.targets:
            method.targets[pool].describe(one)
        else:
            method.targets[pool] = Target(method, pool, one)

    def withdraw(self, replica: Replica, now_s: float) -> None:
        """Offer a server no more calls."""
        pool = replica.pool
        pool.withdraw(replica)
        service = self.by_name[pool.model.qualified_name]
        if not pool.replicas:
            pool.unserved_since_s = now_s
            self.freed += not service.is_served
        service.follow_room(names_of(pool))

    def forgettable(self, now_s: float) -> list[WorkerPool]:
        """Return the pools that have been without a server for long enough."""
        return [
            pool
            for service in self.by_name.values()
            for pool in service.all_pools
            if pool.unserved_since_s is not None
            and now_s - pool.unserved_since_s >= (REPLACED_AFTER_S if service.is_replaced(pool) else FORGET_AFTER_S)
        ]

    def dispensable(self, now_s: float) -> list[WorkerPool]:
        """Return the pools that may make room for others, those that have been without a server for longest first."""
        unserved = (pool for pool in self.all_pools() if not pool.replicas)
        return sorted(
            (pool for pool in unserved if now_s - _pool_unserved_since_s(pool) >= REPLACED_AFTER_S),
            key=_pool_unserved_since_s,
        )

    def forget(self, pool: WorkerPool) -> None:
        """Remove a pool without servers and calls, and the methods that no other pool has, with their counts."""
        service = self.by_name[pool.model.qualified_name]
        names = names_of(pool)
        del service.pools[names]
        for method in [service.methods[name] for name in names if name in service.methods]:
            if pool in method.targets:
                method.forget_target(pool)
            if not method.targets:
                self._remove(service, method.name)
        if service.pools:
            service.follow_room(names)
        else:
            del self.by_name[service.name]

    def yield_names(self, names: Iterable[str]) -> list[str]:
        """Give up the names of a model's procedures and those of the broker's own; return what for the log.

        Calls that are open continue.
        """
        given_up = []
        for name in (*names, *GIVES_WAY):
            method = self._counted.get(name)
            if method is not None and method.is_method:
                assert method.owner is not None
                self._remove(self.by_name[method.owner], name)
                whose = "the broker's own" if name in self._own else "a model's"
                given_up.append(f"the method {name!r} of service {method.owner!r} gives way to {whose} procedure")
        return given_up

    def _remove(self, service: Service, name: str) -> None:
        """Remove a method with its counts; a procedure of the broker's own takes its name back."""
        self.freed += 1
        del service.methods[name], self._procedures[name], self._counted[name]
        if name in self._own:
            self._procedures[name] = self._counted[name] = self._own[name]


def _as_model(service: str, methods: Sequence[Method], rules: ServerRules) -> ModelDescription:
    """Describe a service in the form in which pools and replicas read what a worker hosts."""
    return ModelDescription(
        display_name=service,
        qualified_name=service,
        description="",
        major_version=0,
        minor_version=0,
        input_schema={},
        output_schema={},
        retry=False,
        timeout_s=rules.timeout_s,
        max_streams=rules.calls,
        procedures=[ProcedureDescription(method.name, method.doc, method.args) for method in methods],
    )


def names_of(pool: WorkerPool) -> frozenset[str]:
    """Return the names of the methods of a pool's servers."""
    return frozenset(one.name for one in pool.model.procedures)


def _most_free(target: Target) -> int:
    return target.pool.most_free


def _unserved_since_s(target: Target) -> float:
    return _pool_unserved_since_s(target.pool)


def _pool_unserved_since_s(pool: WorkerPool) -> float:
    return _NEVER_S if pool.unserved_since_s is None else pool.unserved_since_s
