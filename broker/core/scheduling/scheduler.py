"""Who gets which call, and when: the queues of the services, the room of the workers, and the calls of dead workers."""

from dataclasses import dataclass

from broker.core.state import counters
from broker.core.state.calls import Call, CallTable, Client
from broker.core.state.counters import Counters
from broker.core.state.fair_queue import FairQueue
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Replica, Worker, WorkerPool
from broker.core.state.procedures import Target
from broker.core.state.registry import Registry
from broker.core.state.versions import ModelVersions
from cluster.wire import protocol
from cluster.wire.pairs import write_pairs

_MOST_DEATHS = 2
"""A call that was under way in as many deaths of workers is not tried again: it may be what they died of."""

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""A batch to which calls of so many bytes belong gets no more: all of it must be sent and read in one piece."""

_NEVER_S = float("inf")

EXPIRE_INTERVAL_S = 0.25
"""Seconds between two looks for calls whose deadline has passed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and how long.

    Attributes:
        no_worker_grace_s: how long a call waits where no worker is ready, in seconds, before it gets `NoWorkers`.
        queue_timeout_s: how long a call may wait in its queue, in seconds.
        queue_calls, queue_bytes: how many calls, and bytes of events, may wait for one model.
        client_calls, client_bytes: how much of that may be one client's.
        unread_patience_s: how long the reader of a stream may make no room, in seconds; one that sends heartbeats, some
            times as long (`call.BEATING_FACTOR`).
    """

    no_worker_grace_s: float
    queue_timeout_s: float
    queue_calls: int
    queue_bytes: int
    client_calls: int
    client_bytes: int
    unread_patience_s: float = 600.0


class Scheduler:
    """Gives waiting calls to workers with room.

    Attributes:
        draining: whether the broker is about to stop: what waits is still given out, and no more is taken.
    """

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        counts: Counters,
        outbox: Outbox,
        limits: Limits,
    ) -> None:
        self.draining = False
        self._registry = registry
        self._calls = calls
        self._counters = counts
        self._outbox = outbox
        self._limits = limits
        self._expired_s = float("-inf")
        self._dirty: dict[WorkerPool, None] = {}  # services that may have both work and room

    def is_unserved(self, pool: WorkerPool, now_s: float) -> bool:
        """Whether no worker has been ready for the service for so long that its calls are refused."""
        since_s = pool.unserved_since_s
        return since_s is not None and now_s - since_s > self._limits.no_worker_grace_s

    def no_workers_text(self, pool: WorkerPool) -> str:
        """Why they are refused, for the caller."""
        name, grace_s = pool.model.qualified_name, self._limits.no_worker_grace_s
        return f"no worker that hosts {name} has been ready for {grace_s:g} s; the call was not executed"

    def busy_text(self, pool: WorkerPool, client: Client | None, size: int) -> str | None:
        """Why a call of that many bytes cannot wait as well; None if it can."""
        queue, limits = pool.queue, self._limits
        if pool.is_for_streams:
            text = self._busy_with_streams(pool, client, size)
            if text is not None:
                return text
        if pool.free > 0 and not queue.calls:
            return None  # it need not wait
        name = pool.model.qualified_name
        if queue.calls >= limits.queue_calls:
            return f"{queue.calls} calls of {name} wait already; call again later"
        if queue.bytes + size > limits.queue_bytes:
            return f"the calls of {name} that wait have {queue.bytes} bytes already; call again later"
        calls, size_of_client = queue.share(client)
        if calls >= limits.client_calls:
            return f"{calls} calls of {name} by this client wait already; wait for their answers"
        if size_of_client + size > limits.client_bytes:
            return f"this client's calls of {name} that wait have {size_of_client} bytes already; wait for answers"
        return None

    def _busy_with_streams(self, pool: WorkerPool, client: Client | None, size: int) -> str | None:
        """Streams that are open are bounded in bytes as calls that wait are: a worker keeps what they ask."""
        name, limits = pool.model.qualified_name, self._limits
        if pool.stream_bytes + size > limits.queue_bytes:
            return f"the open streams of {name} have {pool.stream_bytes} bytes already; call again later"
        if client is not None and client.stream_bytes + size > limits.client_bytes:
            return f"this client's open streams have {client.stream_bytes} bytes already; read them to their end"
        return None

    def enqueue(self, call: Call, now_s: float) -> None:
        """Let a new call wait for its turn."""
        pool = call.target.pool
        call.deadline_s = min(call.asked_until_s, now_s + self._limits.queue_timeout_s)
        pool.queue.append(call)
        self._dirty[pool] = None

    def leave_queue(self, call: Call) -> None:
        """The call waits no longer."""
        pool = call.target.pool
        pool.queue.remove(call)
        if call.deaths or pool.queue.again:
            self._dirty[pool] = None  # a worker may have been kept free for it, or for others before it

    def mark_dirty(self, pool: WorkerPool) -> None:
        """Look at the service the next time work is given out."""
        self._dirty[pool] = None

    def dispatch(self, now_s: float) -> float:
        """Give every service's waiting calls to its workers, as far as they have room.

        Returns:
            When to come again at the latest, in monotonic seconds, for calls that wait for others to come.
        """
        again_s = _NEVER_S
        if self._dirty:
            pools, self._dirty = self._dirty, {}
            for pool in pools:
                again_s = min(again_s, self._give_out_of(pool, now_s))
        return again_s

    def _give_out_of(self, pool: WorkerPool, now_s: float) -> float:
        queue = pool.queue
        others_wait = queue.calls > len(queue.again)
        kept = self._give_again(pool, now_s, others_wait=others_wait) if queue.again else None
        while pool.free and queue.calls > len(queue.again):
            replica = pool.least_loaded(now_s, kept)
            if replica is None:
                break
            if pool.model.batch_wait_ms and queue.calls < replica.max_batch_size:
                if pool.gathering_since_s is None:
                    pool.gathering_since_s = now_s
                due_s = pool.gathering_since_s + pool.model.batch_wait_ms / 1000
                if now_s < due_s:
                    self._give_again(pool, now_s, others_wait=False)
                    self._dirty[pool] = None
                    return due_s
            pool.gathering_since_s = None
            calls = self._next_batch(queue, replica.max_batch_size, now_s)
            if calls:
                self._give(calls, replica, 1, now_s)
                replica.ran_retry_last = False
        pool.gathering_since_s = None
        if queue.again and queue.calls == len(queue.again):
            self._give_again(pool, now_s, others_wait=False)
        return _NEVER_S

    def _next_batch(self, queue: FairQueue, most: int, now_s: float) -> list[Call]:
        """Take as many waiting calls as fit in one batch."""
        calls: list[Call] = []
        size = 0
        while len(calls) < most and size < MAX_BATCH_BYTES and queue.calls > len(queue.again):
            if calls:
                target = queue.first.target
                if target.is_list or target.work_name != calls[0].target.work_name:
                    break  # many rows, or another procedure
            call = queue.pop()
            if call.deadline_s <= now_s:
                self._expire_waiting(call, now_s)
            else:
                calls.append(call)
                size += len(call.event)
        return calls

    def _give_again(self, pool: WorkerPool, now_s: float, *, others_wait: bool) -> Replica | None:
        """Give out calls whose worker died: each alone, lest it takes others with it, if it is what the worker died of.

        Not so streams, of which one would keep all others waiting for long.

        Returns:
            The replica that must get nothing else until it has nothing to do; None if no call waits for that.
        """
        queue = pool.queue
        while queue.again:
            if pool.is_for_streams:
                replica, room = pool.least_loaded(now_s), 1
            else:
                replica = pool.least_busy_for_retry(others_wait=others_wait)
                room = replica.capacity if replica is not None else 0
            if replica is None or replica.free < room:
                return replica
            call = queue.pop_retry()
            if call.deadline_s <= now_s:
                self._expire_waiting(call, now_s)
            else:
                self._give([call], replica, room, now_s)
                replica.ran_retry_last = True
        return None

    def _give(self, calls: list[Call], replica: Replica, room: int, now_s: float) -> None:
        until_s = now_s + replica.pool.model.timeout_s
        batch = self._registry.take(replica, room, len(calls), now_s)
        identity, in_flight = replica.worker.identity, replica.worker.in_flight
        pairs = []
        announced = []
        for call in calls:
            number, asked_until_s = call.number, call.asked_until_s
            call.batch = batch
            in_flight[number] = call
            call.deadline_s = until_s if until_s < asked_until_s else asked_until_s
            if not call.deaths:
                call.target.queue_wait.observe(now_s - call.arrived_s)
            pairs.append((number, call.event))
            if call.slots > 1:  # announced while it waited
                announced.append((number, call.slots - 1))
        self._outbox.to_worker(identity, *write_pairs(protocol.WORK, pairs, calls[0].target.work_name))
        for number, slots in announced:
            self._outbox.to_worker(identity, protocol.MORE, number, slots.to_bytes(4, "big"))

    def drain(self, worker: Worker, now_s: float) -> None:
        """Give a worker no more work; what it has under way stays its own."""
        self._registry.drain(worker, now_s)
        self._reassign_waiting_from(worker)

    def _reassign_waiting_from(self, worker: Worker) -> None:
        for name in {replica.pool.model.qualified_name for replica in worker.replicas}:
            self.reassign_waiting(self._registry.models[name])

    def drop_worker(self, worker: Worker, reason: str | None, now_s: float) -> None:
        """Forget a worker, and see to the calls that it had; `reason` is None if it left in good order."""
        if reason is not None:
            self._counters.worker_lost[reason] += 1
        self._registry.drain(worker, now_s)
        del self._registry.workers[worker.identity]
        lost, worker.in_flight = worker.in_flight, {}
        how = "left" if reason is None else f"was lost ({reason}) with {len(lost)} calls in flight"
        self._outbox.note(f"worker {worker.description.id} {how}")
        for call in reversed(lost.values()):  # so that the oldest is again the first of the queue
            if call.closed or call.failure is not None:
                continue  # its end is known
            if call.client is not None:
                self._retry_or_fail(call, worker, now_s)
            else:
                self._calls.close(call, counters.CANCELLED, now_s)
        self._reassign_waiting_from(worker)

    def _retry_or_fail(self, call: Call, worker: Worker, now_s: float) -> None:
        """Have a dead worker's call run once more, unless it may be what the worker died of, or must not run twice."""
        call.deaths += 1
        pool = call.target.pool
        if pool.model.retry and call.deaths < _MOST_DEATHS and not call.streamed:
            self._counters.retries += 1
            call.batch = None
            call.deadline_s = min(call.asked_until_s, now_s + self._limits.queue_timeout_s)
            pool.queue.push_retry(call)
            self._dirty[pool] = None
        else:
            text = f"worker {worker.description.id} died during the call, which may have been executed"
            self._calls.fail(call, "WorkerLost", text, counters.WORKER_LOST, now_s)

    def reassign_waiting(self, family: ModelVersions) -> None:
        """Calls that wait for a version that nobody hosts now, and name none, wait for one that somebody does."""
        for pool in (pool for one in family.versions.values() for pool in one.pools):
            if pool.replicas or not pool.queue:
                continue
            again, others = pool.queue.drain_all()
            for call in reversed(again):
                self._target(call, family).pool.queue.push_retry(call)
            for call in others:
                self._target(call, family).pool.queue.append(call)
            for one in family.versions.values():
                self._dirty.update(dict.fromkeys(one.pools))

    def _target(self, call: Call, family: ModelVersions) -> Target:
        other = family.target_of_waiting(call.target)
        if other is not None:
            self._calls.move(call, other)
        return call.target

    def refuse_unserved(self, now_s: float) -> None:
        """Answer the calls that have waited in vain for any worker to come."""
        for pool in self._registry.all_pools():
            if pool.queue and self.is_unserved(pool, now_s):
                self._refuse_queue(pool, now_s)

    def _refuse_queue(self, pool: WorkerPool, now_s: float) -> None:
        while pool.queue:
            call = pool.queue.pop_retry() if pool.queue.again else pool.queue.pop()
            if call.deaths:
                text = "the worker died during the call, which may have been executed, and no other has come"
                self._calls.fail(call, "WorkerLost", text, counters.WORKER_LOST, now_s)
            else:
                text = self.no_workers_text(pool)
                self._calls.fail(call, "NoWorkers", text, counters.NO_WORKERS, now_s)

    def expire_if_due(self, now_s: float) -> None:
        """Answer the calls that have waited or run for too long."""
        if now_s - self._expired_s < EXPIRE_INTERVAL_S:
            return
        self._expired_s = now_s
        for call in self._calls.overdue(now_s):
            if call.batch is None:
                self.leave_queue(call)
                self._expire_waiting(call, now_s)
            else:
                self._expire_running(call, now_s)

    def _expire_waiting(self, call: Call, now_s: float) -> None:
        executed = "it may have been executed by a worker that died" if call.deaths else "it was not executed"
        text = f"the call waited {now_s - call.arrived_s:.1f} s for a worker; {executed}"
        self._calls.fail(call, "DeadlineExceeded", text, counters.DEADLINE, now_s)

    def _expire_running(self, call: Call, now_s: float) -> None:
        assert call.batch is not None
        identity = call.batch.replica.worker.identity
        pool = call.target.pool
        if call.streamed and call.asked_until_s > now_s:
            text = f"the stream has brought nothing for {pool.model.timeout_s:g} s"
        else:
            age_s = now_s - call.arrived_s
            text = f"the call was begun and has not ended {age_s:.1f} s after it came; it may yet"
        # The worker keeps its room taken until it answers, or is replaced because it is stuck.
        self._outbox.to_worker(identity, protocol.CANCEL, call.number)
        self._calls.fail(call, "DeadlineExceeded", text, counters.DEADLINE, now_s)
