"""What must hold of a routing core between any two messages, seen from the core alone."""

from broker.dispatch import EXPIRE_INTERVAL_S, Limits
from broker.routing import Core


def check(core: Core, limits: Limits, *, ticked_s: float) -> None:
    """Check the tables of a core against each other.

    Args:
        core: when all that it wanted sent has been taken.
        limits: that it was given.
        ticked_s: when its last tick was, in monotonic seconds.
    """
    waiting: set[bytes] = set()
    for service in core.catalogue.services.values():
        queue = service.queue
        calls = [*queue._again.values(), *(call for lane in queue._lanes.values() for call in lane.calls.values())]
        assert len(calls) == queue.calls <= limits.queue_calls + len(queue._again) + 1
        assert sum(len(call.event) for call in calls) == queue.bytes
        assert not queue or service.free == 0, "calls wait beside free room"
        assert service.free == sum(hosting.free for hosting in service.hostings)
        assert all(hosting.worker.state == "ready" for hosting in service.hostings)
        assert all(call.hosting is None for call in calls)
        for call in calls:
            assert call.number not in waiting, "a call waits twice"
            waiting.add(call.number)
    assert sum(procedure.waiting for procedure in core.catalogue.procedures.values()) == len(waiting)

    with_workers: set[bytes] = set()
    for identity, worker in core.catalogue.workers.items():
        assert worker.identity == identity
        for name, hosting in worker.hostings.items():
            slots = next(model.slots for model in worker.description.models if model.qualified_name == name)
            taken = sum(call.hosting is hosting for call in worker.in_flight.values())
            assert hosting.free == slots - taken >= 0, "room does not match what is in flight"
        for number, call in worker.in_flight.items():
            assert call.hosting is not None
            assert call.hosting.worker is worker
            assert number not in waiting, "a call waits while a worker has it"
            assert number not in with_workers, "two workers have a call"
            with_workers.add(number)

    clients = core.conversations._clients
    assert sum(len(client.open) for client in clients.values()) == len(core.conversations)
    late_s = EXPIRE_INTERVAL_S + 0.5
    for number, call in core.conversations._open.items():
        assert call.client is not None
        assert clients[call.client.identity].open[call.message_id] is call
        assert not call.closed
        is_somewhere = (number in waiting) + (number in with_workers)
        assert is_somewhere == 1 or call.failure is not None, "a call is nowhere"
        assert call.failure is not None or call.deadline_s > ticked_s - late_s, "overdue and not told"


def counted(core: Core) -> int:
    """How many calls have ended, by the core's own books."""
    outcomes = sum(sum(procedure.outcomes.values()) for procedure in core.catalogue.procedures.values())
    return outcomes + int(core.counters.unknown_method.total())


def orphans(core: Core) -> int:
    """How many calls a worker still has whose client has gone, and which are therefore neither open nor counted."""
    return sum(
        call.client is None and not call.closed
        for worker in core.catalogue.workers.values()
        for call in worker.in_flight.values()
    )
