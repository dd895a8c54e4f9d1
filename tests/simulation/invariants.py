"""What must hold of a routing core between any two messages, seen from the core alone."""

from collections import Counter, defaultdict
from collections.abc import Hashable

from broker.core.core import Core
from broker.core.scheduling.admission import QueueLimits
from broker.core.scheduling.deadlines import CHECK_INTERVAL_S
from broker.core.state.calls import CANCELLED, ENDED, FAILING, QUEUED
from broker.core.state.pool import WorkerPool


def check(core: Core, limits: QueueLimits, *, ticked_s: float) -> None:
    """Check the tables of a core against each other.

    Args:
        core: when all that it wanted sent has been taken.
        limits: that it was given.
        ticked_s: when its last tick was, in monotonic seconds.
    """
    waiting: set[bytes] = set()
    for pool in core.registry.all_pools():
        queue = core.calls.queues[pool]
        calls = list(queue)
        assert len(calls) == queue.calls <= 3 * limits.queue_calls + len(queue.retries) + 1
        assert sum(len(call.event) for call in calls) == queue.bytes
        assert not has_needless_wait(core, pool), "calls wait beside free capacity"
        if pool.gathering_since_s is not None:
            assert ticked_s - pool.gathering_since_s < pool.model.batch_wait_ms / 1000 + 0.5, "calls wait for ever"
        assert pool.free == sum(max(replica.free, 0) for replica in pool.replicas)
        assert all(replica.worker.state == "ready" for replica in pool.replicas)
        assert all(call.batch is None and call.state is QUEUED for call in calls)
        for call in calls:
            assert call.number not in waiting, "a call waits twice"
            waiting.add(call.number)

    depths = Counter(call.target for pool in core.registry.all_pools() for call in core.calls.queues[pool])
    for procedure in core.registry.counted():
        for target in procedure.targets.values():
            assert target.waiting == depths[target], "the depth of a queue is not what waits in it"

    with_workers: set[bytes] = set()
    for identity, worker in core.registry.workers.items():
        assert worker.identity == identity
        in_flight = core.calls.in_flight[worker]
        assert len(in_flight) == worker.in_flight
        for replica in worker.replicas.values():
            key, is_for_streams = replica.pool.model.key, replica.pool.is_for_streams
            models = [replica.model] if worker.kind == "server" else worker.description.models
            model = next(model for model in models if model.key == key)
            largest = 1 if is_for_streams else model.max_batch_size
            batches = {call.batch for call in in_flight.values() if call.batch and call.batch.replica is replica}
            taken = sum(batch.capacity for batch in batches)
            assert replica.free == replica.capacity - taken >= 0, "capacity does not match what is in flight"
            assert replica.capacity == (model.max_streams if is_for_streams else model.slots + model.batches_ahead)
            for batch in batches:
                unanswered = sum(call.batch is batch for call in in_flight.values())
                assert batch.unanswered == unanswered <= largest, "a batch with other calls than its own"
        for number, call in in_flight.items():
            assert call.batch is not None
            assert call.batch.replica.worker is worker
            assert number not in waiting, "a call waits while a worker has it"
            assert number not in with_workers, "two workers have a call"
            with_workers.add(number)

    clients = core.calls.clients
    check_services(core)
    _check_streams(core)
    assert sum(len(client.open) for client in clients.values()) == len(core.calls)
    assert sum(account.open_calls for account in core.access.accounts.values()) == len(core.calls)
    late_s = CHECK_INTERVAL_S + 0.5
    for number, call in core.calls._open.items():
        assert call.client is not None
        assert clients[call.client.identity].open[call.message_id] is call
        assert call.state is not ENDED
        is_somewhere = (number in waiting) + (number in with_workers)
        assert is_somewhere == 1 or call.state is FAILING, "a call is nowhere"
        assert call.state is FAILING or call.deadline_s > ticked_s - late_s, "overdue and not told"


def _check_streams(core: Core) -> None:
    streams: defaultdict[WorkerPool, Counter[Hashable]] = defaultdict(Counter)
    for calls_of_worker in core.calls.in_flight.values():
        for call in calls_of_worker.values():
            assert call.batch is not None
            if call.batch.replica.pool.is_for_streams:
                streams[call.batch.replica.pool][call.owner.address, call.owner.identity] += 1
    for pool in core.registry.all_pools():
        shares = core.calls.shares[pool]
        assert shares.total == streams[pool].total()
        assert shares.by_client() == streams[pool]

    streamed = sum(call.size for call in core.calls._open.values() if call.target.is_stream)
    assert sum(pool.stream_bytes for pool in core.registry.all_pools()) == streamed
    assert sum(client.stream_bytes for client in core.calls.clients.values()) == streamed


def check_services(core: Core) -> None:
    """Check that no call waits for a set of servers that has none while others could answer it."""
    for service in core.registry.services.by_name.values():
        for pool in service.all_pools:
            for call in core.calls.queues[pool]:
                assert pool.replicas or service.other_target(call.target) is None, "a call waits at the wrong servers"


def is_balanced(core: Core) -> bool:
    """Whether no call waits at full servers of its service while others with its method have nothing to do."""
    queues = core.calls.queues
    for service in core.registry.services.by_name.values():
        idle = {pool for pool in service.all_pools if pool.free and not queues[pool]}
        for pool in service.all_pools:
            if not pool.free and any(not idle.isdisjoint(call.target.procedure.targets) for call in queues[pool]):
                return False
    return True


def has_needless_wait(core: Core, pool: WorkerPool) -> bool:
    """Whether a call waits that could be given out.

    A call whose worker died needs a worker that has nothing else to do, and one is kept free of other work for it. A
    stream does not.
    """
    queue = core.calls.queues[pool]
    if pool.is_for_streams:
        shares = core.calls.shares[pool]
        return pool.free > 0 and any(shares.may_open(call.owner, pool.free) for call in queue)
    if queue.retries and any(replica.free == replica.capacity for replica in pool.replicas):
        return True
    have_room = sum(replica.free > 0 for replica in pool.replicas)
    if pool.gathering_since_s is not None:
        return False
    return queue.calls > len(queue.retries) and have_room > (1 if queue.retries else 0)


def counted(core: Core) -> int:
    """How many calls have ended, by the core's own counters."""
    ended = int(core.counters.unknown_method.total())
    for procedure in core.registry.counted():
        ended += procedure.outcomes.total()
        for target in procedure.targets.values():
            ended += target.outcomes.total()
    return ended


def orphans(core: Core) -> int:
    """How many calls a worker still has whose client has gone, and which are therefore neither open nor counted."""
    return sum(call.state is CANCELLED for in_flight in core.calls.in_flight.values() for call in in_flight.values())
