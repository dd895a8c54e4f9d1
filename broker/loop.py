"""The broker's message loop: the only module that touches ZeroMQ. It moves messages; `routing` decides about them."""

import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import zmq
import zmq.backend

from broker import backlog, counters
from broker.backlog import Backlog
from broker.outbox import ToClient, ToWorker
from broker.plan import Plan
from broker.routing import Core
from broker.settings import BrokerSettings
from cluster import protocol
from cluster.events import Buffer
from cluster.pairs import LARGE_BYTES
from cluster.settings import WrongSettingError, cannot_bind
from cluster.waker import Waker

log = logging.getLogger(__name__)

BURST = 64
"""Messages taken from a socket before anything is sent, and the other socket has its turn. More would make everybody's
calls wait while somebody floods; less would send smaller batches."""

POLL_MS = 100
"""Longest wait for a message, in milliseconds, so that the core's ticks come in time."""

TICK_S = 0.1
"""Least time between two ticks, in seconds: under load there is no need for one each turn."""

NOTES_A_TICK = 10
"""Lines about workers that are logged at one time; a peer must not fill the disk."""

CLIENT_BACKLOG = 4000
"""Messages that may wait for a client that does not read, before it is dropped (ZeroMQ's high-water mark). More than
one client's calls of a model may be (`BROKER_QUEUE_CLIENT_CALLS`), so that all can be answered at one moment. Items of
many streams may be more; who asks for so many has to read them."""

CLIENT_UNREAD_MS = 7000
"""How long a client's kernel may confirm no byte of what is sent to it, in milliseconds; then its connection is closed
(`TCP_USER_TIMEOUT`), what waits for it is freed, and the next heartbeat to one of its calls fails. Such a client is cut
off, or does not read while its kernel's buffers are full."""

CLIENT_HEARTBEAT_MS = 20_000
CLIENT_SILENCE_MS = 60_000
"""ZeroMQ's own heartbeats on the frontend, in milliseconds, for clients that have nothing open and have gone without a
word; the others get the heartbeats of their calls. Not often, because thousands of clients are no rarity. Answers are
awaited with patience: a client that computes while 1,000 messages wait for it reads no heartbeat, and one that sends
16 MiB over a slow line answers none before it has sent all of that."""

LARGEST_FRAME_BYTES = 64 * 1024 * 1024
"""A frame beyond this is not even received: ZeroMQ closes the connection that sends it."""

MAX_ADMIN_BYTES = 1024 * 1024
"""A frame beyond this is not received from an administrator."""

HANDSHAKE_MS = 5000
"""How long a connection may take to say that it speaks ZeroMQ, in milliseconds; then it is closed."""

FLUSH_MS = 1000
"""How long the last messages may take to leave when the broker stops, in milliseconds."""

_DELIMITER = b""
_NEVER_S = float("inf")

Answer = TypeVar("Answer")

# Plain numbers, and the methods of pyzmq's C layer: its Python layer above costs more than the core.
NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
receive_frame = zmq.backend.Socket.recv
send_frame = zmq.backend.Socket.send


class Loop:
    """Runs a core over its ROUTER sockets."""

    def __init__(
        self,
        core: Core,
        settings: BrokerSettings,
        keep: Callable[[Plan], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the sockets.

        Args:
            core: what decides.
            settings: addresses and times.
            keep: keeps what a next broker has to know.
            clock: monotonic seconds.

        Raises:
            WrongSettingError: if an address cannot be bound.
        """
        self._core = core
        self._keep = keep
        self._settings = settings
        self._clock = clock
        self._context = zmq.Context()
        self._frontend = self._router("BROKER_FRONTEND", settings.frontend)
        self._backend = self._router("BROKER_BACKEND", settings.backend)
        self._admin = self._admin_router(settings.admin) if settings.admin else None
        self._waker = Waker()
        self._questions: deque[Callable[[], None]] = deque()
        self._backlog = Backlog()
        self._stop_signals = 0
        self._ticked_s = float("-inf")
        self._logged_bad_frames_s = float("-inf")
        self._logged_bad_frames = 0

    def _router(self, setting: str, endpoint: str) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.router_mandatory = True  # or messages to those who have gone would vanish without an error
        router.ipv6 = True  # as well as IPv4
        router.handshake_ivl = HANDSHAKE_MS
        router.linger = FLUSH_MS
        if setting == "BROKER_BACKEND":
            router.sndhwm = 0  # bounded by the workers' room
            router.rcvhwm = 0
            router.heartbeat_ivl = int(protocol.HEARTBEAT_INTERVAL_S * 1000)
            router.heartbeat_timeout = int(protocol.HEARTBEAT_TIMEOUT_S * 1000)
        else:
            router.sndhwm = CLIENT_BACKLOG
            router.maxmsgsize = LARGEST_FRAME_BYTES
            router.heartbeat_ivl = CLIENT_HEARTBEAT_MS
            router.heartbeat_timeout = CLIENT_SILENCE_MS
            router.tcp_maxrt = CLIENT_UNREAD_MS
            router.copy_threshold = backlog.SMALLEST_COUNTED_BYTES
        try:
            router.bind(endpoint)
        except zmq.ZMQError as error:
            raise cannot_bind(setting, endpoint, error) from error
        return router

    def _admin_router(self, endpoint: str) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.router_mandatory = True
        router.ipv6 = True
        router.linger = FLUSH_MS
        router.maxmsgsize = MAX_ADMIN_BYTES
        path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else None
        try:
            if path is not None:
                _refuse_if_taken(endpoint, path)
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            before = os.umask(0o177)  # who can connect can have the workers run any code
            try:
                router.bind(endpoint)
            finally:
                os.umask(before)
        except (zmq.ZMQError, OSError) as error:
            raise cannot_bind("BROKER_ADMIN", endpoint, error) from error
        return router

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
        poller = zmq.Poller()
        for source in (self._backend, self._frontend, self._admin, self._waker):
            if source is not None:
                poller.register(source, zmq.POLLIN)
        drain_until_s: float | None = None
        while self._stop_signals < 2:
            ready = dict(poller.poll(self._patience_ms()))
            turn_s = self._clock()
            # The sockets before the timers: after a pause of the broker itself, what came meanwhile counts first.
            # The backend before the frontend: answers make room for what the frontend brings.
            if self._backend in ready:
                self._receive(self._backend, self._core.worker_message)
            if self._frontend in ready:
                self._receive(self._frontend, self._core.client_message)
            if self._admin is not None and self._admin in ready:
                self._receive(self._admin, self._core.admin_message)
            now_s = self._clock()
            if now_s - self._ticked_s >= TICK_S:
                self._ticked_s = now_s
                self._core.tick(now_s)
                self._backlog.sweep()
                self._log_bad_frames(now_s)
                self._log_notes()
            self._send(now_s)
            if self._waker.fileno() in ready:
                self._answer_questions()
            self._core.counters.turn_s.observe(self._clock() - turn_s, now_s)
            if self._stop_signals:
                if drain_until_s is None:
                    drain_until_s = now_s + self._settings.drain_timeout_s
                    self._core.drain()
                    log.info("draining: %d calls are open", len(self._core.conversations))
                if not self._core.conversations:
                    break
                if now_s >= drain_until_s:
                    log.warning("stopping with %d calls still open", len(self._core.conversations))
                    break
        self._log_notes()
        self._core.farewell()
        self._send(self._clock())

    def close(self) -> None:
        """Close the sockets, after the last messages have left; may be called twice."""
        if self._context.closed:
            return
        self._frontend.close()
        self._backend.close()
        if self._admin is not None:
            self._admin.close()
        self._context.term()
        self._waker.close()

    def _patience_ms(self) -> int:
        again_s = self._core.again_s
        return POLL_MS if again_s == _NEVER_S else max(0, min(POLL_MS, ceil(1000 * (again_s - self._clock()))))

    def _receive(self, router: zmq.Socket[bytes], handle: Callable[[bytes, list[Any], float], None]) -> None:
        now_s = self._clock()
        # A large answer is copied into the event for the client, and only then.
        viewed_bytes = LARGE_BYTES if router is self._backend else LARGEST_FRAME_BYTES + 1
        for _ in range(BURST):
            try:
                identity = receive_frame(router, NOBLOCK)
            except zmq.Again:
                return
            frame = receive_frame(router, NOBLOCK, False)
            frames: list[Buffer] = [frame.bytes]
            while frame.more:
                frame = receive_frame(router, NOBLOCK, False)
                frames.append(frame.bytes if len(frame) < viewed_bytes else frame.buffer)
            try:
                handle(identity, frames, now_s)
            except Exception:
                self._unforeseen(identity)

    def _unforeseen(self, identity: bytes) -> None:
        """A message that nobody foresaw must not end every other conversation. For an exception handler."""
        self._core.counters.bad_frames["internal"] += 1
        log.exception("a message of %r was dropped", identity)

    def _send(self, now_s: float) -> None:
        to_clients, to_workers = self._core.take_sends(now_s)
        while to_clients or to_workers:  # a send that fails may make new ones
            for to_worker in to_workers:
                if not self._try_send_to_worker(to_worker):
                    self._core.worker_lost(to_worker[0], now_s)
            self._send_to_clients(to_clients, now_s)
            to_clients, to_workers = self._core.take_sends(now_s)
        plan = self._core.take_plan()
        if plan is not None:
            self._keep(plan)  # before the answers to those who wanted it so
        for identity, event in self._core.take_admin_sends():
            self._send_to_admin(identity, event)

    def _send_to_admin(self, identity: bytes, event: bytes) -> None:
        assert self._admin is not None
        try:
            send_frame(self._admin, identity, NOBLOCK_MORE)
        except zmq.ZMQError as error:
            _why(error)
            self._core.admin_lost(identity)
            return
        send_frame(self._admin, _DELIMITER, NOBLOCK_MORE)
        send_frame(self._admin, event, NOBLOCK)

    def _send_to_clients(self, to_clients: list[ToClient], now_s: float) -> None:
        router = self._frontend
        for identity, event in to_clients:
            is_counted = len(event) >= backlog.SMALLEST_COUNTED_BYTES
            if is_counted and not self._backlog.has_room(identity, len(event)):
                self._core.client_lost(identity, counters.STALLED, now_s)
                continue
            try:
                send_frame(router, identity, NOBLOCK_MORE)
            except zmq.ZMQError as error:
                self._core.client_lost(identity, _why(error), now_s)
                continue
            # Where the first frame could be sent, the others can.
            send_frame(router, _DELIMITER, NOBLOCK_MORE)
            if is_counted:
                self._backlog.add(identity, len(event), send_frame(router, event, NOBLOCK, False, True))
            else:
                send_frame(router, event, NOBLOCK)

    def _try_send_to_worker(self, send: ToWorker) -> bool:
        identity, frames = send
        router = self._backend
        try:
            send_frame(router, identity, NOBLOCK_MORE)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return False
        # Where the first frame could be sent, the others can.
        for frame in frames[:-1]:
            _send_frame(router, frame, NOBLOCK_MORE)
        _send_frame(router, frames[-1], NOBLOCK)
        return True

    def _answer_questions(self) -> None:
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
        reasons = self._core.counters.bad_frames
        if reasons.total() > self._logged_bad_frames and now_s - self._logged_bad_frames_s >= 1.0:
            log.warning("%d bad frames dropped; so far: %s", reasons.total() - self._logged_bad_frames, dict(+reasons))
            self._logged_bad_frames = reasons.total()
            self._logged_bad_frames_s = now_s


def _refuse_if_taken(endpoint: str, path: str) -> None:
    """ZeroMQ would take the path from another process that listens there, or a file, without a word."""
    if len(path.encode()) > zmq.IPC_PATH_MAX_LEN:
        raise WrongSettingError(
            f"BROKER_ADMIN={endpoint!r} is too long: the path of a socket may have {zmq.IPC_PATH_MAX_LEN} bytes; "
            "choose a shorter path, such as ipc:///tmp/broker-admin.sock"
        )
    if Path(path).exists() and not Path(path).is_socket():
        raise WrongSettingError(f"BROKER_ADMIN={endpoint!r} is a file: choose a path where nothing is, or remove it")
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionError, FileNotFoundError):
        probe.connect(path)
        raise WrongSettingError(
            f"BROKER_ADMIN={endpoint!r} is taken: another process listens there; stop it or choose another path"
        )


def _why(error: zmq.ZMQError) -> str:
    """Why a send to a client failed, as `counters` names it; another error than those is raised on."""
    if error.errno == errno.EHOSTUNREACH:
        return counters.UNREACHABLE
    if error.errno == errno.EAGAIN:
        return counters.STALLED
    raise error


def _send_frame(router: zmq.Socket[bytes], frame: bytes, flags: int) -> None:
    if len(frame) < LARGE_BYTES:
        send_frame(router, frame, flags)
    else:
        send_frame(router, frame, flags, False)
