"""Deadlines: ends the calls that have waited or run for too long."""

from broker.core import errors
from broker.core.scheduling.admission import Admission
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state.call_table import CallTable
from broker.core.state.calls import QUEUED, STREAMING, Call
from broker.core.state.conversations import Conversations
from broker.core.state.pool import WorkerPool
from broker.core.state.registry import Registry

CHECK_INTERVAL_S = 0.25
"""Seconds between two checks of all open calls."""


class Deadlines:
    """Checks the deadlines of calls, and the grace of pools without workers."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        admission: Admission,
        conversations: Conversations,
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._admission = admission
        self._conversations = conversations
        self._checked_s = float("-inf")

    def refuse_unserved(self, now_s: float) -> None:
        """End the calls that have waited for a first worker for longer than the grace."""
        queues = self._calls.queues
        for pool in self._registry.all_pools():
            if queues[pool] and self._admission.is_unserved(pool, now_s):
                self._refuse_queue(pool, now_s)

    def _refuse_queue(self, pool: WorkerPool, now_s: float) -> None:
        queue = self._calls.queues[pool]
        while queue:
            call = queue.pop_retry() if queue.retries else queue.pop()
            failure = errors.no_worker_for_retry() if call.deaths else self._admission.no_workers(pool)
            self._calls.fail(call, *failure, now_s)

    def check_if_due(self, now_s: float) -> None:
        """End the calls whose deadline has passed."""
        if now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        for call in self._calls.overdue(now_s):
            if call.state is QUEUED:
                self._scheduler.leave_queue(call)
                self._scheduler.expire_waiting(call, now_s)
            else:
                self._expire_running(call, now_s)

    def _expire_running(self, call: Call, now_s: float) -> None:
        assert call.batch is not None
        if call.state is STREAMING and call.client_deadline_s > now_s:
            failure = errors.stream_stalled(call.batch.replica.timeout_s)
        else:
            failure = errors.ran_too_long(now_s - call.arrived_s)
        # The batch takes capacity until the worker answers, or is replaced because it is stuck.
        self._conversations.cancel(call)
        self._calls.fail(call, *failure, now_s)
