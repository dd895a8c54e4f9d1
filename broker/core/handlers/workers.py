"""The workers' side of the core: registration, answers, leaving, in the protocol of docs/protocol.md."""

from collections.abc import Sequence
from contextlib import suppress

from broker.core.deployment.deployment import Deployment
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.calls import Call, CallTable
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Worker
from broker.core.state.registry import Registry
from cluster.wire import events, protocol
from cluster.wire.descriptions import read_description, read_model_description
from cluster.wire.pairs import read_pairs
from cluster.wire.protocol import ModelDescription

_EVENTS = frozenset((events.OK, events.ERR, events.STREAM, events.STREAM_DONE))
"""What a worker may say in a call."""

_ABOUT_MODELS = frozenset((protocol.LOADED, protocol.FAILED, protocol.UNLOADED))
"""What a worker says of orders to load and unload."""

_KINDS = frozenset((protocol.REPLY, protocol.REFUSE, protocol.DRAIN, protocol.BYE, protocol.PING)) | _ABOUT_MODELS
"""What a registered worker may send, beside READY."""

LAST_WORKER_S = 10.0
"""How long a worker that wants to leave is kept by a broker that drains while calls wait that no other could answer, in
seconds. Less than the 20 s that a worker waits for that by default (`WORKER_DRAIN_TIMEOUT_S`), so that it can finish
what it was given."""

STOPPED_TOGETHER_S = 1.0
"""How long it is kept to see whether the broker will drain, too, in seconds: who stops everything stops it at once, but
in any order. Otherwise the calls wait for the worker's successor."""

_MAX_REASON = 500
"""Longest reason for sending a worker away, in characters: part of it is the worker's own words."""


class WorkerHandler:
    """Takes the workers' messages."""

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        deployment: Deployment,
        counts: Counters,
        outbox: Outbox,
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._deployment = deployment
        self._counters = counts
        self._outbox = outbox
        self._pinged_s = float("-inf")

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message: its kind, and what belongs to it."""
        kind, parts = (frames[0], frames[1:]) if frames else (b"", [])
        worker = self._registry.workers.get(identity)
        if worker is not None:
            worker.last_received_s = now_s
        if kind == protocol.READY:
            self._ready(identity, worker, parts, now_s)
        elif kind not in _KINDS:
            self._counters.bad_frames["worker_protocol"] += 1
        elif worker is None:
            self._from_stranger(identity, kind, parts)
        elif kind in (protocol.REPLY, protocol.REFUSE):
            try:
                pairs = read_pairs(parts)
            except protocol.ProtocolError:
                self._counters.bad_frames["worker_protocol"] += 1
                return
            for number, event in pairs:
                self._reply(worker, kind, number, event, now_s)
        elif kind == protocol.DRAIN:
            if worker.leaving_s is None:
                worker.leaving_s = now_s
            self._release_if_idle(worker, now_s)
        elif kind == protocol.BYE:
            self._drop(worker, counters.EXIT if worker.in_flight else None, now_s)
        elif kind in _ABOUT_MODELS:
            self._about_models(worker, kind, parts, now_s)

    def _from_stranger(self, identity: bytes, kind: bytes, parts: Sequence[bytes]) -> None:
        """It has been given up, or the broker is a new one: what it still answers, nobody waits for."""
        if kind in (protocol.REPLY, protocol.REFUSE):
            with suppress(protocol.ProtocolError):
                self._counters.late_replies += len(read_pairs(parts))
        if kind != protocol.BYE:
            self._outbox.to_worker(identity, protocol.RESET)

    def worker_lost(self, identity: bytes, now_s: float) -> None:
        """Give up a worker that cannot be reached."""
        worker = self._registry.workers.get(identity)
        if worker is not None:
            was_silent = now_s - worker.last_received_s >= protocol.HEARTBEAT_TIMEOUT_S
            self._drop(worker, counters.HEARTBEAT if was_silent else counters.EXIT, now_s)

    def _drop(self, worker: Worker, reason: str | None, now_s: float) -> None:
        self._scheduler.drop_worker(worker, reason, now_s)
        self._deployment.lost(worker, reason)
        self._deployment.go_on(now_s)

    def ping_if_due(self, now_s: float) -> None:
        """Send every worker a sign of life."""
        if now_s - self._pinged_s >= protocol.PING_INTERVAL_S:
            self._pinged_s = now_s
            for identity in self._registry.workers:
                self._outbox.to_worker(identity, protocol.PING)

    def release_draining_workers(self, now_s: float) -> None:
        """Look again at the workers that have asked for no more work."""
        for worker in self._registry.workers.values():
            if worker.leaving_s is not None and worker.state == "ready":
                self._release_if_idle(worker, now_s)

    def _release_if_idle(self, worker: Worker, now_s: float) -> None:
        # Where everything is stopped at once, the last workers are kept until what was accepted has been answered.
        assert worker.leaving_s is not None
        kept_s = LAST_WORKER_S if self._scheduler.draining else STOPPED_TOGETHER_S
        if now_s - worker.leaving_s >= kept_s or not self._registry.is_needed(worker):
            self._scheduler.drain(worker, now_s)
            self._outbox.to_worker(worker.identity, protocol.DRAIN)  # from here on there is no more work for it

    def reset_workers(self) -> None:
        """Tell the workers that this broker knows them no longer."""
        for identity in self._registry.workers:
            self._outbox.to_worker(identity, protocol.RESET)

    # -- registration ---------------------------------------------------------------------------------------------

    def _ready(self, identity: bytes, worker: Worker | None, parts: Sequence[bytes], now_s: float) -> None:
        try:
            description = read_description(bytes(parts[0]) if parts else b"")
        except protocol.ProtocolError as error:
            self._send_away(identity, worker, str(error), now_s)
            return
        if worker is not None and worker.description.id == description.id:
            self._outbox.to_worker(identity, protocol.WELCOME)  # it asked again before it had read the first
            return
        objection = self._registry.objection(description.models)
        if objection is not None:
            self._send_away(identity, worker, f"{description.id}: {objection}", now_s)
            return
        for former in [one for one in self._registry.workers.values() if one.description.id == description.id]:
            # Its connection broke before it had read the WELCOME.
            self._drop(former, counters.EVICTED, now_s)
        if worker is not None:
            self._drop(worker, counters.EVICTED, now_s)
        worker = self._registry.add(identity, description, now_s)
        self._outbox.to_worker(identity, protocol.WELCOME)
        for model in description.models:
            if not self._deployment.is_unwanted(model.key):
                self._host(worker, model, now_s)
        self._deployment.joined(worker)
        calls = [replica.pool.model for replica in worker.replicas if not replica.pool.is_for_streams]
        hosted = ", ".join(f"{model.qualified_name} {model.version}" for model in calls)
        self._outbox.note(f"worker {description.id} registered; it hosts {hosted or 'nothing'}")

    def _host(self, worker: Worker, model: ModelDescription, now_s: float) -> None:
        self._registry.host(worker, model, now_s)
        self._scheduler.reassign_waiting(self._registry.models[model.qualified_name])
        for replica in worker.replicas:
            self._scheduler.mark_dirty(replica.pool)

    def _send_away(self, identity: bytes, worker: Worker | None, reason: str, now_s: float) -> None:
        if worker is not None:
            self._drop(worker, counters.EVICTED, now_s)
        self._outbox.to_worker(identity, protocol.BYE, reason[:_MAX_REASON].encode("utf-8", "replace"))
        self._outbox.note(f"a worker was refused: {reason[:_MAX_REASON]!a}")

    # -- models that come and go --------------------------------------------------------------------------------------

    def _about_models(self, worker: Worker, kind: bytes, parts: Sequence[bytes], now_s: float) -> None:
        if len(parts) != (1 if kind == protocol.UNLOADED else 2):
            self._counters.bad_frames["worker_protocol"] += 1
            return
        number = bytes(parts[0])
        if kind == protocol.UNLOADED:
            self._deployment.unloaded(worker, number)
        elif kind == protocol.FAILED:
            self._deployment.failed(worker, number, bytes(parts[1]).decode("utf-8", "replace"))
        else:
            try:
                model = read_model_description(bytes(parts[1]))
            except protocol.ProtocolError as error:
                self._deployment.failed(worker, number, str(error))
            else:
                if self._deployment.loaded(worker, number, model):
                    self._host(worker, model, now_s)
        self._deployment.go_on(now_s)

    # -- answers --------------------------------------------------------------------------------------------------

    def _reply(self, worker: Worker, kind: bytes, number: bytes, event: bytes, now_s: float) -> None:
        call = worker.in_flight.get(number)
        if call is None:
            self._counters.late_replies += 1
            return
        if call.closed or call.failure is not None:
            self._late(call, event)
            return
        name = events.event_name(event)
        if name is not None and name not in _EVENTS:
            self._counters.bad_frames["worker_event"] += 1
            return
        try:
            to_client = events.readdress(event, call.message_id, call.version, call.number)
        except events.BadFrameError:
            name = None
        if name is None:
            # Its caller must not wait for ever for what the worker can no longer say.
            self._counters.bad_frames["worker_event"] += 1
            name, to_client = events.ERR, _unreadable(call)
        call.slots -= 1
        self._calls.send_event(call, to_client)
        if name == events.STREAM:
            self._calls.note_item(call, now_s)
        else:
            self._release(call)
            self._calls.close(call, _outcome(call, kind, name), now_s)

    def _late(self, call: Call, event: bytes) -> None:
        """The client has been told already, or will be when it has room, that its call took too long."""
        self._counters.late_replies += 1
        if events.event_name(event) != events.STREAM:
            self._release(call)

    def _release(self, call: Call) -> None:
        """The call's worker has answered it."""
        pool = self._registry.release(call)
        if pool is not None:
            self._scheduler.mark_dirty(pool)


def _outcome(call: Call, kind: bytes, name: str) -> str:
    if kind == protocol.REFUSE:  # not executed: it could not be read, or was cancelled before it began
        return counters.BAD_REQUEST if call.client is not None else counters.CANCELLED
    return counters.ERROR if name == events.ERR else counters.OK


def _unreadable(call: Call) -> bytes:
    text = "the worker's answer could not be read"
    body = events.encode_error_body(call.version, "WorkerError", text)
    return events.encode_reply(call.message_id, call.number, body)
