"""The broker's message loop: it moves messages between its routers and the core, which decides about them."""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector, SelectorKey
from typing import Any, TypeVar

import zmtp
from broker.core.core import Core
from broker.core.state import counters
from broker.core.state.outbox import ToClient, ToWorker
from broker.core.state.plan import Plan
from broker.settings import BrokerSettings
from cluster.runtime.settings import ConfigError, cannot_bind
from cluster.runtime.waker import Waker
from cluster.wire import protocol
from zmtp.errors import StalledError, UnreachableError
from zmtp.limits import PeerLimits
from zmtp.router import Router

log = logging.getLogger(__name__)

BURST = 64
"""About so many messages are taken before anything is sent, as long as there are any: what comes together goes in one
batch. More would make everybody's calls wait while somebody floods; less would send smaller batches."""

PATIENCE_S = 0.1
"""Longest wait for a message, in seconds, so that the core's ticks come in time."""

TICK_S = 0.1
"""Least time between two ticks, in seconds: under load there is no need for one each turn."""

NOTES_A_TICK = 10
"""Lines about workers that are logged at one time; a peer must not fill the disk."""

CLIENTS = PeerLimits(
    heartbeat_interval_s=20.0,
    heartbeat_timeout_s=40.0,
    unacknowledged_s=7.0,
    max_message_bytes=64 * 1024 * 1024,
    max_unsent_messages=4000,
    max_unsent_bytes=256 * 1024 * 1024,
    max_total_unsent_bytes=512 * 1024 * 1024,
)
"""For clients.

The heartbeats are for those that have nothing open and have gone without a word; the others get the heartbeats of their
calls. Not often, because thousands of clients are no rarity, and with patience: a client that computes while 1,000
messages wait for it reads no heartbeat.

The router drops a client that is cut off, or does not read while its kernel's buffers are full, after
`unacknowledged_s`. This frees what waits for it, and the next heartbeat to one of its calls fails. More messages may
wait for it than one client's calls of a model may be (`BROKER_QUEUE_CLIENT_CALLS`), so that all can be answered at one
moment. Items of many streams may be more; a client that asks for that many has to read them. Its largest result has
64 MiB.
"""

WORKERS = PeerLimits(
    heartbeat_interval_s=protocol.HEARTBEAT_INTERVAL_S, heartbeat_timeout_s=protocol.HEARTBEAT_TIMEOUT_S, ping_all=True
)
"""For workers. What waits for one is bounded by its room. A large answer is copied to the event for the client only."""

ADMINS = PeerLimits(
    max_message_bytes=1024 * 1024,
    max_unsent_messages=1000,
    max_unsent_bytes=16 * 1024 * 1024,
    max_total_unsent_bytes=16 * 1024 * 1024,
)
"""For administrators."""

FLUSH_S = 1.0
"""How long the last messages may take to leave when the broker stops, in seconds."""

_MOST_PATH_BYTES = 107  # of a socket in the file system, on Linux; elsewhere a few less
_NEVER_S = float("inf")

Answer = TypeVar("Answer")


class Loop:
    """Runs a core over its routers."""

    def __init__(
        self,
        core: Core,
        settings: BrokerSettings,
        keep: Callable[[Plan], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen at the addresses.

        Args:
            core: what decides.
            settings: addresses and times.
            keep: keeps what a next broker has to know.
            clock: monotonic seconds.

        Raises:
            ConfigError: if an address cannot be bound.
        """
        self._core = core
        self._keep = keep
        self._settings = settings
        self._clock = clock
        self._selector = DefaultSelector()
        self._frontend = self._router("BROKER_FRONTEND", settings.frontend, CLIENTS)
        self._backend = self._router("BROKER_BACKEND", settings.backend, WORKERS)
        self._admin = self._router("BROKER_ADMIN", settings.admin, ADMINS) if settings.admin else None
        # The backend before the frontend: answers make room for what the frontend brings.
        self._handlers: list[tuple[Router, Callable[[bytes, list[Any], float], None]]] = [
            (self._backend, core.worker_message),
            (self._frontend, core.client_message),
        ]
        if self._admin is not None:
            self._handlers.append((self._admin, core.admin_message))
        self._waker = Waker()
        self._selector.register(self._waker, EVENT_READ, self._answer_questions)
        self._questions: deque[Callable[[], None]] = deque()
        self._stop_signals = 0
        self._ticked_s = float("-inf")
        self._logged_bad_frames_s = float("-inf")
        self._logged_bad_frames = 0
        self._last_refused = ""
        self._is_closed = False

    def _router(self, setting: str, endpoint: str, limits: PeerLimits) -> Router:
        try:
            if endpoint.startswith("ipc://"):
                _refuse_if_taken(setting, endpoint, endpoint.removeprefix("ipc://"))
            with _private() if limits is ADMINS else nullcontext():
                return Router(endpoint, self._selector, limits)
        except OSError as error:
            raise cannot_bind(setting, endpoint, error) from error

    def ask(self, question: Callable[[], Answer], timeout_s: float = 2.0) -> Answer:
        """Have the loop call a function between two messages, and return what it returned. For other threads.

        Raises:
            TimeoutError: if the loop did not turn in time.
        """
        future: Future[Answer] = Future()

        def call() -> None:
            try:
                future.set_result(question())
            except Exception as error:
                future.set_exception(error)

        self._questions.append(call)
        self._waker.wake()
        return future.result(timeout_s)

    @property
    def signal_fd(self) -> int:
        """Where Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._waker.signal_fd

    def stop(self) -> None:
        """Drain, then stop; called again: stop at once. For signal handlers: it only notes, the loop acts."""
        self._stop_signals += 1

    def run(self) -> None:
        """Serve until `stop`."""
        drain_until_s: float | None = None
        while self._stop_signals < 2:
            ready = self._selector.select(self._patience_s())
            turn_s = self._clock()
            # The sockets before the timers: after a pause of the broker itself, what came meanwhile counts first.
            handled = newly = self._receive(ready, turn_s)
            while newly and handled < BURST and (more := self._selector.select(0)):
                newly = self._receive(more, turn_s)
                handled += newly
            now_s = self._clock()
            if now_s - self._ticked_s >= TICK_S:
                self._ticked_s = now_s
                self._tick(now_s)
            for identity in _taken(self._backend.disconnected):
                self._core.worker_lost(identity, now_s)
            self._send(now_s)
            self._core.counters.turn_s.observe(self._clock() - turn_s, now_s)
            if self._stop_signals:
                if drain_until_s is None:
                    drain_until_s = now_s + self._settings.drain_timeout_s
                    self._core.drain()
                    log.info("draining: %d calls are open", len(self._core.calls))
                if not self._core.calls:
                    break
                if now_s >= drain_until_s:
                    log.warning("stopping with %d calls still open", len(self._core.calls))
                    break
        self._log_notes()
        self._core.reset_workers()
        self._send(self._clock())

    def close(self) -> None:
        """Close the sockets, after the last messages have left; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        until_s = self._clock() + FLUSH_S
        while any(router.is_stalled for router, _ in self._handlers) and self._clock() < until_s:
            for key, events in self._selector.select(PATIENCE_S):
                if events & EVENT_WRITE:
                    key.data(EVENT_WRITE, self._clock())
            for router, _ in self._handlers:
                router.flush()
        for router, _ in self._handlers:
            router.close()
        self._selector.close()
        self._waker.close()

    def _patience_s(self) -> float:
        if any(router.has_messages for router, _ in self._handlers):
            return 0.0
        again_s = self._core.again_s
        return PATIENCE_S if again_s == _NEVER_S else max(0.0, min(PATIENCE_S, again_s - self._clock()))

    def _receive(self, ready: list[tuple[SelectorKey, int]], now_s: float) -> int:
        """Do what the selector says can be done; return how many messages were handled."""
        for key, events in ready:
            key.data(events, now_s)
        count = 0
        for router, handle in self._handlers:
            if not router.has_messages:
                continue
            for identity, frames in router.take(BURST):
                count += 1
                try:
                    handle(identity, frames, now_s)
                except Exception:
                    self._unforeseen(identity)
        return count

    def _tick(self, now_s: float) -> None:
        self._core.tick(now_s)
        for router, _ in self._handlers:
            router.check_timeouts(now_s)
        self._frontend.disconnected.clear()  # a client is missed when there is something for it
        if self._admin is not None:
            self._admin.disconnected.clear()
        self._log_bad_frames(now_s)
        self._log_notes()

    def _unforeseen(self, identity: bytes) -> None:
        """A message that nobody foresaw must not end every other call. For an exception handler."""
        self._core.counters.bad_frames["internal"] += 1
        log.exception("a message of %r was dropped", identity)

    def _send(self, now_s: float) -> None:
        to_clients, to_workers = self._core.take_sends(now_s)
        while to_clients or to_workers:  # a send that fails may make new ones
            self._send_to_workers(to_workers, now_s)
            self._send_to_clients(to_clients, now_s)
            to_clients, to_workers = self._core.take_sends(now_s)
        plan = self._core.take_plan()
        if plan is not None:
            self._keep(plan)  # before the answers to those who wanted it so
        for identity, event in self._core.take_admin_sends():
            self._send_to_admin(identity, event)
        for router, _ in self._handlers:
            router.flush()

    def _send_to_workers(self, to_workers: list[ToWorker], now_s: float) -> None:
        for identity, frames in to_workers:
            try:
                self._backend.send(identity, zmtp.encode_message(frames))
            except UnreachableError:
                self._core.worker_lost(identity, now_s)

    def _send_to_clients(self, to_clients: list[ToClient], now_s: float) -> None:
        for identity, event in to_clients:
            try:
                self._frontend.send(identity, zmtp.encode_event(event))
            except UnreachableError:
                self._core.client_lost(identity, counters.UNREACHABLE, now_s)
            except StalledError:
                self._core.client_lost(identity, counters.STALLED, now_s)

    def _send_to_admin(self, identity: bytes, event: bytes) -> None:
        assert self._admin is not None
        try:
            self._admin.send(identity, zmtp.encode_event(event))
        except (UnreachableError, StalledError):
            self._core.admin_lost(identity)

    def _answer_questions(self, _on_io_event: int, _now_s: float) -> None:
        self._waker.clear()
        while self._questions:
            self._questions.popleft()()

    def _log_notes(self) -> None:
        notes = self._core.take_notes()
        for note in notes[:NOTES_A_TICK]:
            log.info(note)
        if len(notes) > NOTES_A_TICK:
            log.info("... and %d more of this kind", len(notes) - NOTES_A_TICK)

    def _log_bad_frames(self, now_s: float) -> None:
        for router, _ in self._handlers:
            for text in _taken(router.peer_errors):
                self._core.counters.bad_frames["zmtp"] += 1
                self._last_refused = f"; a connection was closed: {text}"
        reasons = self._core.counters.bad_frames
        if reasons.total() > self._logged_bad_frames and now_s - self._logged_bad_frames_s >= 1.0:
            count, so_far = reasons.total() - self._logged_bad_frames, dict(+reasons)
            log.warning("%d bad frames dropped; so far: %s%s", count, so_far, self._last_refused)
            self._logged_bad_frames = reasons.total()
            self._logged_bad_frames_s = now_s
            self._last_refused = ""


def _taken(items: list[Any]) -> list[Any]:
    """What is in a list, which is empty then."""
    taken = items[:]
    items.clear()
    return taken


@contextmanager
def _private() -> Iterator[None]:
    """What is made meanwhile is for this user alone: who reaches an administrator's socket can run code on workers."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _refuse_if_taken(setting: str, endpoint: str, path: str) -> None:
    """Otherwise the path would be taken from another process that listens there, or from a file, without a word."""
    if len(path.encode()) > _MOST_PATH_BYTES:
        raise ConfigError(
            f"{setting}={endpoint!r} is too long: the path of a socket may have {_MOST_PATH_BYTES} bytes; "
            "choose a shorter path, such as ipc:///tmp/broker-admin.sock"
        )
    if Path(path).exists() and not Path(path).is_socket():
        raise ConfigError(f"{setting}={endpoint!r} is a file: choose a path where nothing is, or remove it")
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionError, FileNotFoundError):
        probe.connect(path)
        raise ConfigError(
            f"{setting}={endpoint!r} is taken: another process listens there; stop it or choose another path"
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
