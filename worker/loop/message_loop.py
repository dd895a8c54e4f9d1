"""The worker's message loop: takes the broker's messages, queues jobs, has them run, and sends their answers.

The leader runs it (`leadership`), so one thread at a time. It knows the connection only as a `Connection`, so tests
drive it with a fake one.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from cluster.wire import events, protocol
from cluster.wire.pairs import read_pairs, write_pairs
from worker.jobs.calls import Call
from worker.jobs.errors import NOT_HOSTED
from worker.jobs.hosted_models import HostedModels
from worker.jobs.job import Job
from worker.jobs.long_job import StreamJob
from worker.jobs.model_queue import ModelQueue
from worker.loop.connection import Connection
from worker.loop.leadership import Leadership
from worker.loop.load_orders import LoadOrders
from worker.loop.session import BrokerSession

POLL_MS = 250
"""Longest wait for a message, in milliseconds, so that READY, PING and time-outs are not late."""


class RefusedError(Exception):
    """The broker refuses this worker; the text says why."""


class MessageLoop:
    """The loop of one worker process.

    Attributes:
        running: the jobs that run at present, of this and of former registrations.
        turned_s: when the loop last went round, in monotonic seconds.
    """

    def __init__(
        self,
        connection: Connection,
        session: BrokerSession,
        hosted: HostedModels,
        orders: LoadOrders,
        leadership: Leadership,
        drain_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build.

        Args:
            connection: to the broker.
            session: the registration with the broker.
            hosted: the models.
            orders: to load and unload models.
            leadership: decides which thread runs the loop.
            drain_timeout_s: how long a stopping worker waits for its calls, in seconds.
            clock: tells monotonic seconds.
        """
        self._connection = connection
        self._session = session
        self._hosted = hosted
        self._orders = orders
        self._leadership = leadership
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._ready: dict[ModelQueue, None] = {}  # the queues that may have a job to run
        self._has_run: deque[Job] = deque()  # jobs that have run in another thread than the leader
        self._streams: dict[bytes, StreamJob] = {}  # of this registration, by call number
        self._stop_requests = 0
        self._drain_until_s: float | None = None
        self.running: set[Job] = set()
        self.turned_s = clock()

    # -- for other threads --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Drain, then end; end at once if called again. For signal handlers: it only notes the request."""
        self._stop_requests += 1

    def hand_back(self, job: Job) -> None:
        """Give a job back that has run in a thread that does not lead any more."""
        self._has_run.append(job)
        self._connection.wake()

    # -- for the leader -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register with the broker."""
        now_s = self.turned_s = self._clock()
        self._register("starting", now_s)
        self._session.send_due(now_s)

    def run(self, term: int) -> Job | None:
        """Run until the loop ends or another thread leads.

        Args:
            term: of this leader.

        Returns:
            None if the loop has ended. Otherwise the job that this thread has run while another became the leader.

        Raises:
            RefusedError: if the broker refuses this worker.
        """
        session, loader = self._session, self._orders.loader
        while True:
            while self._has_run:
                self._on_run_ended(self._has_run.popleft())
            if loader.unfinished:
                self._orders.host_loaded()
                self._ready |= dict.fromkeys(queue for queue in self._hosted.queues.values() if queue.has_work)
            if (job := self._run_jobs(term)) is not None:
                return job
            self._connection.wait(0 if self._ready else POLL_MS, may_poll=not self.running and not loader.unfinished)
            now_s = self._receive()
            if self._stop_requests and self._has_ended(now_s):
                return None
            if session.is_registered and now_s - session.last_received_s >= protocol.SILENCE_S:
                self._register(f"nothing received from the broker for {protocol.SILENCE_S:g} s", now_s)
            session.send_due(now_s)

    def _run_jobs(self, term: int) -> Job | None:
        """Run one job of each model that has work; return a job if another thread became the leader meanwhile."""
        for queue in tuple(self._ready):
            job = queue.take()
            if not queue.has_work:
                del self._ready[queue]
            if job is None:
                continue
            self.running.add(job)
            if not queue.is_quick:
                self._leadership.promote_new_leader()
                job.run()
                return job
            self._leadership.start_job(job)
            job.run()
            if not self._leadership.end_job(term):
                return job
            self._on_run_ended(job)
        return None

    def _receive(self) -> float:
        """Handle the messages that have come; return the time."""
        session = self._session
        messages = self._connection.receive()
        now_s = self.turned_s = self._clock()
        if messages:  # before the time-outs: a pause of this process is not a silence of the broker
            session.last_received_s = now_s
            registration = session.registration
            for frames in messages:
                self._handle(frames[0], frames[1:])
                if session.registration is not registration:
                    break  # the remaining messages are for the registration that has ended
        return now_s

    def _register(self, reason: str, now_s: float) -> None:
        self._session.register(reason, now_s)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._advance(stream)  # the job runs once more, and ends because its registration has

    def _has_ended(self, now_s: float) -> bool:
        if self._drain_until_s is None:
            self._drain_until_s = now_s + self._drain_timeout_s
            self._session.start_draining()
        return self._stop_requests > 1 or self._session.has_drained or now_s >= self._drain_until_s

    # -- messages -----------------------------------------------------------------------------------------------

    def _handle(self, kind: bytes, parts: list[bytes]) -> None:
        if kind == protocol.WORK:
            self._queue_calls(parts[0], parts[1:])
        elif kind == protocol.MORE:
            self._add_slots(*parts)
        elif kind == protocol.CANCEL:
            self._cancel(parts)
        elif kind == protocol.LOAD:
            self._orders.load(*parts)
        elif kind == protocol.UNLOAD:
            self._orders.unload(*parts)
        elif kind == protocol.WELCOME:
            self._session.on_welcome()
        elif kind == protocol.RESET:
            self._register("the broker does not know this worker", self._clock())
        elif kind == protocol.DRAIN:
            self._session.on_drain()
        elif kind == protocol.BYE:
            reason = parts[0].decode("utf-8", "replace") if parts else "no reason given"
            raise RefusedError(f"the broker at {self._connection.address} refuses this worker: {reason}")

    def _queue_calls(self, work_name: bytes, parts: list[bytes]) -> None:
        calls = [Call(number, payload, events.arguments_at(payload)) for number, payload in read_pairs(parts)]
        registration = self._session.registration
        unanswered = registration.unanswered
        for call in calls:
            unanswered.add(call.number)
        make_jobs = self._hosted.job_factory(work_name)
        if make_jobs is None:  # not expected: the broker sends only what READY and LOADED named
            kind, error = NOT_HOSTED
            self._forget(calls)
            self._connection.send(write_pairs(kind, [(call.number, error) for call in calls]))
            return
        for job in make_jobs(registration, calls):
            if isinstance(job, StreamJob):
                self._streams[job.calls[0].number] = job
            self._put(job, self._hosted.queues[job.prediction.key])

    def _put(self, job: Job, queue: ModelQueue) -> None:
        queue.put(job)
        self._ready[queue] = None

    def _add_slots(self, number: bytes, slots: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.add_slots(int.from_bytes(slots, "big"))
            self._advance(stream)

    def _cancel(self, numbers: list[bytes]) -> None:
        registration = self._session.registration
        registration.cancelled.update(registration.unanswered.intersection(numbers))
        for number in numbers:
            if number in self._streams:
                self._advance(self._streams[number])

    # -- jobs ---------------------------------------------------------------------------------------------------

    def _on_run_ended(self, job: Job) -> None:
        self.running.remove(job)
        job.is_queued = False
        queue = self._hosted.queues.get(job.prediction.key)
        if queue is not None:  # None if the model was unloaded meanwhile
            queue.on_run_ended(job)
            if queue.has_work:
                self._ready[queue] = None
        self._advance(job)
        job.prediction.counters.settle()  # after the answers have left, so that they do not wait for it

    def _advance(self, job: Job) -> None:
        """Send the answers that a job has, and queue it again if it has more work, unless it is queued or runs."""
        if job.is_queued:
            return
        if job.registration is self._session.registration:
            self._send_answers(job)
        if job.has_more_work:
            queue = self._hosted.queues.get(job.prediction.key)
            if queue is not None:
                self._put(job, queue)

    def _send_answers(self, job: Job) -> None:
        answers = job.take_answers()
        if job.is_answered:
            self._forget(job.calls)
        if len(answers) == 1:
            number, (kind, event) = answers[0]
            self._connection.send(write_pairs(kind, [(number, event)]))
            return
        for kind in (protocol.REPLY, protocol.REFUSE):
            pairs = [(number, event) for number, (answer_kind, event) in answers if answer_kind is kind]
            if pairs:
                self._connection.send(write_pairs(kind, pairs))

    def _forget(self, calls: Sequence[Call]) -> None:
        registration = self._session.registration
        for call in calls:
            registration.unanswered.discard(call.number)
            registration.cancelled.discard(call.number)
            self._streams.pop(call.number, None)
