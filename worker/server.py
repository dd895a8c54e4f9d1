"""The worker's message loop: registers with the broker, hands calls to the models' runners, sends their answers.

The only module of the worker that touches ZeroMQ. What it says and hears is written down in docs/protocol.md.
"""

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Mapping

import zmq

from cluster import events, protocol
from cluster.descriptions import write_description
from cluster.protocol import WorkerDescription
from cluster.waker import Waker
from worker.metrics import WorkerMetrics
from worker.models import HostedModel
from worker.procedures import Procedures
from worker.runner import Call, ModelRunner, Registration
from worker.settings import WorkerSettings
from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

POLL_MS = 250
"""Longest wait for a message, in milliseconds, so that what is due by time comes in time."""

READY_INTERVAL_S = 0.5
"""Seconds between two READYs while none has been accepted."""

STATE_LOADING = "loading its models"
STATE_CONNECTING = "not registered with the broker"
STATE_READY = "ready"
STATE_DRAINING = "draining"


class RefusedError(Exception):
    """The broker does not want this worker; the text says so and why."""


class Server:
    """Serves a worker's procedures to the broker."""

    def __init__(self, settings: WorkerSettings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._waker = Waker()
        self._done: deque[Call] = deque()
        self._stop_signals = 0
        self._models: Mapping[str, HostedModel] = {}
        self._procedures: Procedures | None = None
        self._runners: dict[str, ModelRunner] = {}
        self._registration = Registration("")
        self._welcome = False  # the broker has accepted the READY
        self._may_be_known = False  # the broker has got a READY, and may send work
        self._drain_agreed = False
        self._running: set[Call] = set()  # of this and former registrations
        self._sent_ready_s = self._sent_ping_s = self._heard_s = float("-inf")
        self.state = STATE_LOADING
        self.turned_s = time.monotonic()

    @property
    def signal_fd(self) -> int:
        """Where Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._waker.signal_fd

    def stop(self) -> None:
        """Drain, then stop; called again: stop at once. For signal handlers: it only notes, the loop acts."""
        self._stop_signals += 1

    def serve(self, models: Mapping[str, HostedModel], procedures: Procedures) -> None:
        """Serve until `stop`.

        Args:
            models: what is hosted, by qualified name.
            procedures: what is answered.

        Raises:
            RefusedError: if the broker sends this worker away.
        """
        self.turned_s = time.monotonic()
        self._models = models
        self._procedures = procedures
        self._runners = {
            name: ModelRunner(name, model.description.slots, self._finished) for name, model in models.items()
        }
        watchdog = Watchdog(max(model.description.timeout_s for model in models.values()))
        self._register_anew("starting")
        drain_until_s: float | None = None
        while self._stop_signals < 2:
            self._wait()
            self._receive()
            self._send_answers()
            now_s = self.turned_s = time.monotonic()
            if self._stop_signals:
                if drain_until_s is None:
                    drain_until_s = now_s + self._settings.drain_timeout_s
                    self._start_draining()
                if self._has_drained() or now_s >= drain_until_s:
                    break
            self._do_what_is_due(now_s)
            watchdog.look(self._running, now_s)
        watchdog.close()
        self._try_send([protocol.BYE])
        if self._registration.owed:
            log.warning("stopping with %d calls unanswered", len(self._registration.owed))

    def close(self) -> None:
        """Let the last messages leave, then close; may be called twice."""
        if self._context.closed:
            return
        if self._socket is not None:
            self._socket.close(linger=1000)
        self._context.term()
        self._waker.close()

    # -- the connection -----------------------------------------------------------------------------------------

    def _register_anew(self, reason: str) -> None:
        """Start again on a new socket: whatever was under way, the broker no longer waits for it from here."""
        self._registration.live = False
        self._registration = Registration(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
        self._welcome = self._may_be_known = False
        self._metrics.connected.set(0)
        self.state = STATE_DRAINING if self._stop_signals else STATE_CONNECTING
        if self._socket is not None:
            self._socket.close(linger=0)
        dealer = self._context.socket(zmq.DEALER)
        dealer.sndhwm = 0  # bounded by the room that this worker has
        dealer.rcvhwm = 0
        dealer.ipv6 = True  # as well as IPv4
        dealer.immediate = True  # nothing is queued for a broker that is not there
        dealer.reconnect_ivl = 100
        dealer.reconnect_ivl_max = 1000
        dealer.connect(self._settings.broker)
        self._socket = dealer
        self._heard_s = time.monotonic()
        self._sent_ready_s = float("-inf")
        log.info("registering with %s as %s (%s)", self._settings.broker, self._registration.id, reason)

    def _do_what_is_due(self, now_s: float) -> None:
        if now_s - self._heard_s >= protocol.SILENCE_S and self._welcome:
            self._register_anew(f"nothing heard from the broker for {protocol.SILENCE_S:g} s")
        if self._stop_signals:
            # A broker that cannot be reached waits for nothing from here.
            self._may_be_known = self._may_be_known and self._try_send([protocol.PING])
        elif not self._welcome:
            if now_s - self._sent_ready_s >= READY_INTERVAL_S:
                self._sent_ready_s = now_s
                ready = [protocol.READY, write_description(self._description())]
                self._may_be_known = self._try_send(ready) or self._may_be_known
        elif now_s - self._sent_ping_s >= protocol.WORKER_PING_INTERVAL_S:
            self._sent_ping_s = now_s
            self._try_send([protocol.PING])

    def _description(self) -> WorkerDescription:
        assert self._procedures is not None
        return WorkerDescription(
            protocol=protocol.VERSION,
            id=self._registration.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            metrics_address=self._settings.advertised_address(),
            models=[model.description for model in self._models.values()],
            procedures=self._procedures.descriptions,
        )

    def _try_send(self, frames: list[bytes]) -> bool:
        """Send, unless there is no connection: then there is nobody who waits for it."""
        assert self._socket is not None
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    # -- messages -----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        assert self._socket is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        if self._waker.fileno() in dict(poller.poll(POLL_MS)):
            self._waker.clear()

    def _receive(self) -> None:
        dealer = self._socket
        while dealer is self._socket:  # until it is empty, or was replaced
            assert dealer is not None
            try:
                kind, *parts = dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._heard_s = time.monotonic()
            self._handle(kind, parts)

    def _handle(self, kind: bytes, parts: list[bytes]) -> None:
        if kind == protocol.WORK:
            for number, payload in zip(parts[::2], parts[1::2], strict=True):
                self._start(number, payload)
        elif kind == protocol.CANCEL:
            self._registration.cancelled.update(self._registration.owed.intersection(parts))
        elif kind == protocol.WELCOME:
            if not self._welcome:
                log.info("registered as %s", self._registration.id)
            self._welcome = True
            self._metrics.connected.set(1)
            self.state = STATE_READY
        elif kind == protocol.RESET:
            self._register_anew("told to by the broker")
        elif kind == protocol.DRAIN:
            self._drain_agreed = True
        elif kind == protocol.BYE:
            reason = parts[0].decode("utf-8", "replace") if parts else "it gave no reason"
            raise RefusedError(f"the broker at {self._settings.broker} refuses this worker: {reason}")

    def _start(self, number: bytes, payload: bytes) -> None:
        assert self._procedures is not None
        self._registration.owed.add(number)
        event = events.read_event(payload)
        procedure = self._procedures.find(event)
        if procedure is None:  # the broker sends only what READY named
            self._send_answer(
                number, protocol.REFUSE, events.worker_error("NameError", "not a procedure of this worker")
            )
            return
        call = Call(self._registration, number, procedure, event, payload)
        self._running.add(call)
        self._runners[procedure.description.model].submit(call)

    def _finished(self, call: Call) -> None:
        self._done.append(call)
        self._waker.wake()

    def _send_answers(self) -> None:
        while self._done:
            call = self._done.popleft()
            self._running.remove(call)
            if call.registration is self._registration and call.answer is not None:
                self._send_answer(call.number, *call.answer)

    def _send_answer(self, number: bytes, kind: bytes, event: bytes) -> None:
        self._registration.owed.discard(number)
        self._registration.cancelled.discard(number)
        self._try_send([kind, number, event])

    # -- stopping -----------------------------------------------------------------------------------------------

    def _start_draining(self) -> None:
        log.info("draining: %d calls are under way", len(self._registration.owed))
        self.state = STATE_DRAINING
        self._try_send([protocol.DRAIN])

    def _has_drained(self) -> bool:
        # Until the broker has agreed, work may be on its way.
        return not self._may_be_known or (self._drain_agreed and not self._registration.owed)
