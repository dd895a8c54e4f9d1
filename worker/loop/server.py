"""The worker's message loop: registers with the broker, has the models answer its calls, sends the answers.

The only module of the worker that touches ZeroMQ. What it says and hears is written down in docs/protocol.md. Which of
the threads runs the loop is decided in `leadership`; all but `serve`, `stop` and `close` is the leader's.
"""

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterable

import zmq
import zmq.backend

from cluster.runtime.waker import Waker
from cluster.wire import events, protocol
from cluster.wire.descriptions import write_description
from cluster.wire.pairs import LARGE_BYTES, read_pairs, write_pairs
from cluster.wire.protocol import Version, WorkerDescription, model_source
from worker.http.metrics import WorkerMetrics
from worker.jobs.job import Call, Job, Registration
from worker.jobs.long_job import Stream
from worker.loop.hosted import Hosted
from worker.loop.leadership import PATIENCE_S, Leadership
from worker.loop.watchdog import Watchdog
from worker.models.loader import Loader
from worker.models.models import HostedModel
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

POLL_MS = 250
"""Longest wait for a message, in milliseconds, so that what is due by time comes in time."""

LOADING_S = 600.0
"""How long a model that is being loaded may hold the interpreter's lock, in seconds, before the process is ended."""

READY_INTERVAL_S = 0.5
"""Seconds between two READYs while none has been accepted."""

STATE_LOADING = "loading its models"
STATE_CONNECTING = "not registered with the broker"
STATE_READY = "ready"
STATE_DRAINING = "draining"

# Plain numbers, and the methods of pyzmq's C layer: its Python layer above costs several times as much.
NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
receive_frame = zmq.backend.Socket.recv
send_frame = zmq.backend.Socket.send


class RefusedError(Exception):
    """The broker does not want this worker; the text says so and why."""


class Server:
    """Serves a worker's procedures to the broker."""

    def __init__(self, settings: WorkerSettings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._poller = zmq.Poller()
        self._waker = Waker()
        self._leadership = Leadership()
        self._failure: BaseException | None = None  # what ended the loop
        self._done: deque[Job] = deque()  # that others than the leader have run
        self._stop_signals = 0
        self._drain_until_s: float | None = None
        self._hosted = Hosted(metrics, expose_tracebacks=settings.expose_tracebacks)
        self._loader = Loader(self._waker.wake)
        self._watchdog = Watchdog()
        self._registration = Registration("")
        self._welcome = False  # the broker has accepted the READY
        self._may_be_known = False  # the broker has got a READY, and may send work
        self._drain_agreed = False
        self._running: set[Job] = set()  # of this and former registrations
        self._streams: dict[bytes, Stream] = {}  # of this registration, by the number of the call
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

    def serve(self, models: Iterable[HostedModel]) -> None:
        """Serve until `stop`. For the main thread, which only watches, so that signals always find it awake.

        Args:
            models: what is hosted at first.

        Raises:
            RefusedError: if the broker sends this worker away.
        """
        self.turned_s = time.monotonic()
        for model in models:
            self._hosted.add(model, is_configured=True)
        self._register_anew("starting")
        self._do_what_is_due(self.turned_s)
        self._leadership.start(1 + self._hosted.slots, self._lead)
        while not self._leadership.over.wait(PATIENCE_S if self._running else POLL_MS / 1000):
            now_s = time.monotonic()
            self._leadership.relieve(now_s)
            longest_s = max(self._hosted.longest_timeout_s, LOADING_S if self._loader.unfinished else 0.0)
            self._watchdog.look(tuple(self._running), longest_s, now_s)
        self._watchdog.close()
        if self._failure is not None:
            raise self._failure
        self._try_send([protocol.BYE])
        if self._registration.owed:
            log.warning("stopping with %d calls unanswered", len(self._registration.owed))

    def _lead(self, term: int) -> None:
        """Run the loop, until it is over or another thread leads."""
        try:
            job = self._turn_until_away(term)
        except BaseException as error:
            self._failure = error
            job = None
        if job is None:
            self._leadership.over.set()
            return
        self._done.append(job)
        self._waker.wake()

    def _turn_until_away(self, term: int) -> Job | None:
        """Turn the loop until it is over (None) or another leads; then there is a job that this thread has run."""
        while True:
            while self._done:
                self._finish(self._done.popleft())
            if self._loader.unfinished:
                self._take_loaded()
            for desk in tuple(self._hosted.desks.values()):  # one job of each, then a look at what has come meanwhile
                job = desk.take()
                if job is None:
                    continue
                self._running.add(job)
                if not desk.is_quick:
                    self._leadership.hand_over()
                    job.run()
                    return job
                self._leadership.go_away()
                job.run()
                if not self._leadership.come_back(term):
                    return job
                self._finish(job)
            self._wait(0 if any(desk.has_work for desk in self._hosted.desks.values()) else POLL_MS)
            self._receive()  # before a look at the clock: our own pause is not the broker's silence
            now_s = self.turned_s = time.monotonic()
            if self._stop_signals and self._is_over(now_s):
                return None
            self._do_what_is_due(now_s)

    def _is_over(self, now_s: float) -> bool:
        if self._drain_until_s is None:
            self._drain_until_s = now_s + self._settings.drain_timeout_s
            self._start_draining()
        return self._stop_signals > 1 or self._has_drained() or now_s >= self._drain_until_s

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
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._say(stream)  # it has to end, for nobody
        self._welcome = self._may_be_known = False
        self._metrics.connected = False
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
        self._poller = zmq.Poller()
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(self._waker, zmq.POLLIN)
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
        return WorkerDescription(
            protocol=protocol.VERSION,
            id=self._registration.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            metrics_address=self._settings.advertised_address(),
            models=self._hosted.descriptions,
            loads=True,
        )

    def _try_send(self, frames: list[bytes]) -> bool:
        """Send, unless there is no connection: then there is nobody who waits for it."""
        dealer = self._socket
        assert dealer is not None
        try:
            for frame in frames[:-1]:
                send_frame(dealer, frame, NOBLOCK_MORE)
            if len(frames[-1]) < LARGE_BYTES:
                send_frame(dealer, frames[-1], NOBLOCK)
            else:
                send_frame(dealer, frames[-1], NOBLOCK, False)
        except zmq.Again:  # at the first frame
            return False
        return True

    # -- messages -----------------------------------------------------------------------------------------------

    def _wait(self, wait_ms: int) -> None:
        for source, _ in self._poller.poll(wait_ms):
            if source == self._waker.fileno():
                self._waker.clear()

    def _receive(self) -> None:
        dealer = self._socket
        while dealer is self._socket:  # until it is empty, or was replaced
            assert dealer is not None
            parts: list[bytes] = []
            more = True
            try:
                while more:
                    frame = receive_frame(dealer, NOBLOCK, False)
                    more = frame.more
                    parts.append(frame.bytes)
            except zmq.Again:
                return
            self._heard_s = time.monotonic()
            self._handle(parts[0], parts[1:])

    def _handle(self, kind: bytes, parts: list[bytes]) -> None:
        if kind == protocol.WORK:
            self._take(parts[0], parts[1:])
        elif kind == protocol.MORE:
            self._make_room(*parts)
        elif kind == protocol.CANCEL:
            self._cancel(parts)
        elif kind == protocol.LOAD:
            number, entry = parts
            self._watchdog.arm(max(self._hosted.longest_timeout_s, LOADING_S))
            self._loader.load(self._registration, number, entry)
        elif kind == protocol.UNLOAD:
            self._unload(*parts)
        elif kind == protocol.WELCOME:
            if not self._welcome:
                log.info("registered as %s", self._registration.id)
            self._welcome = True
            self._metrics.connected = True
            self.state = STATE_READY
        elif kind == protocol.RESET:
            self._register_anew("told to by the broker")
        elif kind == protocol.DRAIN:
            self._drain_agreed = True
        elif kind == protocol.BYE:
            reason = parts[0].decode("utf-8", "replace") if parts else "it gave no reason"
            raise RefusedError(f"the broker at {self._settings.broker} refuses this worker: {reason}")

    def _take(self, work_name: bytes, parts: list[bytes]) -> None:
        calls = [Call(number, events.read_event(payload), payload) for number, payload in read_pairs(parts)]
        numbers = [call.number for call in calls]
        self._registration.owed.update(numbers)
        procedure = self._hosted.find(work_name)
        if procedure is None:  # the broker sends only what READY and LOADED named
            error = events.encode_worker_error("NameError", "not a procedure of this worker")
            self._forget(numbers)
            self._try_send(write_pairs(protocol.REFUSE, [(number, error) for number in numbers]))
            return
        for job in procedure.jobs(self._registration, calls):
            if isinstance(job, Stream):
                self._streams[job.calls[0].number] = job
            self._hosted.desks[job.model.key].put(job)

    def _make_room(self, number: bytes, slots: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.add_slots(int.from_bytes(slots, "big"))
            self._say(stream)

    def _cancel(self, numbers: list[bytes]) -> None:
        self._registration.cancelled.update(self._registration.owed.intersection(numbers))
        for number in numbers:
            if number in self._streams:
                self._say(self._streams[number])

    # -- jobs ---------------------------------------------------------------------------------------------------

    def _finish(self, job: Job) -> None:
        self._running.remove(job)
        job.is_queued = False
        desk = self._hosted.desks.get(job.model.key)
        if desk is not None:  # or nobody waits for what is left of a model that was unloaded
            desk.done(job)
        self._say(job)

    def _say(self, job: Job) -> None:
        """Send what a job has to say, and let it wait for its next turn if it wants one, unless it does already."""
        if job.is_queued:
            return
        if job.registration is self._registration:
            self._send_answers(job)
        desk = self._hosted.desks.get(job.model.key)
        if job.wants_to_run and desk is not None:
            desk.put(job)

    def _send_answers(self, job: Job) -> None:
        answers = job.take_answers()
        if job.is_over:
            self._forget([call.number for call in job.calls])
        for kind in (protocol.REPLY, protocol.REFUSE):
            pairs = [(number, event) for number, (answer_kind, event) in answers if answer_kind is kind]
            if pairs:
                self._try_send(write_pairs(kind, pairs))

    def _forget(self, numbers: list[bytes]) -> None:
        self._registration.owed.difference_update(numbers)
        self._registration.cancelled.difference_update(numbers)
        for number in numbers:
            self._streams.pop(number, None)

    # -- models that come and go -------------------------------------------------------------------------------

    def _take_loaded(self) -> None:
        while (one := self._loader.take()) is not None:
            if one.registration is not self._registration:
                log.warning("a model was loaded for a broker that has forgotten this worker, and is dropped")
                continue
            error = one.error or self._objection(one.model)
            if one.model is None or error:
                log.warning("a model was not loaded: %s", error)
                self._try_send([protocol.FAILED, one.number, error.encode("utf-8", "replace")])
                continue
            description = self._hosted.add(one.model)
            self._leadership.grow_to(1 + self._hosted.slots)
            log.info("loaded %s %s", *description.key)
            self._try_send([protocol.LOADED, one.number, write_description(description)])

    def _objection(self, model: HostedModel | None) -> str:
        """Why a model that could be loaded cannot be hosted: another has its name; empty if it can."""
        there = self._hosted.get(model.description.key) if model is not None else None
        if model is None or there is None or model_source(there.entry) == model_source(model.description.entry):
            return ""
        return (
            f"the qualified name {there.qualified_name!r} and the version {there.version} are those of "
            f"{model_source(there.entry)} already: rename the model, or give it a version of its own"
        )

    def _unload(self, number: bytes, name: bytes, version: bytes) -> None:
        self._hosted.remove((name.decode(), Version.read(version.decode())))
        log.info("unloaded %s %s", name.decode(), version.decode())
        self._try_send([protocol.UNLOADED, number])

    # -- stopping -----------------------------------------------------------------------------------------------

    def _start_draining(self) -> None:
        log.info("draining: %d calls are under way", len(self._registration.owed))
        self.state = STATE_DRAINING
        self._try_send([protocol.DRAIN])

    def _has_drained(self) -> bool:
        # Until the broker has agreed, work may be on its way.
        return not self._may_be_known or (self._drain_agreed and not self._registration.owed)
