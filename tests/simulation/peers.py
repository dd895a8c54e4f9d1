"""Simulated clients and workers, as docs/protocol.md and zerorpc want them, with all their bad habits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack

from broker.core.state.calls import LEAST_CLIENT_TIMEOUT_S
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.pairs import read_pairs, write_pairs
from tests.simulation.links import Link
from tests.unit.world import describe

if TYPE_CHECKING:
    from tests.simulation.network import Network

TIMEOUT_S = 15.0
"""How long a call may run."""

WATCHDOG_S = TIMEOUT_S + 5.0
"""How long a call may be stuck before its worker ends itself."""

MAX_STREAMS = 5
"""How many streams of a model a worker serves beside each other."""

OLD_S = 300.0
"""When the last traces of a call that was given up must be gone."""

IMPATIENT = 0.15
"""Share of calls that their clients do not wait for longer than 3 s."""

CANCELLING = 0.3
"""Share of those calls that their clients cancel."""

LAST = ("OK", "ERR", "STREAM_DONE")

OWN_ERRORS = ("NoWorkers", "ServerBusy", "DeadlineExceeded", "WorkerLost", "Draining", "WorkerError", "NameError")


# -- clients --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """What a client knows of a call that it made: `abandoned` by itself, `dropped` by the broker.

    If it has told the broker that it does not wait any more, `cancelled_s` says when.
    """

    token: int
    link: Link
    made_s: float
    beat_s: float
    last_received_s: float | None = None
    room: int = 1
    items: int = 0
    ended: bool = False
    abandoned: bool = False
    dropped: bool = False
    cancelled_s: float | None = None


class Client:
    """A process with one connection. `heartbeat_s` is zerorpc's; None beats never, and waits for ever."""

    def __init__(self, network: Network, name: str, heartbeat_s: float | None) -> None:
        self.name = name
        self.link = network.connect("frontend", self)
        self.calls: dict[bytes, Call] = {}
        self.is_frozen = False
        self.disturbed_until_s = 0.0
        self.answered = 0
        self._network = network
        self._heartbeat_s = heartbeat_s
        self._inbox: list[tuple[Link, list[bytes]]] = []
        network.agenda.every(0.25, self._beat)

    def call(self, procedure: str, what: dict[str, Any], timeout_s: float | None = None) -> None:
        """Make a call and tell its worker what to do with it."""
        if self.is_frozen:
            return
        token = self._network.next_token()
        message_id = b"%032x" % token
        header: dict[str, Any] = {"message_id": message_id, "v": 3}
        if timeout_s is not None:
            header["timeout_s"] = timeout_s
        now_s = self._network.agenda.now_s
        call = self.calls[message_id] = Call(token, self.link, now_s, now_s)
        event = msgpack.packb([header, procedure, [{**what, "token": token}]])
        self.link.to_broker([b"", event])
        if self._network.agenda.chance.random() < IMPATIENT:
            self._network.agenda.after(3.0, lambda: self._give_up(message_id, call))

    def _give_up(self, message_id: bytes, call: Call) -> None:
        """A time-out of the client's own: it stays connected. A stock client tells nobody; another one cancels."""
        is_open = not (call.abandoned or call.ended or self.is_frozen)
        call.abandoned = call.abandoned or not call.ended
        if is_open and self._network.agenda.chance.random() < CANCELLING:
            call.cancelled_s = self._network.agenda.now_s
            self._later_event(message_id, call, "_zpc_cancel", 0)

    def make_room(self, message_id: bytes, slots: int) -> None:
        """Take more items of a stream."""
        call = self.calls.get(message_id)
        if self.is_frozen:
            self._network.agenda.after(0.5, lambda: self.make_room(message_id, slots))
        elif call is not None and not call.ended and not call.abandoned:
            call.room += slots
            self._later_event(message_id, call, "_zpc_more", slots)

    def receive(self, link: Link, frames: list[bytes]) -> None:
        if self.is_frozen:
            self._inbox.append((link, frames))
            return
        header, name, args = msgpack.unpackb(frames[-1])
        message_id = header["response_to"]
        call = self.calls.get(message_id)
        assert call is not None, "an event for a call that its receiver never began"
        assert link is call.link, "an event on another connection than its call's"
        if call.abandoned:
            return
        assert not call.ended, f"{name} after the last event"
        if name == "_zpc_hb":
            call.last_received_s = self._network.agenda.now_s
            return
        call.room -= 1
        assert call.room >= 0, "more events than the client has room for"
        if name == "OK":
            assert args == [call.token], "another call's answer"
        elif name == "STREAM":
            assert args == [call.token, call.items], "an item of another stream, or out of its order"
            call.items += 1
            self._network.agenda.after(
                self._network.agenda.chance.expovariate(5), lambda: self.make_room(message_id, 1)
            )
        elif name == "ERR":
            assert args[0] in (*OWN_ERRORS, "ModelError"), args
        if name in LAST:
            call.ended = True
            self.answered += 1

    def disconnected(self, link: Link) -> None:
        if link is self.link:
            self._abandon_all()
            self.link = self._network.connect("frontend", self)

    def abandoned(self, link: Link) -> None:
        self.disturb(0)  # it is not told, and its heartbeats will notice
        for call in self.calls.values():
            call.dropped = True

    def vanish(self) -> None:
        """The process is killed; another takes its place."""
        link, self.link = self.link, self._network.connect("frontend", self)
        self._abandon_all()
        link.break_off()

    def thaw(self) -> None:
        """Go on, with what came meanwhile."""
        self.is_frozen = False
        inbox, self._inbox = self._inbox, []
        for link, frames in inbox:
            if not link.is_broken:
                self.receive(link, frames)

    def disturb(self, seconds: float) -> None:
        """Something happens for so long that may cost this client its patience."""
        patience_s = 5 * (self._heartbeat_s or 0) + 2
        self.disturbed_until_s = max(self.disturbed_until_s, self._network.agenda.now_s + seconds + patience_s)

    def _beat(self) -> None:
        now_s = self._network.agenda.now_s
        self._forget_old_calls(now_s)
        if self._heartbeat_s is None or self.is_frozen:
            return
        for message_id, call in list(self.calls.items()):
            if call.abandoned:
                self._check_forgotten(message_id, call)
            if call.ended or call.abandoned or now_s - call.beat_s < self._heartbeat_s:
                continue
            call.beat_s = now_s
            if call.last_received_s is None:
                call.last_received_s = now_s
            if now_s > call.last_received_s + 2 * self._heartbeat_s:  # zerorpc `HeartBeatOnChannel`
                assert now_s < self.disturbed_until_s, "LostRemote, and nothing has happened to this client"
                call.abandoned = True
            else:
                self._later_event(message_id, call, "_zpc_hb", 0)

    def _forget_old_calls(self, now_s: float) -> None:
        # An event for a call that is forgotten here is as wrong as one after the last.
        for message_id, call in list(self.calls.items()):
            if call.ended or (call.abandoned and now_s - call.made_s > OLD_S):
                del self.calls[message_id]

    def _check_forgotten(self, message_id: bytes, call: Call) -> None:
        """A call that this client has given up, after it had sent heartbeats, is not kept for ever."""
        assert self._heartbeat_s is not None
        now_s, patience_s = self._network.agenda.now_s, max(LEAST_CLIENT_TIMEOUT_S, 4 * self._heartbeat_s)
        said_s, is_known = call.beat_s, call.beat_s > call.made_s
        if call.cancelled_s is not None:
            said_s, is_known, patience_s = call.cancelled_s, True, 0.0
        if is_known and now_s > max(said_s, self.disturbed_until_s) + patience_s + 3:
            client = self._network.broker.core.calls.clients.get(call.link.identity)
            assert client is None or msgpack.packb(message_id) not in client.open, "a given-up call is still there"

    def _later_event(self, message_id: bytes, call: Call, name: str, argument: int) -> None:
        header = {"message_id": b"later", "v": 3, "response_to": message_id}
        call.link.to_broker([b"", msgpack.packb([header, name, [argument]])])

    def _abandon_all(self) -> None:
        for call in self.calls.values():
            call.abandoned = call.abandoned or not call.ended


# -- workers --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Job:
    """What a worker knows of a call that it was given."""

    procedure: str
    what: dict[str, Any]
    slots: int = 1
    items: int = 0
    cancelled: bool = False
    ended: bool = False


@dataclass
class Stay:
    """From one registration to the next."""

    id: str
    link: Link
    last_received_s: float
    welcome: bool = False
    drain_agreed: bool = False
    jobs: dict[bytes, Job] = field(default_factory=dict)


class Worker:
    """A process that supervisor starts again whenever it has ended."""

    def __init__(self, network: Network, name: str, models: tuple[str, ...], slots: int, batch: int) -> None:
        self.name = name
        self.models = models
        self.starts = 0
        self.is_frozen = False
        self.is_alive = False
        self.is_draining = False
        self._network = network
        self._batch = batch
        self._batches_ahead = 1 if batch > 2 else 0
        self._slots = slots
        self._registrations = 0
        self._said_s = 0.0
        self._deferred: list[Callable[[], None]] = []
        self.stay: Stay
        self.start()
        network.agenda.every(0.25, self._tick)

    def start(self) -> None:
        """A new process."""
        self.starts += 1
        self.is_alive, self.is_frozen, self.is_draining = True, False, False
        self._deferred.clear()
        self._register_anew()

    def kill(self, down_s: float = 1.0) -> None:
        """The process ends at once."""
        if self.is_alive:
            self.is_alive = False
            self.stay.link.break_off()
            self._network.agenda.after(down_s, self.start)

    def drain(self) -> None:
        """SIGTERM: finish, leave, and be started again."""
        if self.is_alive and self.stay.welcome and not self.is_draining:
            self.is_draining = True
            self._do(lambda: self._say(protocol.DRAIN))

    def thaw(self) -> None:
        """Go on, with what came meanwhile before what is due by time."""
        self.is_frozen = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            action()

    def receive(self, link: Link, frames: list[bytes]) -> None:
        self._do(lambda: self._handle(link, frames))

    def disconnected(self, link: Link) -> None:
        """Libzmq connects again by itself, and the process does not know: to the broker it is somebody else."""
        if self.is_alive and link is self.stay.link:
            self.stay.link = self._network.connect("backend", self)

    def abandoned(self, link: Link) -> None:
        raise AssertionError("workers are never stalled")

    def _do(self, action: Callable[[], None]) -> None:
        if self.is_frozen:
            self._deferred.append(action)
        elif self.is_alive:
            action()

    def _register_anew(self) -> None:
        self._registrations += 1
        if self._registrations > 1:
            self.stay.link.break_off()
        link = self._network.connect("backend", self)
        self.stay = Stay(f"{self.name}-{self._registrations}", link, self._network.agenda.now_s)

    def _say(self, *frames: bytes) -> None:
        self.stay.link.to_broker(list(frames))

    def _tick(self) -> None:
        if not self.is_alive or self.is_frozen:
            return
        now_s, stay = self._network.agenda.now_s, self.stay
        if stay.welcome and now_s - stay.last_received_s >= protocol.SILENCE_S:
            if self.is_draining:
                self.kill()
            else:
                self._register_anew()
        elif stay.drain_agreed and all(job.ended for job in stay.jobs.values()):
            self._say(protocol.BYE)
            self._network.agenda.after(0.5, self.kill)  # the last message leaves before the process ends
        elif now_s - self._said_s >= (protocol.WORKER_PING_INTERVAL_S if stay.welcome else 0.5):
            self._said_s = now_s
            if stay.welcome:
                self._say(protocol.PING)
            else:
                description = describe(
                    stay.id,
                    *self.models,
                    slots=self._slots,
                    timeout_s=TIMEOUT_S,
                    max_batch_size=self._batch,
                    batches_ahead=self._batches_ahead,
                    max_streams=MAX_STREAMS,
                    batch_wait_ms=20.0 if self._batch == 4 else 0.0,
                )
                self._say(protocol.READY, write_description(description))

    def _handle(self, link: Link, frames: list[bytes]) -> None:
        stay = self.stay
        if link is not stay.link:
            return
        stay.last_received_s = self._network.agenda.now_s
        kind, *parts = frames
        if kind == protocol.WELCOME:
            stay.welcome = True
        elif kind == protocol.RESET:
            if self.is_draining:
                self.kill()
            else:
                self._register_anew()
        elif kind == protocol.DRAIN:
            stay.drain_agreed = self.is_draining
        elif kind == protocol.WORK:
            batch = read_pairs(parts[1:])
            assert len(batch) <= self._batch
            for number, event in batch:
                self._begin(number, bytes(event))
        elif kind == protocol.MORE:
            stay.jobs[parts[0]].slots += int.from_bytes(parts[1], "big")  # a KeyError here: not its call
            self._stream(stay, parts[0])
        elif kind == protocol.CANCEL:
            stay.jobs[parts[0]].cancelled = True
            self._stream(stay, parts[0])
        else:
            assert kind == protocol.PING, kind

    def _begin(self, number: bytes, event: bytes) -> None:
        stay = self.stay
        assert not stay.drain_agreed, "work for a worker that drains"
        assert number not in stay.jobs, "the same call twice to one worker"
        _, procedure, (what,) = msgpack.unpackb(event)
        stay.jobs[number] = Job(procedure, what)
        taken = sum(one.procedure == procedure and not one.ended for one in stay.jobs.values())
        batches = (self._slots + self._batches_ahead) * self._batch
        assert taken <= (MAX_STREAMS if procedure.endswith("_stream") else batches), "more work than there is room"
        self._network.note_given(what["token"])
        then: dict[str, Callable[[], None]] = {
            "answer": lambda: self._end(stay, number, "OK", [what["token"]]),
            "raise": lambda: self._end(stay, number, "ERR", ["ModelError", "text", None]),
            "babble": lambda: self._babble(stay, number),
            "die": self.kill,
            "hang": lambda: self._network.agenda.after(WATCHDOG_S, lambda: self._bite(stay)),
            "stream": lambda: self._stream(stay, number),
        }
        self._network.agenda.after(what["after_s"], lambda: self._do(then[what["do"]]))

    def _bite(self, stay: Stay) -> None:
        if stay is self.stay:
            self.kill()

    def _reply(self, stay: Stay, number: bytes, name: str, args: Any) -> None:
        if stay is self.stay:
            self._say(*write_pairs(protocol.REPLY, [(number, msgpack.packb([{}, name, args]))]))

    def _end(self, stay: Stay, number: bytes, name: str, args: Any) -> None:
        stay.jobs[number].ended = True
        self._reply(stay, number, name, args)

    def _babble(self, stay: Stay, number: bytes) -> None:
        """Say much that is no answer, then the answer, then that again."""
        token = stay.jobs[number].what["token"]
        if stay is self.stay:
            self._say(*write_pairs(protocol.REPLY, [(b"no such.", msgpack.packb([{}, "OK", [token]]))]))
            self._say(protocol.REPLY, number)
            self._say(b"\x7f", number)
        self._end(stay, number, "OK", [token])
        self._reply(stay, number, "OK", [token])

    def _stream(self, stay: Stay, number: bytes) -> None:
        """Send as much of a stream as there is room for."""
        job = stay.jobs[number]
        while job.what["do"] == "stream" and stay is self.stay and not job.ended and (job.slots > 0 or job.cancelled):
            job.slots -= 1
            if job.cancelled or job.items == job.what["items"]:
                self._end(stay, number, "STREAM_DONE", None)
            else:
                self._reply(stay, number, "STREAM", [job.what["token"], job.items])
                job.items += 1
