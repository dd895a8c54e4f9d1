"""The broker's message loop: moves messages between its sockets and the core, which makes all decisions."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector, SelectorKey
from typing import Any, TypeVar

import zmtp
from broker.core.core import Core
from broker.core.state import counters
from broker.core.state.access import AccessRules
from broker.core.state.counters import ADMIN_SOCKET, CLIENT_SOCKET, WORKER_SOCKET
from broker.core.state.outbox import ToClient, ToWorker
from broker.io.addresses import network_of
from broker.io.core_log import CoreLog
from broker.io.keyring import Keyring
from broker.io.peer_limits import ADMINS, CLIENTS, WORKERS, Connections, with_connections
from broker.io.plan_writer import PlanWriter
from broker.io.security import Security
from broker.io.sockets import OpenRouter, open_router
from broker.settings import BrokerSettings
from cluster.runtime import busy_poll
from cluster.runtime.busy_poll import BusyPoll
from cluster.runtime.waker import Waker
from zmtp.errors import StalledError, UnreachableError
from zmtp.router import Router

log = logging.getLogger(__name__)

BURST = 64
"""Messages, approximately, that the loop receives before it sends. What arrives together is dispatched in one batch.
More would delay every call while one client floods; less would make smaller batches."""

MAX_WAIT_S = 0.1
"""Longest wait for a message, in seconds, so that ticks come in time."""

TICK_S = 0.1
"""Least time between two ticks of the core, in seconds: under load, a tick each turn is not needed."""

MAX_FAILED_TURNS = 100
"""A broker of which so many turns in a row raise an exception ends, and supervisor starts it again."""

FLUSH_S = 1.0
"""How long the last messages may take to leave when the broker stops, in seconds."""

SAVE_S = 3.0
"""How long the last plan may take to be written when the broker stops, in seconds."""

_NEVER_S = float("inf")

Answer = TypeVar("Answer")


class Loop:
    """Runs a core over its sockets."""

    def __init__(
        self,
        core: Core,
        settings: BrokerSettings,
        plans: PlanWriter,
        connections: Connections,
        security: Security,
        *,
        clock: Callable[[], float] = time.monotonic,
        open_router: OpenRouter = open_router,
    ) -> None:
        """Bind the addresses.

        Args:
            core: makes the decisions.
            settings: addresses and times.
            plans: saves what the next broker has to know.
            connections: how many each socket may have.
            security: which peers each socket accepts.
            clock: returns monotonic seconds.
            open_router: opens a socket; tests pass one that needs none.

        Raises:
            ConfigError: if an address cannot be bound.
        """
        self._core = core
        self._plans = plans
        self._settings = settings
        self._clock = clock
        self._selector = DefaultSelector()
        self._busy_poll = BusyPoll(self._selector.select, busy_poll.limit_us(settings.busy_poll_us))
        clients = with_connections(CLIENTS, connections.clients)
        workers = with_connections(WORKERS, connections.workers)
        for_clients, for_workers = security.mechanism(CLIENT_SOCKET), security.mechanism(WORKER_SOCKET)
        self._frontend = open_router("BROKER_FRONTEND", settings.frontend, self._selector, clients, for_clients)
        self._backend = open_router("BROKER_BACKEND", settings.backend, self._selector, workers, for_workers)
        self._admin: Router | None = None
        core.clients.address_of = lambda identity: network_of(self._frontend.address_of(identity))
        core.clients.name_of = self._frontend.name_of
        core.workers.name_workers_by(self._backend.name_of)
        core.server_registrations.address_of = self._backend.address_of
        core.server_registrations.name_of = self._backend.name_of
        # The backend before the frontend: answers free capacity for the calls that the frontend brings.
        self._handlers: list[tuple[Router, Callable[[bytes, list[Any], float], None]]] = [
            (self._backend, core.from_backend),
            (self._frontend, core.clients.message),
        ]
        if settings.admin:
            admins = with_connections(ADMINS, connections.admins)
            for_admins = security.mechanism(ADMIN_SOCKET)
            self._admin = open_router("BROKER_ADMIN", settings.admin, self._selector, admins, for_admins)
            self._handlers.append((self._admin, core.admin.message))
        self._routers = [(CLIENT_SOCKET, self._frontend), (WORKER_SOCKET, self._backend)]
        if self._admin is not None:
            self._routers.append((ADMIN_SOCKET, self._admin))
        self._waker = Waker()
        self._selector.register(self._waker, EVENT_READ, self._answer_questions)
        self._questions: deque[Callable[[], None]] = deque()
        self._core_log = CoreLog(core)
        self._stop_signals = 0
        self._drain_until_s: float | None = None
        self._next_dispatch_s = _NEVER_S
        self._ticked_s = float("-inf")
        self._is_closed = False
        self._is_damaged = False  # whether a step has raised, so that the core's tables may be wrong

    # -- for other threads and signal handlers --------------------------------------------------------------------

    def ask(self, question: Callable[[], Answer], timeout_s: float = 2.0) -> Answer:
        """Have the loop call a function between two messages, and return its result. For other threads.

        Raises:
            TimeoutError: if the loop has not called it within `timeout_s`.
        """
        future: Future[Answer] = Future()

        def call() -> None:
            try:
                future.set_result(question())
            except Exception as error:
                future.set_exception(error)

        self._tell(call)
        return future.result(timeout_s)

    def _tell(self, call: Callable[[], None]) -> None:
        """Have the loop call a function between two messages, and do not wait for it."""
        self._questions.append(call)
        self._waker.wake()

    def apply_keys(self, socket: str, ring: Keyring) -> None:
        """Drop the peers of a socket whose keys are not accepted any more. For other threads; does not wait."""
        self._tell(partial(self._drop_revoked, socket, ring))

    def _drop_revoked(self, socket: str, ring: Keyring) -> None:
        router = dict(self._routers)[socket]
        dropped = router.drop_keys(ring.name_of)
        if dropped:
            log.info("%d connections of %s were closed, because their keys were revoked", len(dropped), socket)
        if socket == CLIENT_SOCKET:
            now_s = self._clock()
            for identity in dropped:
                self._lose_client(identity, counters.REVOKED, now_s)
            self._core.access.forget(ring.names)

    def apply_access(self, rules: AccessRules | None) -> None:
        """Put access rules in force; None if their file is broken. For other threads; does not wait."""
        self._tell(partial(self._change_access, rules))

    def _change_access(self, rules: AccessRules | None) -> None:
        if rules is None:
            self._core.counters.access_file_failures += 1
        else:
            self._guarded(partial(self._core.change_access, rules, self._clock()), "a change", "the access rules")

    @property
    def signal_fd(self) -> int:
        """The descriptor to which Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._waker.signal_fd

    def stop(self) -> None:
        """Drain and stop; at the second call, stop at once. For signal handlers: only notes it, the loop acts."""
        self._stop_signals += 1

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`.

        Raises:
            Exception: if `MAX_FAILED_TURNS` turns in a row have raised one.
        """
        failed_turns = 0
        while self._stop_signals < 2:
            try:
                self.turn()
                failed_turns = 0
            except Exception:
                failed_turns += 1
                if failed_turns == MAX_FAILED_TURNS:
                    raise
                self._on_unforeseen("a turn")
            if self._stop_signals and self._has_drained(self._clock()):
                break
        self._core_log.log_notes()
        self._core.workers.reset_workers()
        self._send(self._clock())
        if self._plans.wait(SAVE_S):
            self._answer_questions(EVENT_READ, self._clock())
            self._send(self._clock())  # the answers to the administrators who waited for it

    def turn(self) -> None:
        """Wait for messages, handle them, and send what the core has to send."""
        ready = self._busy_poll.wait(self._max_wait_s())
        turn_s = self._clock()
        # The sockets before the timers: after a pause of the broker, the messages of that time count first.
        handled = newly = self._receive(ready, turn_s)
        while newly and handled < BURST and (more := self._selector.select(0)):
            newly = self._receive(more, turn_s)
            handled += newly
        now_s = self._clock()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._tick(now_s)
        for identity in _take_all(self._backend.disconnected):
            self._lose_worker(identity, now_s)
        self._backend.timed_out.clear()
        if self._is_damaged:
            self._repair(now_s)
        self._send(now_s)
        self._core.counters.turn_s.observe(self._clock() - turn_s, now_s)

    def close(self) -> None:
        """Close the sockets after the last messages have left; a second call has no effect."""
        if self._is_closed:
            return
        self._is_closed = True
        until_s = self._clock() + FLUSH_S
        while any(router.is_stalled for router, _ in self._handlers) and self._clock() < until_s:
            for key, io_events in self._selector.select(MAX_WAIT_S):
                if io_events & EVENT_WRITE:
                    key.data(EVENT_WRITE, self._clock())
            for router, _ in self._handlers:
                router.flush()
        for router, _ in self._handlers:
            router.close()
        self._selector.close()
        self._waker.close()

    def _has_drained(self, now_s: float) -> bool:
        """Begin to drain; return whether all calls have ended, or the time for it is over."""
        calls = self._core.calls
        if self._drain_until_s is None:
            self._drain_until_s = now_s + self._settings.drain_timeout_s
            self._core.drain()
            log.info("draining: %d calls are open", len(calls))
        if not calls:
            return True
        if now_s >= self._drain_until_s:
            log.warning("stopping with %d calls still open", len(calls))
            return True
        return False

    def _max_wait_s(self) -> float:
        if any(router.has_messages for router, _ in self._handlers):
            return 0.0
        next_s = self._next_dispatch_s
        return MAX_WAIT_S if next_s == _NEVER_S else max(0.0, min(MAX_WAIT_S, next_s - self._clock()))

    # -- receiving ------------------------------------------------------------------------------------------------

    def _receive(self, ready: list[tuple[SelectorKey, int]], now_s: float) -> int:
        """Read the sockets that are ready, and handle messages; return how many."""
        for key, io_events in ready:
            key.data(io_events, now_s)
        if self._backend.routers:
            self._greet_servers(now_s)
        count = 0
        for router, handle in self._handlers:
            if not router.has_messages:
                continue
            for identity, frames in router.take(BURST):
                count += 1
                try:
                    handle(identity, frames, now_s)
                except Exception:
                    self._on_unforeseen("a message", repr(identity))
                    if router is self._frontend:
                        failed = partial(self._core.clients.failed, identity, frames)
                        self._guarded(failed, "the answer to a message", repr(identity))
        return count

    def _greet_servers(self, now_s: float) -> None:
        for identity in _take_all(self._backend.routers):
            joined = partial(self._core.server_registrations.joined, identity, now_s)
            self._guarded(joined, "the arrival of a server", repr(identity))

    def _tick(self, now_s: float) -> None:
        try:
            self._core.tick(now_s)
        except Exception:
            self._on_unforeseen("a tick")
        for router, _ in self._handlers:
            router.check_timeouts(now_s)
        self._frontend.disconnected.clear()  # the core learns of a lost client when it sends to it
        self._frontend.timed_out.clear()
        self._core_log.log_misplaced_servers(_take_all(self._frontend.routers), now_s)
        if self._admin is not None:
            self._admin.disconnected.clear()
            self._admin.timed_out.clear()
            self._admin.routers.clear()
        peer_errors = [error for router, _ in self._handlers for error in _take_all(router.peer_errors)]
        self._core_log.log_bad_frames(peer_errors, now_s)
        self._count_connections(now_s)
        self._core_log.log_notes()

    def _count_connections(self, now_s: float) -> None:
        counts = self._core.counters
        for name, router in self._routers:
            counts.connections[name] = router.connections
            counts.accept_pauses[name] = router.accept_pauses
        self._core_log.log_full_sockets(now_s)

    def _on_unforeseen(self, step: str, of: str = "the core") -> None:
        """Log an exception that the core should not raise; all other calls continue. For an exception handler."""
        self._core.counters.bad_frames["internal"] += 1
        self._is_damaged = True
        log.exception("%s of %s raised an exception and was dropped", step, of)

    def _guarded(self, act: Callable[[], None], step: str, of: str) -> None:
        """Call a function of the core; if it raises, the tables are repaired in this turn or the next."""
        try:
            act()
        except Exception:
            self._on_unforeseen(step, of)

    def _repair(self, now_s: float) -> None:
        """Make the core whole again after an exception that ended a step half done."""
        self._is_damaged = False
        try:
            ended = self._core.repair(now_s)
        except Exception:
            self._on_unforeseen("a repair")
        else:
            log.warning("the tables of the broker were rebuilt; %d calls had to be ended", ended)

    def _answer_questions(self, _io_events: int, _now_s: float) -> None:
        self._waker.clear()
        while self._questions:
            self._questions.popleft()()

    # -- sending --------------------------------------------------------------------------------------------------

    def _send(self, now_s: float) -> None:
        to_clients, to_workers = self._dispatch(now_s)
        while to_clients or to_workers:  # a send to a lost peer may produce further messages
            self._send_to_workers(to_workers, now_s)
            self._send_to_clients(to_clients, now_s)
            to_clients, to_workers = self._dispatch(now_s)
        plan = self._core.deployment.take_plan()
        if plan is not None:
            changes = self._core.deployment.plan.changes
            self._plans.save(plan, lambda is_on_disk: self._tell(partial(self._on_plan_saved, changes, is_on_disk)))
        for identity, event in self._core.outbox.take_admins():
            self._send_to_admin(identity, event)
        for router, _ in self._handlers:
            router.flush()

    def _on_plan_saved(self, changes: int, is_on_disk: bool) -> None:
        try:
            self._core.plan_saved(changes, is_on_disk=is_on_disk)
        except Exception:
            self._on_unforeseen("a saved plan")

    def _dispatch(self, now_s: float) -> tuple[list[ToClient], list[ToWorker]]:
        """Have the core dispatch waiting calls; return all messages that are to be sent."""
        try:
            self._next_dispatch_s = self._core.dispatch(now_s)
        except Exception:
            self._on_unforeseen("the dispatch")
        return self._core.outbox.take()

    def _send_to_workers(self, to_workers: list[ToWorker], now_s: float) -> None:
        for identity, frames in to_workers:
            try:
                self._backend.send(identity, zmtp.encode_message(frames))
            except UnreachableError:
                self._lose_worker(identity, now_s)
            except Exception:
                self._on_unforeseen("a message to a worker", repr(identity))

    def _send_to_clients(self, to_clients: list[ToClient], now_s: float) -> None:
        for identity, event in to_clients:
            try:
                self._frontend.send(identity, zmtp.encode_event(event))
            except UnreachableError:
                self._lose_client(identity, counters.UNREACHABLE, now_s)
            except StalledError:
                self._lose_client(identity, counters.STALLED, now_s)
            except Exception:
                self._on_unforeseen("a message to a client", repr(identity))

    def _lose_worker(self, identity: bytes, now_s: float) -> None:
        lost = partial(self._core.backend_lost, identity, now_s, is_timeout=identity in self._backend.timed_out)
        self._guarded(lost, "the loss of a worker", repr(identity))

    def _lose_client(self, identity: bytes, reason: str, now_s: float) -> None:
        lost = partial(self._core.clients.lost, identity, reason, now_s)
        self._guarded(lost, "the loss of a client", repr(identity))

    def _send_to_admin(self, identity: bytes, event: bytes) -> None:
        assert self._admin is not None
        try:
            self._admin.send(identity, zmtp.encode_event(event))
        except (UnreachableError, StalledError):
            self._core.admin.client_lost(identity)


def _take_all(items: list[Any]) -> list[Any]:
    """Return the items of a list, and empty it."""
    taken = items[:]
    items.clear()
    return taken
