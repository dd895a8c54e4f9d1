"""The scheduler: which waiting call goes to which worker, and what becomes of the calls of a lost worker."""

from math import ceil

from broker.core import errors
from broker.core.errors import Failure
from broker.core.state import counters
from broker.core.state.call_table import LARGE_BYTES, CallTable
from broker.core.state.calls import CANCELLED, RUNNING, Call
from broker.core.state.conversations import Conversations
from broker.core.state.counters import Counters
from broker.core.state.fair_queue import FairQueue
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Replica, Worker, WorkerPool
from broker.core.state.procedures import Target
from broker.core.state.registry import Registry
from broker.core.state.services import Service
from broker.core.state.versions import ModelVersions

_MOST_DEATHS = 2
"""A call that was in flight at this many deaths of workers is not retried: it may be their cause."""

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of events from which on a batch takes no further call: a batch is sent and read as one message."""

SMALL_CALLS_S = 1.0
"""A worker is left to small calls for this long after the last one, in seconds."""

_NEVER_S = float("inf")


class Scheduler:
    """Dispatches waiting calls to workers with free capacity.

    Attributes:
        draining: whether the broker is about to stop. Waiting calls are still dispatched; new ones are refused.
    """

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        counts: Counters,
        outbox: Outbox,
        conversations: Conversations,
        *,
        queue_timeout_s: float,
    ) -> None:
        """Build a scheduler without work.

        Args:
            registry: workers and models.
            calls: the calls, with their queues.
            counts: counts retries and lost workers.
            outbox: takes log lines.
            conversations: takes what workers are told about calls.
            queue_timeout_s: how long a call may wait in its queue, in seconds.
        """
        self.draining = False
        self._registry = registry
        self._calls = calls
        self._counters = counts
        self._outbox = outbox
        self._conversations = conversations
        self._queue_timeout_s = queue_timeout_s
        self._dirty: dict[WorkerPool, None] = {}  # pools that may have both waiting calls and free capacity

    # -- work comes and goes --------------------------------------------------------------------------------------

    def on_new_call(self, call: Call, now_s: float) -> None:
        """Set the deadline of a new call, which is in its queue, and dispatch it with the next `dispatch`."""
        call.deadline_s = min(call.client_deadline_s, now_s + self._queue_timeout_s)
        self._dirty[call.target.pool] = None

    def leave_queue(self, call: Call) -> None:
        """Remove a call from its queue."""
        pool = call.target.pool
        queue = self._calls.queues[pool]
        queue.remove(call)
        if call.deaths or queue.retries:
            self._dirty[pool] = None  # a replica may be reserved for this call, or for an earlier retry

    def mark_dirty(self, pool: WorkerPool) -> None:
        """Consider the pool at the next `dispatch`: it has new calls or more free capacity."""
        self._dirty[pool] = None

    # -- dispatch -------------------------------------------------------------------------------------------------

    def dispatch(self, now_s: float) -> float:
        """Send the waiting calls of every pool to its workers, as far as these have free capacity.

        Returns:
            The monotonic time of the next `dispatch` at the latest, for calls that wait for a larger batch.
        """
        next_s = _NEVER_S
        if not self._dirty:
            return next_s
        pools, self._dirty = self._dirty, {}
        try:
            while pools:
                pool = next(iter(pools))
                del pools[pool]
                next_s = min(next_s, self._dispatch_pool(pool, now_s))
        finally:
            self._dirty.update(pools)  # empty, unless a pool has raised
        return next_s

    def _dispatch_pool(self, pool: WorkerPool, now_s: float) -> float:
        queue = self._calls.queues[pool]
        next_s = _NEVER_S
        others_wait = queue.calls > len(queue.retries)
        reserved = self._dispatch_retries(pool, queue, now_s, others_wait=others_wait) if queue.retries else None
        part: int | None = None  # calls for each of several idle workers, once the waiting calls have been divided
        while pool.free and queue.calls > len(queue.retries):
            replica = pool.least_loaded(now_s, reserved)
            if replica is None:
                break
            if replica.batch_wait_s and part is None and queue.calls < replica.max_batch_size:
                if pool.gathering_since_s is None:
                    pool.gathering_since_s = now_s
                due_s = pool.gathering_since_s + replica.batch_wait_s
                if now_s < due_s:
                    self._dispatch_retries(pool, queue, now_s, others_wait=False)
                    self._dirty[pool] = None
                    return due_s
            pool.gathering_since_s = None
            further_turns = 0
            if pool.is_for_streams:
                if not self._may_open_stream(pool, queue):
                    break
                # A client gives up a turn for each stream that it has open, so that those with fewer come first.
                further_turns = self._calls.shares[pool].of(queue.first.owner)
            if _must_leave_worker(pool, queue.first, now_s) and not queue.prefer(_is_small):
                self._dirty[pool] = None
                next_s = pool.last_small_s + SMALL_CALLS_S
                break
            if part is None:
                part = _part(replica, queue)
            most = replica.max_batch_size if part is None else min(part, replica.max_batch_size)
            batch = self._next_batch(queue, most, now_s, further_turns)
            if batch:
                if _is_small(batch[0]):
                    pool.last_small_s = now_s
                self._send_batch(batch, replica, 1, now_s)
                replica.ran_retry_last = False
        pool.gathering_since_s = None
        if queue.retries and queue.calls == len(queue.retries):
            self._dispatch_retries(pool, queue, now_s, others_wait=False)
        return next_s

    def _next_batch(self, queue: FairQueue[Call], most: int, now_s: float, further_turns: int = 0) -> list[Call]:
        """Remove as many waiting calls from the queue as fit in one batch; retries stay."""
        batch: list[Call] = []
        size = 0
        while len(batch) < most and size < MAX_BATCH_BYTES and queue.calls > len(queue.retries):
            if batch:
                following = queue.first
                target = following.target
                if target.is_list or target.work_name != batch[0].target.work_name or following.size > LARGE_BYTES:
                    break  # a list is a batch of its own, as is a large call, and WORK names one procedure
            call = queue.pop(further_turns)
            if call.deadline_s <= now_s:
                self.expire_waiting(call, now_s)
            else:
                batch.append(call)
                size += call.size
                if size > LARGE_BYTES and len(batch) == 1:
                    break
        return batch

    def _may_open_stream(self, pool: WorkerPool, queue: FairQueue[Call]) -> bool:
        """Whether a client that waits may have one more stream; that client takes the next turn."""
        shares, free = self._calls.shares[pool], pool.free
        return shares.may_open(queue.first.owner, free) or queue.prefer(lambda call: shares.may_open(call.owner, free))

    def _dispatch_retries(
        self, pool: WorkerPool, queue: FairQueue[Call], now_s: float, *, others_wait: bool
    ) -> Replica | None:
        """Dispatch retries, each alone on its replica: a call that kills its worker takes no other call with it.

        Retries of streams run beside others; a stream alone would block its replica for long.

        Returns:
            The replica that is reserved for the next retry until it is idle; None if no retry waits for one.
        """
        while queue.retries:
            if pool.is_for_streams:
                replica, capacity = pool.least_loaded(now_s), 1
            else:
                replica = pool.least_busy_for_retry(others_wait=others_wait)
                capacity = replica.capacity if replica is not None else 0
            if replica is None or replica.free < capacity:
                return replica
            call = queue.pop_retry()
            if call.deadline_s <= now_s:
                self.expire_waiting(call, now_s)
            else:
                self._send_batch([call], replica, capacity, now_s)
                replica.ran_retry_last = True
        return None

    def _send_batch(self, batch: list[Call], replica: Replica, capacity: int, now_s: float) -> None:
        try:
            self._start_batch(batch, replica, capacity, now_s)
        except Exception:
            self._calls.doubtful += batch
            raise

    def _start_batch(self, batch: list[Call], replica: Replica, capacity: int, now_s: float) -> None:
        self._calls.start(batch, replica, capacity, now_s)
        for call in batch:
            if not call.deaths:
                call.target.queue_wait.observe(now_s - call.arrived_s)
        self._conversations.begin(batch, replica.worker, now_s)

    def expire_waiting(self, call: Call, now_s: float) -> None:
        """End a call that was removed from its queue because its deadline has passed."""
        self._calls.fail(call, *errors.waited_too_long(now_s - call.arrived_s, call.deaths), now_s)

    # -- workers that leave ---------------------------------------------------------------------------------------

    def drain(self, worker: Worker, now_s: float) -> None:
        """Dispatch no more calls to a worker; it keeps its calls in flight."""
        self._registry.drain(worker, now_s)
        self._reassign_waiting_from(worker)

    def is_needed(self, worker: Worker) -> bool:
        """Whether calls wait that only this worker, or others that want to leave as well, could answer."""
        queues = self._calls.queues
        return any(
            queues[replica.pool] and all(other.worker.drain_requested_s is not None for other in replica.pool.replicas)
            for replica in worker.replicas.values()
        )

    def drop_worker(self, worker: Worker, reason: str | None, now_s: float) -> None:
        """Remove a worker, and retry or fail its calls in flight.

        Args:
            worker: the worker.
            reason: the `reason` label of a loss; None if the worker has left after draining.
            now_s: monotonic seconds.
        """
        if reason is not None:
            self._counters.worker_lost[reason] += 1
        self._registry.remove(worker, now_s)
        lost = self._calls.release_all(worker)
        how = "left" if reason is None else f"was lost ({reason}) with {len(lost)} calls in flight"
        self._outbox.note(f"{worker.kind} {worker.description.id} {how}")
        for call in lost:
            if call.target.is_stream and call.batch is not None:
                # The reserved part of the pool's streams shrinks with them, so another worker may begin one.
                self._dirty[call.batch.replica.pool] = None
        for call in reversed(lost):  # each goes to the head of its queue, so the oldest goes last
            if call.is_with_worker:
                self._retry_or_fail(call, errors.worker_died(worker.kind, worker.description.id), now_s)
            elif call.state is CANCELLED:
                self._calls.end(call, counters.CANCELLED, now_s)
        self._reassign_waiting_from(worker)

    def give_up(self, call: Call, now_s: float) -> None:
        """Retry or fail a call that its server has dropped; the server itself continues."""
        assert call.batch is not None
        server = call.batch.replica.worker
        pool = self._calls.release(call, now_s)
        if pool is not None:
            self._dirty[pool] = None
        if call.is_with_worker:
            self._retry_or_fail(call, errors.server_dropped(server.description.id), now_s)
        elif call.state is CANCELLED:
            self._calls.end(call, counters.CANCELLED, now_s)

    def _retry_or_fail(self, call: Call, failure: Failure, now_s: float) -> None:
        """Retry a call whose worker is lost to it, unless it may have killed the worker or must not run twice."""
        assert call.batch is not None
        call.deaths += 1
        pool = call.target.pool
        may_retry = call.batch.replica.may_retry or call.target.procedure.may_retry
        if may_retry and call.deaths < _MOST_DEATHS and call.state is RUNNING:
            self._counters.retries += 1
            self._calls.retry(call, now_s + self._queue_timeout_s)
            self._dirty[pool] = None
        else:
            self._calls.fail(call, *failure, now_s)

    # -- versions without workers ---------------------------------------------------------------------------------

    def _reassign_waiting_from(self, worker: Worker) -> None:
        for hosted in self._registry.hosted_by(worker):
            self.reassign_waiting(hosted)

    def reassign_waiting(self, hosted: ModelVersions | Service) -> None:
        """Move waiting calls from pools without workers to others that may answer them.

        Of a model, these are calls that name no version.
        """
        queues = self._calls.queues
        for pool in hosted.all_pools:
            if pool.replicas or not queues[pool]:
                continue
            retries, others = queues[pool].drain_all()
            for call in reversed(retries):
                queues[self._new_target(call, hosted).pool].push_retry(call)
            for call in others:
                queues[self._new_target(call, hosted).pool].append(call)
            self._dirty.update(dict.fromkeys(hosted.all_pools))

    def rebalance(self, service: Service) -> None:
        """Move waiting calls of a service from servers without room to others that have room and their method."""
        queues = self._calls.queues
        if not any(pool.free and not queues[pool] for pool in service.all_pools):
            return
        room = {pool: pool.free - queues[pool].calls for pool in service.all_pools}
        for pool in [pool for pool in service.all_pools if queues[pool] and not pool.free]:
            retries, others = queues[pool].drain_all()
            for call in (*retries, *others):
                # A method that has given way may still have targets that are forgotten.
                targets = [one for one in call.target.procedure.targets.values() if room.get(one.pool, 0) > 0]
                if targets:
                    other = max(targets, key=lambda target: room[target.pool])
                    room[other.pool] -= 1
                    self._calls.retarget(call, other)
                    self._dirty[other.pool] = None
            for call in reversed(retries):
                queues[call.target.pool].push_retry(call)
            for call in others:
                queues[call.target.pool].append(call)

    def _new_target(self, call: Call, hosted: ModelVersions | Service) -> Target:
        other = hosted.other_target(call.target)
        if other is not None:
            self._calls.retarget(call, other)
        return call.target


def _part(replica: Replica, queue: FairQueue[Call]) -> int | None:
    """Return how many of the waiting calls each of several idle workers should get; None if one should get them all."""
    waiting = queue.calls - len(queue.retries)
    if replica.max_batch_size == 1 or waiting == 1:
        return None
    idle = replica.pool.idle_beside(replica)
    parts = replica.pool.run_times.parts(waiting, idle) if idle > 1 else 1
    return ceil(waiting / parts) if parts > 1 else None


def _is_small(call: Call) -> bool:
    return call.size <= LARGE_BYTES


def _must_leave_worker(pool: WorkerPool, call: Call, now_s: float) -> bool:
    """Whether a call is large and would take the last worker of several that runs no large call.

    Small calls would then wait for large ones. If there have been none lately, large calls may have all workers.
    """
    if _is_small(call) or pool.is_for_streams or len(pool.replicas) == 1:
        return False
    if now_s - pool.last_small_s > SMALL_CALLS_S:
        return False
    return sum(not replica.large_batches for replica in pool.replicas) <= 1
