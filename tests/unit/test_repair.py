"""An exception anywhere in the core costs at most the call that it concerns; then all tables are whole again."""

from collections import Counter
from typing import Any

import msgpack
import pytest

from broker.core.deployment.deployment import Deployment
from broker.core.handlers.clients import ClientHandler
from broker.core.handlers.registration import Registrations
from broker.core.handlers.workers import WorkerHandler
from broker.core.scheduling.admission import Admission
from broker.core.scheduling.deadlines import Deadlines
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state.call_table import CallTable
from broker.core.state.fair_queue import FairQueue
from broker.core.state.outbox import Outbox
from broker.core.state.pool import WorkerPool
from broker.core.state.registry import Registry
from tests.simulation.invariants import check
from tests.unit.test_loop import W1, W2, A, B, Bench
from tests.unit.world import LIMITS

STEPS: list[tuple[type, str]] = [
    (ClientHandler, "message"),
    (ClientHandler, "_first_event"),
    (ClientHandler, "lost"),
    (WorkerHandler, "message"),
    (WorkerHandler, "_reply"),
    (WorkerHandler, "lost"),
    (WorkerHandler, "ping_if_due"),
    (Registrations, "host"),
    (Registry, "drain"),
    (Deployment, "advance"),
    (Admission, "refusal"),
    (Deadlines, "check_if_due"),
    (Scheduler, "dispatch"),
    (Scheduler, "on_new_call"),
    (Scheduler, "drop_worker"),
    (Scheduler, "_dispatch_pool"),
    (Scheduler, "_next_batch"),
    (Scheduler, "_start_batch"),
    (Scheduler, "_retry_or_fail"),
    (CallTable, "open"),
    (CallTable, "start"),
    (CallTable, "release"),
    (CallTable, "retry"),
    (CallTable, "_forget"),
    (CallTable, "send_due_heartbeats"),
    (FairQueue, "append"),
    (FairQueue, "pop"),
    (FairQueue, "remove"),
    (WorkerPool, "change_free"),
    (WorkerPool, "withdraw"),
    (WorkerPool, "least_loaded"),
    (Outbox, "to_worker"),
]

CALLS = 4


def raise_at(owner: type, name: str, place: str, time: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a method raise at one of its calls, before or after it has done its work; the list counts the calls."""
    original = getattr(owner, name)
    calls = [0]

    def raising(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == time and place == "before":
            raise RuntimeError("planted")
        result = original(*args, **kwargs)
        if calls[0] == time and place == "after":
            raise RuntimeError("planted")
        return result

    monkeypatch.setattr(owner, name, raising)
    return calls


def run(bench: Bench) -> None:
    """Calls that wait, a client that goes, a worker that dies with a call, and answers to all others."""
    for client in (A, B):
        for number in range(CALLS):
            bench.call(client, b"%d" % number)
    bench.turn()
    bench.frontend.unreachable.add(b"gone")
    for number in range(CALLS):
        bench.call(b"gone", b"%d" % number)  # the broker learns that it has gone when it answers the first
    bench.turn()
    bench.backend.disconnected.append(W2)
    bench.turn()
    for _ in range(6 * CALLS):
        bench.now_s += 0.3
        for identity in list(bench.core.registry.workers):
            if bench.core.calls.in_flight[bench.core.registry.workers[identity]]:
                bench.answer(identity)
        if not bench.core.registry.workers:
            bench.join(W1)
        bench.turn()


def finish(bench: Bench) -> None:
    """Answer all calls that are left."""
    for _ in range(4 * CALLS):
        bench.now_s += 0.3
        bench.join(W1)
        bench.turn()
        for identity, worker in list(bench.core.registry.workers.items()):
            if bench.core.calls.in_flight[worker]:
                bench.answer(identity)
        bench.turn()


def last_events(bench: Bench) -> Counter[tuple[bytes, bytes]]:
    """How many last events each call got, by client and id."""
    found: Counter[tuple[bytes, bytes]] = Counter()
    for client, event in bench.frontend.sent:
        header, name, _ = msgpack.unpackb(event[event.index(b"\x93") :], strict_map_key=False)
        if name in ("OK", "ERR"):
            found[client, header["response_to"]] += 1
    return found


@pytest.mark.replaces_methods
@pytest.mark.fault(62)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[f"{owner.__name__}.{name}" for owner, name in STEPS])
def test_an_exception_anywhere_leaves_the_core_whole(
    owner: type, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = 0
    for time in range(1, 6):
        with monkeypatch.context() as patched:
            raise_at(owner, name, place, time, patched)
            bench = Bench()
            bench.join(W1)
            bench.join(W2)
            bench.turn()
            run(bench)
        happened += bench.unforeseen()
        finish(bench)
        answers = last_events(bench)
        for client in (A, B):
            for number in range(CALLS):
                assert answers[client, b"%d" % number] == 1, (client, number, time)
        assert len(bench.core.calls) == 0
        check(bench.core, LIMITS, ticked_s=bench.now_s)
        bench.loop.close()
    assert happened >= 1, "the exception was raised"
