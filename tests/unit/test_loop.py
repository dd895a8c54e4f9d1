"""The message loop over routers without sockets: what it receives, in which order it acts, what it survives."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from selectors import BaseSelector
from typing import Any, cast

import msgpack
import pytest

from broker.core.core import Core
from broker.core.state.plan import DeploymentPlan
from broker.io import core_log
from broker.io.loop import Loop
from broker.io.peer_limits import divide
from broker.io.plan_writer import PlanWriter
from broker.io.security import Security
from broker.settings import BrokerSettings
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.pairs import write_pairs
from tests.unit.world import LIMITS, describe
from zmtp.errors import PeerError, StalledError, UnreachableError
from zmtp.limits import PeerLimits
from zmtp.mechanism import Mechanism
from zmtp.router import Router

A, B = b"client-a", b"client-b"
W1, W2 = b"w1", b"w2"
OK = msgpack.packb([{}, "OK", ["y"]])


class FakeRouter:
    """A ROUTER whose messages a test puts in and takes out."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal
        self.inbox: list[tuple[bytes, list[bytes]]] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.disconnected: list[bytes] = []
        self.routers: list[bytes] = []
        self.timed_out: set[bytes] = set()
        self.peer_errors: list[PeerError] = []
        self.unreachable: set[bytes] = set()
        self.stalled: set[bytes] = set()
        self.is_stalled = False
        self.connections = 0
        self.accept_pauses = 0

    @property
    def has_messages(self) -> bool:
        return bool(self.inbox)

    def take(self, limit: int) -> list[tuple[bytes, list[bytes]]]:
        taken, self.inbox = self.inbox[:limit], self.inbox[limit:]
        return taken

    def send(self, identity: bytes, chunks: Sequence[bytes]) -> None:
        if identity in self.unreachable:
            raise UnreachableError
        if identity in self.stalled:
            raise StalledError
        self.journal.append(f"{self.name} sends")
        self.sent.append((identity, b"".join(chunks)))

    def address_of(self, identity: bytes) -> str:
        return "192.0.2.1"

    def name_of(self, identity: bytes) -> str:
        return ""

    def flush(self) -> None:
        self.journal.append(f"{self.name} flushes")

    def check_timeouts(self, now_s: float) -> None:
        self.journal.append(f"{self.name} checks timeouts")

    def close(self) -> None:
        self.journal.append(f"{self.name} closes")


class Bench:
    """A loop, its core and its three fake routers."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.journal: list[str] = []
        self.routers: dict[str, FakeRouter] = {}
        self.core = Core(max_message_bytes=1 << 20, limits=LIMITS)
        settings = BrokerSettings.model_validate({"admin": "ipc:///nowhere", "drain_timeout_s": 20.0})
        self.disk = threading.Event()  # set while the disk is not stuck
        self.disk.set()
        self.plans = PlanWriter(self._write, "state.json")
        self.loop = Loop(
            self.core,
            settings,
            self.plans,
            divide(1000),
            Security(settings),
            clock=lambda: self.now_s,
            open_router=self._open,
        )
        self.frontend = self.routers["BROKER_FRONTEND"]
        self.backend = self.routers["BROKER_BACKEND"]
        self.admin = self.routers["BROKER_ADMIN"]

    def _open(
        self,
        setting: str,
        _endpoint: str,
        _selector: BaseSelector,
        _limits: PeerLimits,
        _mechanism: Callable[[], Mechanism],
    ) -> Router:
        self.routers[setting] = FakeRouter(setting, self.journal)
        return cast(Router, self.routers[setting])

    def _write(self, _plan: DeploymentPlan) -> None:
        assert self.disk.wait(60)
        self.journal.append("the plan is saved")

    def route(self, weight: int) -> None:
        event = msgpack.packb([{"message_id": b"%d" % weight, "v": 3}, "route_model", ["m", {"1.2": weight}]])
        self.admin.inbox.append((b"admin", [b"", event]))

    def told(self) -> list[str]:
        """What the administrator was told: the names of the events."""
        return [msgpack.unpackb(event[event.index(b"\x93") :])[1] for _, event in self.admin.sent]

    def turn_until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline_s
            self.loop.turn()

    def turn(self) -> None:
        self.loop._waker.wake()  # no turn waits for a message
        self.loop.turn()

    def join(self, identity: bytes, **settings: Any) -> None:
        self.backend.inbox.append(
            (identity, [protocol.READY, write_description(describe(identity.decode(), **settings))])
        )

    def call(self, client: bytes, message_id: bytes) -> None:
        event = msgpack.packb([{"message_id": message_id, "v": 3}, "m_predict", ["x"]])
        self.frontend.inbox.append((client, [b"", event]))

    def answer(self, worker: bytes) -> None:
        numbers = list(self.core.calls.in_flight[self.core.registry.workers[worker]])
        self.backend.inbox.append((worker, write_pairs(protocol.REPLY, [(number, OK) for number in numbers])))

    def answered(self, client: bytes) -> int:
        return sum(to == client and b"OK" in event for to, event in self.frontend.sent)

    def unforeseen(self) -> int:
        return self.core.counters.bad_frames["internal"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.close()


def raise_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises at its first call, and then does what that one does."""
    calls: list[object] = []

    def wrapped(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("planted")
        return function(*args)

    return wrapped


def test_calls_that_arrive_together_leave_in_one_batch(bench: Bench) -> None:
    bench.join(W1, max_batch_size=8)
    for number in range(3):
        bench.call(A, b"%d" % number)
    bench.turn()
    worker = bench.core.registry.workers[W1]
    assert worker.dispatched == 3
    works = [message for _, message in bench.backend.sent if message[2:3] == protocol.WORK]
    assert len(works) == 1


def test_the_backend_is_read_before_the_frontend(bench: Bench) -> None:
    bench.call(A, b"id")
    bench.join(W1)
    bench.turn()
    assert bench.core.registry.workers[W1].dispatched == 1, "the call was not refused as unknown"


def test_every_router_is_flushed_after_all_sends(bench: Bench) -> None:
    bench.join(W1)
    bench.call(A, b"id")
    bench.turn()
    last_send = max(place for place, entry in enumerate(bench.journal) if entry.endswith("sends"))
    assert set(bench.journal[last_send + 1 :]) == {f"{name} flushes" for name in bench.routers}


@pytest.mark.parametrize("owner", ["clients", "workers"])
def test_a_message_that_raises_costs_no_other_message(
    bench: Bench, owner: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.join(W1)
    bench.turn()
    handler = bench.core.from_backend if owner == "workers" else bench.core.clients.message
    handlers = [
        (router, raise_once(handle) if handle == handler else handle) for router, handle in bench.loop._handlers
    ]
    monkeypatch.setattr(bench.loop, "_handlers", handlers)
    with caplog.at_level(logging.ERROR):
        if owner == "workers":
            bench.backend.inbox.append((W1, [protocol.PING]))
        else:
            bench.call(B, b"lost")
        bench.call(A, b"id")
        bench.turn()
        bench.answer(W1)
        bench.turn()
    assert bench.answered(A) == 1
    assert bench.unforeseen() == 1
    assert "planted" in caplog.text


@pytest.mark.replaces_methods
@pytest.mark.parametrize("step", ["tick", "dispatch"])
def test_a_step_of_the_core_that_raises_does_not_end_the_loop(
    bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.core, step, raise_once(getattr(bench.core, step)))
    bench.join(W1)
    bench.turn()
    assert bench.unforeseen() == 1
    bench.now_s += 1
    bench.call(A, b"id")
    bench.turn()
    bench.answer(W1)
    bench.turn()
    assert bench.answered(A) == 1


@pytest.mark.replaces_methods
def test_a_pool_that_cannot_be_dispatched_does_not_hold_up_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = bench.core._scheduler
    bench.join(W1)
    bench.turn()
    pools = list(bench.core.registry.all_pools())
    monkeypatch.setattr(scheduler, "_dispatch_pool", raise_once(scheduler._dispatch_pool))
    for pool in reversed(pools):  # the calls' pool is not the first
        scheduler.mark_dirty(pool)
    bench.call(A, b"id")
    bench.turn()
    assert bench.unforeseen() == 1
    bench.turn()
    assert bench.core.registry.workers[W1].dispatched == 1


def test_a_client_that_cannot_be_reached_loses_its_calls(bench: Bench) -> None:
    bench.join(W1, max_batch_size=1)
    bench.call(A, b"first")
    bench.call(A, b"second")
    bench.turn()
    bench.frontend.unreachable.add(A)
    bench.answer(W1)
    bench.turn()
    assert bench.core.counters.clients_dropped["unreachable"] == 1
    assert len(bench.core.calls) == 0


def test_a_client_that_does_not_read_is_counted_as_stalled(bench: Bench) -> None:
    bench.join(W1, max_batch_size=1)
    bench.call(A, b"first")
    bench.call(A, b"second")
    bench.turn()
    bench.frontend.stalled.add(A)
    bench.answer(W1)
    bench.turn()
    assert bench.core.counters.clients_dropped["stalled"] == 1


def test_the_calls_of_a_disconnected_worker_go_to_another_in_the_same_turn(bench: Bench) -> None:
    bench.join(W1)
    bench.call(A, b"id")
    bench.turn()
    bench.join(W2)
    bench.backend.disconnected.append(W1)
    bench.turn()
    assert bench.core.registry.workers[W2].dispatched == 1
    assert bench.core.counters.retries == 1


def test_an_administrator_is_answered_when_the_plan_is_saved_and_no_turn_waits_for_the_disk(bench: Bench) -> None:
    bench.join(W1)
    bench.turn()
    bench.disk.clear()
    bench.route(1)
    bench.turn()
    bench.call(A, b"id")
    bench.turn()
    bench.answer(W1)
    bench.turn()
    assert bench.answered(A) == 1
    bench.now_s += 4
    bench.turn()
    assert bench.told() == ["_zpc_hb"], "the administrator waits, and hears that the broker lives"
    bench.disk.set()
    bench.turn_until(lambda: bench.told() == ["_zpc_hb", "OK"])


def test_plans_that_come_while_the_disk_is_busy_are_written_once(bench: Bench) -> None:
    bench.join(W1)
    bench.turn()
    bench.disk.clear()
    for weight in range(1, 6):
        bench.route(weight)
        bench.turn()
    assert bench.told() == []
    bench.disk.set()
    bench.turn_until(lambda: bench.told() == ["OK"] * 5)
    assert bench.journal.count("the plan is saved") in (1, 2), "the first one, if the thread had begun it, and the last"


@pytest.mark.parametrize("error", [OSError("the disk is full"), RuntimeError("planted")])
def test_a_plan_that_cannot_be_written_is_logged_and_counted_and_the_next_one_is_tried(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_plan: DeploymentPlan) -> None:
        raise error

    bench.join(W1)
    bench.turn()
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(bench.plans, "_write", fail)
        bench.route(1)
        bench.turn_until(lambda: bench.told() == ["OK"])
    assert "ends with this broker" in caplog.text
    assert str(error) in caplog.text
    assert bench.core.counters.state_file["write"] == 1
    bench.route(2)
    bench.turn_until(lambda: bench.told() == ["OK", "OK"])
    assert bench.journal.count("the plan is saved") == 1
    assert bench.core.counters.state_file["write"] == 1


def test_a_stopping_loop_waits_for_the_plan_and_answers_the_administrator(bench: Bench) -> None:
    bench.join(W1)
    bench.turn()
    bench.disk.clear()
    bench.route(1)
    bench.turn()
    bench.loop.stop()
    ending = threading.Thread(target=bench.loop.run)
    ending.start()
    assert bench.told() == []
    bench.disk.set()
    ending.join(10)
    assert not ending.is_alive()
    assert bench.told() == ["OK"]


def test_a_stopping_loop_does_not_wait_for_ever_for_a_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("broker.io.loop.SAVE_S", 0.05)
    bench.join(W1)
    bench.turn()
    bench.disk.clear()
    bench.route(1)
    bench.turn()
    bench.loop.stop()
    with caplog.at_level(logging.ERROR):
        bench.loop.run()
    assert "state.json is not written after 0.05 s" in caplog.text
    assert bench.told() == []
    bench.disk.set()


def test_a_stopping_loop_ends_when_its_open_calls_have_ended(bench: Bench) -> None:
    bench.join(W1)
    bench.call(A, b"id")
    bench.turn()
    bench.loop.stop()
    bench.answer(W1)
    bench.loop.run()
    assert bench.answered(A) == 1
    assert (W1, b"\x00\x01" + protocol.RESET) in bench.backend.sent


def test_a_stopping_loop_waits_no_longer_than_its_limit(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.join(W1)
    bench.call(A, b"id")
    bench.turn()
    bench.loop.stop()
    assert not bench.loop._has_drained(bench.now_s)
    with caplog.at_level(logging.WARNING):
        assert bench.loop._has_drained(bench.now_s + 20)
    assert "stopping with 1 calls still open" in caplog.text


def test_a_second_stop_ends_the_loop_at_once(bench: Bench) -> None:
    bench.join(W1)
    bench.call(A, b"id")
    bench.turn()
    bench.loop.stop()
    bench.loop.stop()
    bench.loop.run()
    assert len(bench.core.calls) == 1


def test_another_thread_gets_an_answer_from_the_loop(bench: Bench) -> None:
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(bench.loop.ask(lambda: len(bench.core.calls), 10.0)))
    asking.start()
    while asking.is_alive():
        bench.loop.turn()
    assert answers == [0]


def test_another_thread_is_told_when_the_loop_does_not_turn(bench: Bench) -> None:
    with pytest.raises(TimeoutError):
        bench.loop.ask(lambda: None, 0.01)


def test_the_log_of_one_tick_is_bounded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(core_log.MAX_LINES_PER_TICK + 5):
        bench.core.outbox.note(f"line {number}")
    with caplog.at_level(logging.INFO):
        bench.turn()
    assert len(caplog.records) == core_log.MAX_LINES_PER_TICK + 1
    assert "and 5 more" in caplog.text
