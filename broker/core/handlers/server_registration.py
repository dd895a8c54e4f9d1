"""The registration of stock servers: which of a server's methods can be called, and when a service is forgotten."""

from collections.abc import Callable

from broker.core.handlers.introductions import Introduction, Introductions
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.access import Access
from broker.core.state.call_table import CallTable
from broker.core.state.conversations import Conversations
from broker.core.state.outbox import Outbox
from broker.core.state.pool import WorkerPool
from broker.core.state.registry import Registry
from broker.core.state.services import MAX_METHODS, Method, Server, ServerRules, names_of

_MOST_NOTES = 5
"""Methods of one server that the log names; the rest is only counted."""

_UPKEEP_INTERVAL_S = 0.25
"""Seconds between two looks at the waiting calls, at forgotten services and at servers that were refused."""

_MOST_FORGOTTEN = 5
"""Sets of methods that one look forgets: each may have thousands of methods."""


class ServerRegistrations:
    """Registers the stock servers that connect.

    Attributes:
        address_of: returns where the server of an identity connects from.
        name_of: returns the name of its key; empty if it has none.
        introductions: what the servers are asked.
    """

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        conversations: Conversations,
        outbox: Outbox,
        access: Access,
        rules: ServerRules,
    ) -> None:
        self.address_of: Callable[[bytes], str] = lambda _: ""
        self.name_of: Callable[[bytes], str] = lambda _: ""
        self.introductions = Introductions(conversations, outbox, self._introduced)
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._outbox = outbox
        self._access = access
        self._rules = rules
        self._connected: set[bytes] = set()  # the identities of all stock servers, those that are refused too
        # What each server has said, and `Services.freed` when that was considered last.
        self._introduced_by: dict[bytes, tuple[Introduction, int]] = {}
        self._registered = 0
        self._upkeep_s = float("-inf")

    # -- servers that come and go ---------------------------------------------------------------------------------

    def joined(self, identity: bytes, now_s: float) -> None:
        """Ask a stock server that has connected for its methods. It waits for the broker to speak first."""
        self._connected.add(identity)
        self.introductions.begin(identity, now_s)

    def is_server(self, identity: bytes) -> bool:
        """Whether the peer of an identity is a stock server."""
        return identity in self._connected

    def server(self, identity: bytes) -> Server | None:
        """Return the registered server of an identity."""
        server = self._registry.workers.get(identity)
        return server if isinstance(server, Server) else None

    def lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """Forget a server whose connection is gone, and end or retry its calls. A second call has no effect.

        Args:
            identity: the server's.
            reason: why the connection is gone: `counters.EXIT` or `counters.HEARTBEAT`.
            now_s: monotonic seconds.
        """
        self._connected.discard(identity)
        self._introduced_by.pop(identity, None)
        self.introductions.lost(identity)
        server = self.server(identity)
        if server is not None:
            self._scheduler.drop_worker(server, reason, now_s)

    def access_changed(self, now_s: float) -> None:
        """Refuse the servers whose service their keys may not offer any more; ask those again that were refused."""
        for identity in list(self._connected):
            server = self.server(identity)
            if server is None:
                self.introductions.begin(identity, now_s)
            elif (objection := self._access.hosting_objection(server.key_name, [server.service])) is not None:
                self._scheduler.drop_worker(server, counters.EVICTED, now_s)
                self._introduced_by.pop(identity, None)
                self._note_refusal(identity, objection)

    # -- what a server may offer ----------------------------------------------------------------------------------

    def _introduced(self, one: Introduction, now_s: float) -> None:
        """Register a server that has described itself, or offer more of its methods, unless it must not be."""
        objection = one.objection
        if not objection:
            assert one.service is not None
            objection = self._access.hosting_objection(self.name_of(one.identity), [one.service]) or ""
        if objection:
            self._introduced_by.pop(one.identity, None)
            self._note_refusal(one.identity, objection)
            return
        assert one.service is not None
        service = one.service
        methods = one.methods()
        objections = {method.name: self._registry.services.objection(service, method.name) for method in methods}
        usable = [method for method in methods if objections[method.name] is None]
        has_room = bool(usable) and self._make_room(service, usable, now_s)
        is_known = one.identity in self._introduced_by
        server = self.server(one.identity)
        if has_room and (server is None or _names(usable) != _offered(server)):
            self._register(one.identity, service, usable, now_s)
        elif server is None and not is_known and not usable:
            self._note_refusal(one.identity, f"service {service!r} has no method that can be called")
        elif server is None and not is_known:
            self._note_refusal(one.identity, f"the services have {MAX_METHODS} methods already")
        if not is_known:
            self._note_objections(service, [text for text in objections.values() if text], one.unusable)
        self._introduced_by[one.identity] = one, self._registry.services.freed

    def _make_room(self, service: str, methods: list[Method], now_s: float) -> bool:
        """Whether a server's methods fit, if others are forgotten that have been without a server for long."""
        services = self._registry.services
        missing = services.missing_room(service, methods)
        if missing <= 0:
            return True
        pools = []
        for pool in services.dispensable(now_s):
            if missing > 0 and self._is_idle(pool):
                pools.append(pool)
                missing -= len(pool.model.procedures)
        if missing > 0:
            return False
        for pool in pools:
            self._forget(pool)
        return True

    def _register(self, identity: bytes, service: str, usable: list[Method], now_s: float) -> None:
        server = self.server(identity)
        if server is None:
            self._registered += 1
            server = Server(identity, f"{service}-{self._registered}", service, self.address_of(identity), now_s)
            server.key_name = self.name_of(identity)
            self._registry.add_server(server, usable, self._rules, now_s)
        else:
            self._registry.reoffer_server(server, usable, self._rules, now_s)
            for replica in server.replicas.values():
                self._calls.move(replica)
        for pool in self._registry.services.by_name[service].all_pools:
            self._scheduler.mark_dirty(pool)
        self._scheduler.reassign_waiting(self._registry.services.by_name[service])
        names = ", ".join(method.name for method in usable[:_MOST_NOTES])
        self._outbox.note(
            f"server {server.description.id} registered from {server.description.host or 'this machine'}; "
            f"methods: {names}{f' and {more} more' if (more := len(usable) - _MOST_NOTES) > 0 else ''}",
            key=server.key_name,
        )

    def _note_objections(self, service: str, objections: list[str], unusable: int) -> None:
        for objection in objections[:_MOST_NOTES]:
            self._outbox.note(f"a method of service {service!r} cannot be called: {objection}")
        if len(objections) > _MOST_NOTES:
            self._outbox.note(f"{len(objections) - _MOST_NOTES} more methods of service {service!r} cannot be called")
        if unusable:
            self._outbox.note(f"{unusable} methods of service {service!r} cannot be called because of their names")

    def _note_refusal(self, identity: bytes, reason: str) -> None:
        where = self.address_of(identity)
        self._outbox.note(
            f"a ZeroRPC server{f' at {where}' if where else ''} was refused: {reason}", key=self.name_of(identity)
        )

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Ask servers again, balance services whose servers differ, and forget services without servers."""
        self.introductions.check(now_s)
        if now_s - self._upkeep_s < _UPKEEP_INTERVAL_S:
            return
        self._upkeep_s = now_s
        services = self._registry.services
        for service in services.by_name.values():
            if len(service.pools) > 1:
                self._scheduler.rebalance(service)
        forgettable = (pool for pool in services.forgettable(now_s) if self._is_idle(pool))
        for _, pool in zip(range(_MOST_FORGOTTEN), forgettable, strict=False):
            self._forget(pool)
        for one, freed in list(self._introduced_by.values()):
            if services.freed != freed:
                self._introduced(one, now_s)

    def _is_idle(self, pool: WorkerPool) -> bool:
        return not self._calls.queues[pool] and not pool.stream_bytes

    def _forget(self, pool: WorkerPool) -> None:
        self._registry.forget_service(pool)
        self._calls.queues.pop(pool, None)
        self._calls.shares.pop(pool, None)


def _names(methods: list[Method]) -> frozenset[str]:
    return frozenset(method.name for method in methods)


def _offered(server: Server) -> frozenset[str]:
    """Return the methods of a registered server that can be called."""
    return frozenset[str]().union(*map(names_of, server.replicas))
