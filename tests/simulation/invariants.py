"""What must hold of a routing core between any two messages, seen from the core alone."""

from broker.dispatch import EXPIRE_INTERVAL_S, Limits
from broker.routing import Core
from broker.service import Service


def check(core: Core, limits: Limits, *, ticked_s: float) -> None:
    """Check the tables of a core against each other.

    Args:
        core: when all that it wanted sent has been taken.
        limits: that it was given.
        ticked_s: when its last tick was, in monotonic seconds.
    """
    waiting: set[bytes] = set()
    for service in core.catalogue.all_services():
        queue = service.queue
        calls = list(queue)
        assert len(calls) == queue.calls <= limits.queue_calls + len(queue.again) + 1
        assert sum(len(call.event) for call in calls) == queue.bytes
        assert not has_needless_wait(service), "calls wait beside free room"
        if service.gathering_since_s is not None:
            assert ticked_s - service.gathering_since_s < service.model.batch_wait_ms / 1000 + 0.5, (
                "calls wait for ever"
            )
        assert service.free == sum(max(hosting.free, 0) for hosting in service.hostings)
        assert all(hosting.worker.state == "ready" for hosting in service.hostings)
        assert all(call.batch is None for call in calls)
        for call in calls:
            assert call.number not in waiting, "a call waits twice"
            waiting.add(call.number)

    with_workers: set[bytes] = set()
    for identity, worker in core.catalogue.workers.items():
        assert worker.identity == identity
        for hosting in worker.hostings:
            key, is_of_streams = hosting.service.model.key, hosting.service.is_of_streams
            model = next(model for model in worker.description.models if model.key == key)
            largest = 1 if is_of_streams else model.max_batch_size
            batches = {call.batch for call in worker.in_flight.values() if call.batch and call.batch.hosting is hosting}
            taken = sum(batch.room for batch in batches)
            assert hosting.free == hosting.capacity - taken >= 0, "room does not match what is in flight"
            assert hosting.capacity == (model.max_streams if is_of_streams else model.slots + model.batches_ahead)
            for batch in batches:
                unanswered = sum(call.batch is batch for call in worker.in_flight.values())
                assert batch.unanswered == unanswered <= largest, "a batch with other calls than its own"
        for number, call in worker.in_flight.items():
            assert call.batch is not None
            assert call.batch.hosting.worker is worker
            assert number not in waiting, "a call waits while a worker has it"
            assert number not in with_workers, "two workers have a call"
            with_workers.add(number)

    clients = core.conversations.clients
    assert sum(len(client.open) for client in clients.values()) == len(core.conversations)
    open_streams = [call for call in core.conversations._open.values() if call.target.is_stream]
    streamed = sum(service.stream_bytes for service in core.catalogue.all_services())
    assert (
        streamed == sum(call.size for call in open_streams) == sum(client.stream_bytes for client in clients.values())
    )
    late_s = EXPIRE_INTERVAL_S + 0.5
    for number, call in core.conversations._open.items():
        assert call.client is not None
        assert clients[call.client.identity].open[call.message_id] is call
        assert not call.closed
        is_somewhere = (number in waiting) + (number in with_workers)
        assert is_somewhere == 1 or call.failure is not None, "a call is nowhere"
        assert call.failure is not None or call.deadline_s > ticked_s - late_s, "overdue and not told"


def has_needless_wait(service: Service) -> bool:
    """Whether a call waits that could be given out.

    A call whose worker died needs a worker that has nothing else to do, and one is kept free of other work for it. A
    stream does not.
    """
    queue = service.queue
    if service.is_of_streams:
        return queue.calls > 0 and service.free > 0
    if queue.again and any(hosting.free == hosting.capacity for hosting in service.hostings):
        return True
    have_room = sum(hosting.free > 0 for hosting in service.hostings)
    if service.gathering_since_s is not None:
        return False
    return queue.calls > len(queue.again) and have_room > (1 if queue.again else 0)


def counted(core: Core) -> int:
    """How many calls have ended, by the core's own books."""
    outcomes = sum(sum(procedure.all_outcomes().values()) for procedure in core.catalogue.counted())
    return outcomes + int(core.counters.unknown_method.total())


def orphans(core: Core) -> int:
    """How many calls a worker still has whose client has gone, and which are therefore neither open nor counted."""
    return sum(
        call.client is None and not call.closed
        for worker in core.catalogue.workers.values()
        for call in worker.in_flight.values()
    )
