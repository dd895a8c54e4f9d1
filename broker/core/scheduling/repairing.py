"""Repairing: makes the tables whole again after an exception that nobody foresaw.

Such an exception may end a step when a part of it is done: a call has left its queue and is with no worker, or a count
is wrong. The calls tell what is true, so this rebuilds queues, counts and capacity from them, and ends the calls that
are nowhere. It visits every call; the loop calls it only after an exception.
"""

from __future__ import annotations

from collections import Counter

from broker.core import errors
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state.access import Access
from broker.core.state.call_table import CallTable
from broker.core.state.calls import CANCELLED, ENDED, FAILING, QUEUED, Call
from broker.core.state.conversations import Conversations
from broker.core.state.fair_queue import FairQueue
from broker.core.state.pool import Replica, Worker
from broker.core.state.registry import Registry


class Repairer:
    """Rebuilds what the calls determine."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        conversations: Conversations,
        access: Access,
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._conversations = conversations
        self._access = access

    def repair(self, now_s: float) -> int:
        """Make all tables agree with the calls; return how many calls had to be ended."""
        self._registry.repair(now_s)
        self._repair_in_flight()
        queued = self._repair_queues()
        nowhere = [call for call in self._calls.all_open() if not self._is_somewhere(call, queued)]
        for call in nowhere:
            self._calls.abort(call, *errors.broker_failed(), now_s)
        for procedure in self._registry.counted():
            for target in procedure.targets.values():
                target.waiting = target.pool.stream_bytes = 0
        for account in self._access.accounts.values():
            account.open_calls = 0
        self._calls.recount()
        self._repair_capacity()
        for pool in self._registry.all_pools():
            self._scheduler.mark_dirty(pool)
        return len(nowhere)

    def _repair_in_flight(self) -> None:
        """Drop the workers that are gone and the doubtful calls; count what each worker has."""
        in_flight = self._calls.in_flight
        doubtful, self._calls.doubtful = set(self._calls.doubtful), []
        known = set(self._registry.workers.values())
        for worker in [worker for worker in in_flight if worker not in known]:
            del in_flight[worker]
        for worker in known:
            calls = in_flight[worker]
            for number in [number for number, call in calls.items() if call in doubtful or not _is_with(call, worker)]:
                del calls[number]
                self._conversations.cancel_at(worker, number)
            worker.in_flight = len(calls)
            for batch, unanswered in Counter(call.batch for call in calls.values()).items():
                assert batch is not None
                batch.unanswered = unanswered

    def _repair_queues(self) -> set[Call]:
        """Rebuild every queue from the calls in it that wait, in their order; return these calls."""
        rebuilt: set[Call] = set()
        for pool, queue in list(self._calls.queues.items()):
            new = self._calls.queues[pool] = FairQueue[Call]()
            for call in reversed(queue.retries):  # `push_retry` adds at the head
                if call.state is QUEUED and call not in rebuilt:
                    new.push_retry(call)
                    rebuilt.add(call)
            for call in sorted((call for call in queue if not call.deaths), key=_number):
                if call.state is QUEUED and call not in rebuilt:
                    new.append(call)
                    rebuilt.add(call)
        return rebuilt

    def _is_somewhere(self, call: Call, queued: set[Call]) -> bool:
        if call.state is QUEUED:
            return call in queued
        if call.state is FAILING:
            return call.failure is not None
        if call.state in (CANCELLED, ENDED):
            return False
        return self._calls.is_with_its_worker(call)

    def _repair_capacity(self) -> None:
        """Set the free capacity of each replica from the batches that its worker has."""
        taken: Counter[Replica] = Counter()
        large: Counter[Replica] = Counter()
        for calls in self._calls.in_flight.values():
            for batch in {call.batch for call in calls.values() if call.batch is not None}:
                taken[batch.replica] += batch.capacity
                large[batch.replica] += batch.is_large
        for worker in self._registry.workers.values():
            for replica in worker.replicas.values():
                replica.free = replica.capacity - taken[replica]
                replica.large_batches = large[replica]
        for pool in self._registry.all_pools():
            pool.recount()
        self._calls.shares.clear()
        for calls in self._calls.in_flight.values():
            for call in calls.values():
                if call.batch is not None and call.batch.replica.pool.is_for_streams:
                    self._calls.shares[call.batch.replica.pool].add(call.owner)


def _is_with(call: Call, worker: Worker) -> bool:
    return call.batch is not None and call.batch.replica.worker is worker and call.state is not QUEUED


def _number(call: Call) -> bytes:
    return call.number
