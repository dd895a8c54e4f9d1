"""The workers' messages: registration, answers, leaving, and models that were loaded or unloaded (docs/protocol.md)."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from broker.core.deployment.deployment import Deployment
from broker.core.handlers.answers import ANSWERS, Answers, unreadable
from broker.core.handlers.registration import Registrations
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.access import Access
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Worker
from broker.core.state.registry import Registry
from cluster.wire import events, protocol
from cluster.wire.descriptions import read_model_description
from cluster.wire.pairs import read_pairs
from cluster.wire.texts import to_text

_DEPLOYMENT_KINDS = frozenset((protocol.LOADED, protocol.FAILED, protocol.UNLOADED))
"""The kinds of messages that answer a LOAD or an UNLOAD."""

_KINDS = frozenset((protocol.REPLY, protocol.REFUSE, protocol.DRAIN, protocol.BYE, protocol.PING)) | _DEPLOYMENT_KINDS
"""The kinds of messages that a registered worker may send, beside READY."""

DRAINING_BROKER_GRACE_S = 10.0
"""How long a draining broker keeps a worker that asked to drain while calls wait that no other worker could answer, in
seconds. Less than the 20 s that a worker waits by default (`WORKER_DRAIN_TIMEOUT_S`), so that the worker can finish
these calls."""

STOP_GRACE_S = 1.0
"""How long the broker keeps such a worker while it is not draining itself, in seconds. If everything is stopped at
once, in any order, the broker's own stop signal arrives within this time; otherwise the calls wait for the worker's
successor."""


class WorkerHandler:
    """Handles the messages from the backend."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        deployment: Deployment,
        answers: Answers,
        counts: Counters,
        outbox: Outbox,
        access: Access,
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._deployment = deployment
        self._answers = answers
        self._counters = counts
        self._outbox = outbox
        self._pinged_s = float("-inf")
        self._registrations = Registrations(registry, scheduler, deployment, outbox, access, self._drop)

    def name_workers_by(self, name_of: Callable[[bytes], str]) -> None:
        """Set the function that returns the name of a worker's key; empty if it has none."""
        self._registrations.name_of = name_of

    def access_changed(self, now_s: float) -> None:
        """Send the workers away that host what their keys may not host any more."""
        self._registrations.access_changed(now_s)

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """Handle a message: its kind, then the kind's frames."""
        kind, parts = (frames[0], frames[1:]) if frames else (b"", [])
        worker = self._registry.workers.get(identity)
        if worker is not None:
            worker.last_received_s = now_s
        if kind == protocol.READY:
            self._registrations.ready(identity, parts, now_s)
        elif kind not in _KINDS:
            self._counters.bad_frames["worker_protocol"] += 1
        elif worker is None:
            self._from_unregistered(identity, kind, parts)
        elif kind in (protocol.REPLY, protocol.REFUSE):
            try:
                pairs = read_pairs(parts)
            except protocol.ProtocolError:
                self._counters.bad_frames["worker_protocol"] += 1
                return
            self._replies(worker, kind, pairs, now_s)
        elif kind == protocol.DRAIN:
            if worker.drain_requested_s is None:
                worker.drain_requested_s = now_s
            self._drain_unless_needed(worker, now_s)
        elif kind == protocol.BYE:
            self._drop(worker, counters.EXIT if worker.in_flight else None, now_s)
        elif kind in _DEPLOYMENT_KINDS:
            self._deployment_answer(worker, kind, parts, now_s)

    def _from_unregistered(self, identity: bytes, kind: bytes, parts: Sequence[bytes]) -> None:
        """Reset a worker that was evicted, or that was registered with a former broker; drop its answers."""
        if kind in (protocol.REPLY, protocol.REFUSE):
            with suppress(protocol.ProtocolError):
                self._counters.late_replies += len(read_pairs(parts))
        if kind != protocol.BYE:
            self._outbox.to_worker(identity, protocol.RESET)

    # -- workers that leave ---------------------------------------------------------------------------------------

    def lost(self, identity: bytes, now_s: float) -> None:
        """Evict a worker whose connection is gone."""
        worker = self._registry.workers.get(identity)
        if worker is not None:
            was_silent = now_s - worker.last_received_s >= protocol.HEARTBEAT_TIMEOUT_S
            self._drop(worker, counters.HEARTBEAT if was_silent else counters.EXIT, now_s)

    def _drop(self, worker: Worker, reason: str | None, now_s: float) -> None:
        self._registrations.worker_lost(worker)
        self._scheduler.drop_worker(worker, reason, now_s)
        self._deployment.worker_lost(worker, reason)
        self._deployment.advance(now_s)

    def continue_registrations(self, now_s: float) -> bool:
        """Host some more models of workers that have many; return whether more are left for the next turn."""
        return self._registrations.advance(now_s)

    def ping_if_due(self, now_s: float) -> None:
        """Send every worker a PING, which shows that the broker is alive."""
        if now_s - self._pinged_s >= protocol.PING_INTERVAL_S:
            self._pinged_s = now_s
            for identity in self._own():
                self._outbox.to_worker(identity, protocol.PING)

    def release_draining_workers(self, now_s: float) -> None:
        """Drain the workers that have asked for it and are no longer needed."""
        for worker in self._registry.workers.values():
            if worker.drain_requested_s is not None and worker.state == "ready":
                self._drain_unless_needed(worker, now_s)

    def _drain_unless_needed(self, worker: Worker, now_s: float) -> None:
        # If everything is stopped at once, the last workers stay until the accepted calls have been answered.
        assert worker.drain_requested_s is not None
        grace_s = DRAINING_BROKER_GRACE_S if self._scheduler.draining else STOP_GRACE_S
        if now_s - worker.drain_requested_s >= grace_s or not self._scheduler.is_needed(worker):
            self._scheduler.drain(worker, now_s)
            self._outbox.to_worker(worker.identity, protocol.DRAIN)  # the worker gets no WORK after it

    def reset_workers(self) -> None:
        """Send every worker a RESET, so that it registers with the next broker at once."""
        for identity in self._own():
            self._outbox.to_worker(identity, protocol.RESET)

    def _own(self) -> list[bytes]:
        """Return the identities of the workers that speak the worker protocol; stock servers do not."""
        return [identity for identity, worker in self._registry.workers.items() if worker.kind == "worker"]

    # -- models that were loaded or unloaded ----------------------------------------------------------------------

    def _deployment_answer(self, worker: Worker, kind: bytes, parts: Sequence[bytes], now_s: float) -> None:
        if len(parts) != (1 if kind == protocol.UNLOADED else 2):
            self._counters.bad_frames["worker_protocol"] += 1
            return
        number = bytes(parts[0])
        if kind == protocol.UNLOADED:
            self._deployment.worker_unloaded(worker, number)
        elif kind == protocol.FAILED:
            self._deployment.worker_failed(worker, number, to_text(bytes(parts[1]).decode("utf-8", "replace")))
        else:
            try:
                model = read_model_description(bytes(parts[1]))
            except protocol.ProtocolError as error:
                self._deployment.worker_failed(worker, number, str(error))
            else:
                if self._deployment.worker_loaded(worker, number, model):
                    self._registrations.host(worker, model, now_s)
        self._deployment.advance(now_s)

    # -- answers --------------------------------------------------------------------------------------------------

    def _replies(self, worker: Worker, kind: bytes, pairs: Iterable[tuple[bytes, bytes]], now_s: float) -> None:
        raised: Exception | None = None
        for number, event in pairs:
            try:
                self._reply(worker, kind, number, event, now_s)
            except Exception as error:  # the worker's other answers count
                raised = error
                if number in self._calls.in_flight[worker]:
                    self._calls.doubtful.append(self._calls.in_flight[worker][number])
        if raised is not None:
            raise raised

    def _reply(self, worker: Worker, kind: bytes, number: bytes, event: bytes, now_s: float) -> None:
        call = self._calls.in_flight[worker].get(number)
        if call is None:
            self._counters.late_replies += 1
            return
        name = events.event_name(event)
        if self._answers.is_dropped(call, name, len(event), now_s):
            return
        if name is not None and name not in ANSWERS:
            self._counters.bad_frames["worker_event"] += 1
            return
        try:
            to_client = events.readdress(event, call.message_id, call.version, call.number)
        except events.BadFrameError:
            name = None
        if name is None:
            # The worker sends this answer only once, and without one the caller would wait until its deadline.
            self._counters.bad_frames["worker_event"] += 1
            name, to_client = events.ERR, unreadable(call)
        self._answers.pass_on(call, name, _outcome(call, kind, name), to_client, now_s)


def _outcome(call: Call, kind: bytes, name: str) -> str:
    if kind == protocol.REFUSE:  # not executed: its arguments cannot be read, or it was cancelled before it began
        return counters.BAD_REQUEST if call.client is not None else counters.CANCELLED
    return counters.ERROR if name == events.ERR else counters.OK
