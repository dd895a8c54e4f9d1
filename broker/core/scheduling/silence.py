"""Silent servers: which stock server is blocked, and which call a server has dropped without a word.

ZeroMQ's heartbeats, which libzmq answers in a thread of its own, tell whether the process of a server lives. ZeroRPC's
heartbeats stop as well when the loop of a server is blocked, for instance by a long computation, and its calls are then
still answered. But a server also drops a call by itself if it took the broker for lost (zerorpc-python,
`HeartBeatOnChannel`), and tells nobody. So the broker asks a server whether its loop turns, and only a call whose
heartbeats stay out although it does is given up.
"""

from collections.abc import Callable

from broker.core.scheduling.scheduler import Scheduler
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.registry import Registry
from broker.core.state.services import Server, ServerRules

QUIET_S = 1.0
"""A server that has calls and has said nothing for this long, in seconds, gets further calls only if all are quiet."""

LEAST_PATIENCE_S = 15.0
"""A server's heartbeats for a call may be missing for at least this long, in seconds: three of its default interval."""

MISSED_HEARTBEATS = 3
"""Heartbeats of a server that may be missing in a row. Only past intervals show how often it sends them."""

PING_INTERVAL_S = 5.0
"""Seconds between two questions to a server whether its loop turns."""

GRACE_S = 1.0
"""How long a server's heartbeat may come after its answer to that, in seconds."""

CHECK_INTERVAL_S = 0.25
"""Seconds between two checks of all servers."""


class Silence:
    """Watches the servers that have calls."""

    def __init__(self, registry: Registry, calls: CallTable, scheduler: Scheduler, rules: ServerRules) -> None:
        """Build.

        Args:
            registry: the servers.
            calls: their calls.
            scheduler: retries the calls that are given up, or ends them.
            rules: how long a call may run.
        """
        self.ping: Callable[[Server], None] = lambda _: None
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._rules = rules
        self._checked_s = float("-inf")

    def check_if_due(self, now_s: float) -> None:
        """Note which servers are quiet, and give up the calls that their servers have dropped."""
        if now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        for worker in list(self._registry.workers.values()):
            if isinstance(worker, Server):
                calls = list(self._calls.in_flight[worker].values()) if worker.in_flight else []
                worker.is_quiet = bool(calls) and now_s - max(worker.last_received_s, _given_s(worker)) > QUIET_S
                self._check(worker, calls, now_s)

    def _check(self, server: Server, calls: list[Call], now_s: float) -> None:
        silent = [call for call in calls if self._is_silent(call, now_s)]
        if not silent:
            return
        for call in silent:
            if self._is_dropped(call, server, now_s):
                self._scheduler.give_up(call, now_s)
        if now_s - server.pinged_s >= PING_INTERVAL_S:
            server.pinged_s = now_s
            self.ping(server)

    def _is_silent(self, call: Call, now_s: float) -> bool:
        batch = call.batch
        assert batch is not None
        return now_s - batch.heard_s > self._patience_s(call)

    def _is_dropped(self, call: Call, server: Server, now_s: float) -> bool:
        """Whether the server's loop has turned when a heartbeat for the call was due, and none came."""
        assert call.batch is not None
        return server.pong_s > call.batch.heard_s + self._patience_s(call) and now_s - server.pong_s > GRACE_S

    def _patience_s(self, call: Call) -> float:
        """Return how long the server may say nothing about a call, in seconds.

        A server that has sent no heartbeat may send none at all, and one that was blocked seems to send them rarely.
        Nobody waits for a call that is over, so its capacity counts for more.
        """
        assert call.batch is not None
        patience_s = float("inf") if call.batch.patience_s is None else call.batch.patience_s
        return patience_s if call.is_with_worker else min(patience_s, self._rules.timeout_s + LEAST_PATIENCE_S)


def _given_s(server: Server) -> float:
    return max(replica.last_used_s for replica in server.replicas.values())
