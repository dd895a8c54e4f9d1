"""Silent servers: which stock server is blocked, and which call a server has dropped without a word.

ZeroMQ's heartbeats, which libzmq answers in a thread of its own, tell whether the process of a server lives. ZeroRPC's
heartbeats stop as well when the loop of a server is blocked, for instance by a long computation, and its calls are then
still answered. But a server also drops a call by itself if it took the broker for lost (zerorpc-python,
`HeartBeatOnChannel`) or could not decode it, and tells nobody. So the broker asks a server that says nothing whether
its loop turns, and only a call whose heartbeats stay out although it does is given up.
"""

from collections.abc import Callable

from broker.core.scheduling.scheduler import Scheduler
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.registry import Registry
from broker.core.state.services import Server, ServerRules

PING_AFTER_S = 1.0
"""A server that has calls and says nothing, or nothing about one of them, is asked after this long, and then again, in
seconds."""

PING_AGAIN_S = 60.0
"""A server that does not answer is asked again after this long, in seconds."""

QUIET_S = 0.5
"""A server that has not answered for this long, in seconds, is blocked. It gets further calls only if all are."""

LEAST_PATIENCE_S = 15.0
"""A server's heartbeats for a call may be missing for at least this long, in seconds: three of its default interval."""

MISSED_HEARTBEATS = 3
"""Heartbeats of a server that may be missing in a row. Only past intervals show how often it sends them."""

GRACE_S = 1.0
"""How long the loop of a server must have turned while a heartbeat was overdue, in seconds."""

CHECK_INTERVAL_S = 0.25
"""Seconds between two checks of all servers."""


class Silence:
    """Watches the servers that have calls."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        rules: ServerRules,
        ping: Callable[[bytes], None],
    ) -> None:
        """Build.

        Args:
            registry: the servers.
            calls: their calls.
            scheduler: retries the calls that are given up, or ends them.
            rules: how long a call may run.
            ping: asks the server of an identity whether its loop turns.
        """
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._rules = rules
        self._ping = ping
        self._checked_s = float("-inf")

    def on_event(self, server: Server, now_s: float) -> None:
        """Take note that a server has said something."""
        server.last_received_s = now_s
        server.is_quiet = False

    def on_pong(self, server: Server, now_s: float) -> None:
        """Take note that a server has answered whether its loop turns."""
        if now_s - server.pinged_s > QUIET_S:
            server.turns_since_s = now_s
        server.is_pinged = False
        server.pong_s = now_s

    def on_heartbeat(self, server: Server, call: Call, now_s: float) -> None:
        """Take note of a server's heartbeat for a call; the time between two of them shows how often it sends some."""
        batch = call.batch
        assert batch is not None
        if server.turns_since_s <= batch.beat_s:  # else the server was blocked, and the heartbeat is late
            interval_s = now_s - batch.beat_s
            server.patience_s = max(server.patience_s or LEAST_PATIENCE_S, MISSED_HEARTBEATS * interval_s)
        batch.beat_s = batch.heard_s = now_s

    def check_if_due(self, now_s: float) -> None:
        """Ask the servers that say nothing, and give up the calls that their servers have dropped."""
        if now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        for server in [one for one in self._registry.workers.values() if isinstance(one, Server)]:
            self._check(server, now_s)

    def _check(self, server: Server, now_s: float) -> None:
        if server.is_pinged and now_s - server.pinged_s > QUIET_S:
            server.is_quiet = server.last_received_s < server.pinged_s
        if not server.in_flight:
            return
        overdue = [one for one in self._calls.in_flight[server].values() if self._overdue_since_s(one, server) < now_s]
        if self._should_ask(server, now_s, is_overdue=bool(overdue)):
            server.is_pinged = True
            server.pinged_s = now_s
            self._ping(server.identity)
        for call in overdue:
            if self._is_dropped(call, server):
                self._scheduler.give_up(call, now_s)

    @staticmethod
    def _should_ask(server: Server, now_s: float, *, is_overdue: bool) -> bool:
        if server.is_pinged:
            return now_s - server.pinged_s >= PING_AGAIN_S
        said_s = float("-inf") if is_overdue else server.last_received_s
        return now_s - max(said_s, server.pinged_s) >= PING_AFTER_S

    def _is_dropped(self, call: Call, server: Server) -> bool:
        """Whether the server's loop has turned while a heartbeat for the call was overdue, and none came."""
        overdue_since_s = self._overdue_since_s(call, server)
        return server.pong_s - max(overdue_since_s, server.turns_since_s) > GRACE_S

    def _overdue_since_s(self, call: Call, server: Server) -> float:
        assert call.batch is not None
        return call.batch.heard_s + self._patience_s(call, server)

    def _patience_s(self, call: Call, server: Server) -> float:
        """Return how long the server may say nothing about a call, in seconds.

        A server that has never sent a heartbeat may send none at all. Nobody waits for a call that is over, so its
        capacity counts for more.
        """
        patience_s = float("inf") if server.patience_s is None else server.patience_s
        return patience_s if call.is_with_worker else min(patience_s, self._rules.timeout_s + LEAST_PATIENCE_S)
