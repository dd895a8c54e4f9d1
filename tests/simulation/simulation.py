"""One simulated world: what can happen in it, and what must hold whatever happens.

The actions take small numbers, so that hypothesis can shrink them and a seeded runner can draw them. What a real
client, worker and message loop would remember is remembered here, beside the core, and compared with it.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from broker.core.core import Core
from broker.core.scheduling.deadlines import CHECK_INTERVAL_S
from broker.core.state import counters
from broker.core.state.access import Patterns
from broker.core.state.services import ServerRules
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.pairs import read_pairs, write_pairs
from cluster.wire.protocol import ModelKey, Version
from tests.simulation.invariants import check_services, has_needless_wait, is_balanced, orphans
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, Reply, World, describe, describe_model

TIMEOUT_S = 20.0
"""How long a call may run in these worlds."""

BEAT_S = 5.0
"""How often clients send heartbeats, once they have begun."""

MAX_STREAMS = 2
"""How many streams of a model a worker serves beside each other."""

SLOWEST_READER_S = 40.0
"""How long a reader may take to make room, in seconds."""

SERVER_CALLS = 3
"""How many calls a stock server has at one time."""

MODELS = ("red", "blue")
SERVICE = "green"
METHODS = ("green_add", "green_count")
RETRIED = "green_count"
VERSIONS = (Version(1, 2), Version(1, 3))
CLIENTS = tuple(b"client-%d" % i for i in range(4))
ANSWERS = ("OK", "ERR", "STREAM", "STREAM_DONE")
LAST = ("OK", "ERR", "STREAM_DONE")


@dataclass
class Call:
    """What a client knows of a call that it made: among it, for how many more events it has room."""

    client: bytes
    message_id: int
    made_s: float
    deadline_s: float
    beat_s: float | None = None
    room: int = 1
    full_s: float = 0.0
    given: int = 0
    ended: bool = False


@dataclass
class Job:
    """What a worker knows of a call that it was given."""

    worker: bytes
    number: bytes
    call: Call
    procedure: str
    slots: int = 1
    cancelled: bool = False
    ended: bool = False
    beat_s: float = 0.0
    heard_s: float = 0.0
    dropped: bool = False  # by a stock server, which tells nobody


@dataclass
class Peer:
    """A worker process, or a stock server, which has methods."""

    identity: bytes
    capacity: int
    max_batch_size: int
    reachable: bool = True
    draining: bool = False
    drain_agreed: bool = False
    jobs: dict[bytes, Job] = field(default_factory=dict)
    hosted: set[ModelKey] = field(default_factory=set)
    orders: list[list[bytes]] = field(default_factory=list)  # to load and to unload, not carried out yet
    methods: tuple[str, ...] = ()
    blocked: bool = False
    pings: list[str] = field(default_factory=list)  # not answered yet, because the loop is blocked

    @property
    def is_server(self) -> bool:
        """Whether it is a stock server."""
        return bool(self.methods)


class Simulation:
    """The world; every method that does something checks everything afterwards."""

    def __init__(self) -> None:
        rules = ServerRules(SERVER_CALLS, TIMEOUT_S, Patterns([RETRIED]))
        self.world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, servers=rules))
        self.calls: dict[tuple[bytes, int], Call] = {}
        self.peers: dict[bytes, Peer] = {}
        self.clients = {client: client for client in CLIENTS}  # a client that was lost comes back under a new identity
        self._made = 0
        self._joined = 0
        self._reconnected = 0
        self._sent_by_clients = 0
        self._ticked_s = 0.0
        self._balanced_s = 0.0

    # -- what can happen ------------------------------------------------------------------------------------------

    def join(self, slots: int, which: int, batch: int = 1, versions: tuple[Version, ...] = VERSIONS[:1]) -> None:
        """A worker registers, for batches of so many calls; of large ones it takes one more than it can run."""
        self._joined += 1
        identity = b"worker-%d" % self._joined
        models = MODELS if which == 2 else (MODELS[which],)
        ahead = 1 if batch > 2 else 0
        peer = self.peers[identity] = Peer(identity, slots + ahead, batch)
        described = [self._model(peer, (name, version)) for name in models for version in versions]
        peer.hosted = {model.key for model in described}
        body = write_description(replace(describe(identity.decode()), models=described))
        self.world.core.workers.message(identity, [protocol.READY, body], self.world.now_s)
        self._settle()
        assert identity in self._registered()

    def join_server(self, which: int) -> None:
        """A stock server connects and describes itself: with both methods, or with one of them."""
        self._joined += 1
        identity = b"server-%d" % self._joined
        methods = METHODS if which == 2 else (METHODS[which],)
        self.peers[identity] = Peer(identity, SERVER_CALLS, 1, methods=methods)
        self.world.core.server_registrations.joined(identity, self.world.now_s)
        self._settle()
        assert identity in self._registered()

    def block_server(self, which: int) -> None:
        """The loop of a stock server is blocked from now on, or goes on."""
        servers = [peer for peer in self._reachable() if peer.is_server]
        if servers:
            server = servers[which % len(servers)]
            server.blocked = not server.blocked
            self._answer_pings(server)  # its heartbeats follow, if it is not blocked again at once
            self._settle()

    def overflow(self, which: int) -> None:
        """A stock server sends an item that the client has no room for: the client gets an error instead."""
        jobs = [job for job in self._open_jobs() if self.peers[job.worker].is_server and job.slots <= 0]
        if jobs:
            job = jobs[which % len(jobs)]
            job.cancelled = True
            self._reply(job, "STREAM")
            self._settle()

    def drop_conversation(self, which: int) -> None:
        """A stock server takes the broker for lost, and ends one of its calls; the broker has to find out."""
        jobs = [job for job in self._open_jobs() if self.peers[job.worker].is_server]
        if jobs:
            jobs[which % len(jobs)].dropped = True

    def _answer_pings(self, server: Peer) -> None:
        while server.pings and not server.blocked:
            self._say_as_server(server, server.pings.pop(), "OK", [["pong", SERVICE]])

    @staticmethod
    def _model(peer: Peer, key: ModelKey, less_room: int = 0) -> protocol.ModelDescription:
        name, version = key
        ahead = 1 if peer.max_batch_size > 2 else 0
        return describe_model(
            name,
            version,
            slots=max(1, peer.capacity - ahead - less_room),
            timeout_s=TIMEOUT_S,
            max_batch_size=peer.max_batch_size,
            batches_ahead=ahead,
            max_streams=MAX_STREAMS,
            entry={"module_name": name, "class_name": str(version)},
        )

    def call(
        self,
        client: int,
        model: int,
        timeout_s: float | None,
        *,
        is_stream: bool = False,
        version: Version | None = None,
    ) -> None:
        """A client makes a call, or asks for a stream, of some version or whichever, or of a service."""
        identity = self.clients[CLIENTS[client]]
        self._made += 1
        if model == len(MODELS):
            procedure = METHODS[is_stream]
        else:
            name = MODELS[model] if version is None else f"{MODELS[model]}_v{version.major}_{version.minor}"
            procedure = f"{name}_predict{'_stream' if is_stream else ''}"
        header: dict[str, Any] = {"message_id": self._made, "v": 3}
        if timeout_s is not None:
            header["timeout_s"] = timeout_s
        until_s = self.world.now_s + (timeout_s if timeout_s is not None else float("inf"))
        self.calls[identity, self._made] = Call(identity, self._made, self.world.now_s, until_s)
        args = [identity.decode(), self._made] if model == len(MODELS) else ["x"]
        self._from_client(identity, msgpack.packb([header, procedure, args]))
        self._sent_by_clients += 1
        self._settle()

    def route(self, model: int, weights: tuple[int, int]) -> None:
        """An administrator deals calls that name no version out; a version that is not there is an error."""
        chosen = {str(version): weight for version, weight in zip(VERSIONS, weights, strict=True) if weight}
        self._ask("route_model", MODELS[model], chosen)

    def load(self, model: int, version: int) -> None:
        """An administrator has a version loaded everywhere, or anew."""
        entry = {"module_name": MODELS[model], "class_name": str(VERSIONS[version])}
        self._ask("load_model", entry, [])

    def unload(self, model: int, version: int) -> None:
        """An administrator has a version unloaded."""
        self._ask("unload_model", MODELS[model], str(VERSIONS[version]))

    def carry_out(self, which: int, *, can_load: bool, less_room: int = 0) -> None:
        """A worker does the oldest of what it was ordered to; a model may fail to load, or be given less room."""
        peers = self._reachable_with_orders()
        if not peers:
            return
        peer = peers[which % len(peers)]
        kind, number, *rest = peer.orders.pop(0)
        if kind == protocol.UNLOAD:
            name, version = (part.decode() for part in rest)
            peer.hosted.discard((name, Version.read(version)))
            answer = [protocol.UNLOADED, number]
        elif can_load:
            entry = msgpack.unpackb(rest[0])
            key = entry["module_name"], Version.read(entry["class_name"])
            peer.hosted.add(key)
            answer = [protocol.LOADED, number, write_description(self._model(peer, key, less_room))]
        else:
            answer = [protocol.FAILED, number, b"no weights"]
        self.world.core.workers.message(peer.identity, answer, self.world.now_s)
        self._settle()

    def more(self, which: int, slots: int) -> None:
        """A client has room for more items of one of its calls."""
        call = self._pick_call(which)
        if call is not None:
            self._make_room(call, slots)

    def send_heartbeat(self, which: int) -> None:
        """A client sends a heartbeat, which is answered at once."""
        call = self._pick_call(which)
        if call is not None:
            self._beat(call)

    def noise(self, client: int, payload: bytes) -> None:
        """A client sends bytes that are nothing: nobody is answered."""
        before = self.world.core.counters.bad_frames.total()
        self._from_client(self.clients[CLIENTS[client]], b"\xc1" + payload)
        self._settle()
        assert self.world.core.counters.bad_frames.total() == before + 1

    def answer(self, which: int, name: int) -> None:
        """A worker says something in one of its calls, if the client has room for it."""
        job = self._pick_job(which)
        if job is not None and job.cancelled:
            self._reply(job, "ERR")  # the last event of a cancelled call needs no room
        elif job is not None and job.slots > 0:
            job.slots -= 1
            self._reply(job, ANSWERS[name])
        self._settle()

    def answer_again(self, which: int) -> None:
        """A worker answers what it has answered: it goes nowhere."""
        ended = [job for peer in self._reachable() for job in peer.jobs.values() if job.ended]
        if ended:
            before = self.world.core.counters.late_replies
            self._reply(ended[which % len(ended)], "OK")
            self._settle()
            assert self.world.core.counters.late_replies == before + 1

    def lose_worker(self, which: int) -> None:
        """A worker dies, freezes or is cut off: the next send to it fails. A server's connection ends at once."""
        peers = self._reachable()
        if peers:
            peer = peers[which % len(peers)]
            peer.reachable = False
            if peer.is_server:
                self.world.core.backend_lost(peer.identity, self.world.now_s)
                del self.peers[peer.identity]
            self._settle()

    def thaw_worker(self, which: int) -> None:
        """A worker that was given up says one more thing: it is dropped, and the worker is told."""
        gone = [peer for peer in self.peers.values() if not peer.reachable and peer.identity not in self._registered()]
        if not gone:
            return
        peer = gone[which % len(gone)]
        job = next(iter(peer.jobs.values()), None)
        late = msgpack.packb([{}, "OK", ["late"]])
        frames = [protocol.PING] if job is None else write_pairs(protocol.REPLY, [(job.number, late)])
        self.world.core.workers.message(peer.identity, frames, self.world.now_s)
        assert [reply for reply in self.world.flush() if reply.name != "_zpc_hb"] == []
        assert self.world.to_workers[-1] == (peer.identity, [protocol.RESET])
        del self.peers[peer.identity]
        self._settle()

    def drain_worker(self, which: int) -> None:
        """A worker asks for no more work."""
        peers = [peer for peer in self._reachable() if not peer.draining and not peer.is_server]
        if peers:
            peer = peers[which % len(peers)]
            peer.draining = True
            self.world.core.workers.message(peer.identity, [protocol.DRAIN], self.world.now_s)
            self._settle()

    def lose_client(self, client: int) -> None:
        """A client goes away, and comes back as another connection."""
        name = CLIENTS[client]
        identity = self.clients[name]
        self._reconnected += 1
        self.clients[name] = b"%s-again-%d" % (name, self._reconnected)
        self.world.core.clients.lost(identity, counters.UNREACHABLE, self.world.now_s)
        for call in self.calls.values():
            call.ended = call.ended or call.client == identity
        self._settle()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        end_s = self.world.now_s + seconds
        self._balanced_s = self.world.now_s
        while self.world.now_s < end_s:
            self.world.now_s = min(end_s, self.world.now_s + 0.25)
            for call in self.calls.values():
                # Who has begun to send heartbeats goes on, or is taken for gone.
                if not call.ended and call.beat_s is not None and self.world.now_s - call.beat_s >= BEAT_S:
                    self._beat(call)
                # And who still wants its stream reads on, sooner or later.
                if not call.ended and call.room == 0 and self.world.now_s - call.full_s >= SLOWEST_READER_S:
                    self._make_room(call, 1)
            self.world.core.tick(self.world.now_s)
            self._ticked_s = self.world.now_s
            self._settle()
            self._beat_of_servers()
            if is_balanced(self.world.core):
                self._balanced_s = self.world.now_s
            assert self.world.now_s - self._balanced_s < 1.0, "calls wait at full servers, and others have room"

    def _beat_of_servers(self) -> None:
        """Send the heartbeats that stock servers owe for their open calls."""
        for job in self._open_jobs():
            server = self.peers[job.worker]
            is_due = self.world.now_s - job.beat_s >= BEAT_S
            if server.is_server and not server.blocked and is_due:
                job.beat_s = self.world.now_s
                # An error of the broker's may wait for a client without room.
                is_awaited = not job.call.ended and not job.cancelled and job.call.room > 0
                self._say_as_server(server, job.number.decode(), "_zpc_hb", [0])
                self._settle()
                assert not is_awaited or job.heard_s == self.world.now_s, "a server's heartbeat is not answered"

    def hold_up(self, seconds: float) -> None:
        """Time passes and the broker has no time for its ticks."""
        self.world.now_s += seconds
        self._settle()

    def heal(self) -> None:
        """No more faults, and workers with room for everything: all is answered, and nothing is left anywhere."""
        self.wait(1.0)  # in which the broker notices who has gone
        self._carry_out_all()
        self.load(0, 1)
        self._carry_out_all()
        self.join(4, 2)  # which is to load that as well
        self.join_server(2)
        for peer in self._reachable():
            peer.blocked = False
            self._answer_pings(peer)
        self._settle()
        for _ in range(400):
            self._carry_out_all()
            jobs = self._open_jobs()
            for job in jobs:
                # A stock server ends a call for which it gets no heartbeats any more.
                job.dropped = self.peers[job.worker].is_server and job.call.ended and job.slots <= 0
            for job in [job for job in jobs if job.slots > 0 or job.cancelled]:
                job.slots -= 1
                self._reply(job, "OK")
                self._settle()
            for call in [call for call in self.calls.values() if not call.ended]:
                self._make_room(call, 1)
            is_quiet = not any(peer.orders for peer in self._reachable())
            are_free = not any(worker.in_flight for worker in self._registered().values())
            if not jobs and is_quiet and are_free and all(call.ended for call in self.calls.values()):
                break
            self.wait(0.5)
        assert all(call.ended for call in self.calls.values()), [call for call in self.calls.values() if not call.ended]
        self.wait(1.0)
        assert self.world.core.deployment.is_idle
        self._check_plan()
        self.world.assert_at_rest()

    def _carry_out_all(self) -> None:
        while self._reachable_with_orders():
            self.carry_out(0, can_load=True)

    def _check_plan(self) -> None:
        """What was unloaded cannot be called, and what was loaded is hosted by everybody."""
        deployment, procedures = self.world.core.deployment, self.world.core.registry.procedures
        for name, version in deployment.plan.unloaded:
            assert f"{name}_v{version.major}_{version.minor}_predict" not in procedures
        peers = [peer for peer in self._reachable() if not peer.draining and not peer.is_server]
        for model in deployment.plan.loaded:
            failed = {identity for identity, key in deployment.restorer.failures if key == model.key}
            hosts = {peer.identity for peer in peers if model.key in peer.hosted}
            is_given_up = deployment.restorer.has_stopped(model.key)
            assert is_given_up or {peer.identity for peer in peers} - failed <= hosts, model

    # -- how it happens -------------------------------------------------------------------------------------------

    def _make_room(self, call: Call, slots: int) -> None:
        call.room += slots
        header = {"message_id": 0, "v": 3, "response_to": call.message_id}
        self._from_client(call.client, msgpack.packb([header, "_zpc_more", [slots]]))
        self._settle()

    def _beat(self, call: Call) -> None:
        call.beat_s = self.world.now_s
        header = {"message_id": 0, "v": 3, "response_to": call.message_id}
        self._from_client(call.client, msgpack.packb([header, "_zpc_hb", [0]]))
        answers = [reply.name for reply in self._settle() if reply.header["response_to"] == call.message_id]
        assert answers[:1] == ["_zpc_hb"]

    def _from_client(self, identity: bytes, payload: bytes) -> None:
        self.world.core.clients.message(identity, [b"", payload], self.world.now_s)

    def _ask(self, name: str, *args: object) -> None:
        self.world.ask(name, *args)
        self._settle()

    def _reply(self, job: Job, name: str) -> None:
        job.ended = job.ended or name in LAST
        args = ["E", "text", None] if name == "ERR" else ["value"]
        server = self.peers[job.worker]
        if server.is_server:
            self._say_as_server(server, job.number.decode(), name, args)
            return
        payload = msgpack.packb([{}, name, args])
        self.world.core.workers.message(
            job.worker, write_pairs(protocol.REPLY, [(job.number, payload)]), self.world.now_s
        )

    def _say_as_server(self, server: Peer, conversation: str, name: str, args: list[Any]) -> None:
        header = {"message_id": b"%032d" % 5, "v": 3, "response_to": conversation}
        event = msgpack.packb([header, name, args])
        self.world.core.from_backend(server.identity, [b"", event], self.world.now_s)

    def _settle(self) -> list[Reply]:
        """Carry out what the core wants sent, as the message loop would, until it wants no more; then check."""
        seen = []
        while True:
            replies = self.world.flush()
            to_workers, self.world.to_workers = self.world.to_workers, []
            if not replies and not to_workers:
                break
            for reply in replies:
                self._to_client(reply)
            for identity, frames in to_workers:
                self._to_worker(identity, frames)
            seen += replies
        self.check()
        return seen

    def _to_client(self, reply: Reply) -> None:
        call = self.calls.get((reply.client, reply.header["response_to"]))
        assert call is not None, f"an event for a call that its receiver never began: {reply}"
        assert not call.ended, f"an event after the last one: {reply}"
        call.ended = reply.name in LAST
        if reply.name != "_zpc_hb":
            call.room -= 1
            call.full_s = self.world.now_s
            assert call.room >= 0, "more events than the client has room for"

    def _to_worker(self, identity: bytes, frames: list[bytes]) -> None:
        peer = self.peers.get(identity)
        if peer is not None and peer.is_server:
            self._to_server(peer, frames)
            return
        if peer is None or not peer.reachable:
            if frames[0] != protocol.RESET:
                self.world.core.workers.lost(identity, self.world.now_s)
            return
        kind = frames[0]
        if kind == protocol.WORK:
            batch = read_pairs(frames[2:])
            assert len(batch) <= peer.max_batch_size
            for number, event in batch:
                self._work(peer, number, frames[1].decode(), bytes(event))
        elif kind == protocol.MORE:
            job = peer.jobs[frames[1]]  # a KeyError here: about a call that this worker does not own
            job.slots += int.from_bytes(frames[2], "big")
        elif kind == protocol.CANCEL:
            peer.jobs[frames[1]].cancelled = True  # a KeyError here: as above
        elif kind == protocol.UNLOAD:
            pinned = f"{frames[2].decode()}_v{frames[3].decode().replace('.', '_')}_"
            assert not any(job.procedure.startswith(pinned) and not job.ended for job in peer.jobs.values()), (
                "a model is unloaded while it has calls"
            )
            peer.orders.append(frames)
        elif kind == protocol.LOAD:
            peer.orders.append(frames)
        elif kind == protocol.DRAIN:
            assert peer.draining
            peer.drain_agreed = True

    def _work(self, peer: Peer, number: bytes, procedure: str, event: bytes) -> None:
        assert not peer.drain_agreed, "work for a worker that drains"
        hosted = [f"{name}_v{version.major}_{version.minor}_" for name, version in peer.hosted]
        assert any(procedure.startswith(pinned) for pinned in hosted), "work for a model that is not hosted"
        header, called, _ = msgpack.unpackb(event)
        assert called in (procedure, re.sub(r"_v\d+_\d+", "", procedure)), "another procedure than was called"
        owners = [call for call in self.calls.values() if call.message_id == header["message_id"] and not call.ended]
        assert len(owners) == 1, "work for a call that nobody waits for"
        assert owners[0].deadline_s > self.world.now_s, "an expired call is executed"
        assert number not in peer.jobs, "the same call twice to one worker"
        owners[0].given += 1
        assert owners[0].given <= 2, "a call that was under way in two deaths is tried again"
        peer.jobs[number] = Job(peer.identity, number, owners[0], procedure)
        open_jobs = [job for job in peer.jobs.values() if not job.ended]
        beside = [job for job in open_jobs if job.procedure == procedure]
        if procedure.endswith("_stream"):
            assert len(beside) <= MAX_STREAMS, "more streams than a worker has room for"
        else:
            assert len(beside) == 1 or all(job.call.given == 1 for job in beside), "a call is tried again beside others"
            assert len(beside) <= peer.capacity * peer.max_batch_size, "more work than a worker has room for"

    def _to_server(self, server: Peer, frames: list[bytes]) -> None:
        delimiter, payload = frames
        assert delimiter == b""
        header, name, args = msgpack.unpackb(payload)
        if "response_to" in header:
            job = server.jobs[header["response_to"].encode()]  # a KeyError here: about a call that it never had
            job.heard_s = self.world.now_s
            if name == "_zpc_more":
                job.slots += args[0]
            return
        conversation = header["message_id"]
        if name == "_zerorpc_ping":
            server.pings.append(conversation)
            self._answer_pings(server)
        elif name == "_zerorpc_inspect":
            inspection = {"name": SERVICE, "methods": {key: {} for key in server.methods}}
            self._say_as_server(server, conversation, "OK", [inspection])
        elif name not in ("_zerorpc_name", "_zerorpc_list"):
            self._begin_at_server(server, conversation, name, args)

    def _begin_at_server(self, server: Peer, conversation: str, name: str, args: list[Any]) -> None:
        assert name in server.methods, "a call of a method that the server does not have"
        number = conversation.encode()
        assert number not in server.jobs, "the same call twice to one server"
        call = self.calls[args[0].encode(), args[1]]
        assert not call.ended, "work for a call that nobody waits for"
        assert call.deadline_s > self.world.now_s, "an expired call is executed"
        call.given += 1
        assert call.given <= (2 if name == RETRIED else 1), "a call that must not be repeated is"
        server.jobs[number] = Job(server.identity, number, call, name, beat_s=self.world.now_s)
        taken = sum(not job.ended for job in server.jobs.values() if not job.dropped)
        assert taken <= SERVER_CALLS, "more calls than a server may have"

    # -- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every invariant."""
        core = self.world.core
        open_calls = [call for call in self.calls.values() if not call.ended]
        assert len(core.calls) == len(open_calls)
        late_s = CHECK_INTERVAL_S + 0.5
        waiting = {number for pool in core.registry.all_pools() for number in core.calls.queues[pool].retries}
        for pool in core.registry.all_pools():
            queue = core.calls.queues[pool]
            assert 0 <= queue.calls <= LIMITS.queue_calls + len(waiting) + 1
            assert queue.bytes >= 0
            assert not has_needless_wait(core, pool), "calls wait beside free capacity"
            assert pool.free == sum(max(replica.free, 0) for replica in pool.replicas)
            assert all(replica.free <= replica.capacity for replica in pool.replicas)
        check_services(core)
        for identity, worker in core.registry.workers.items():
            peer = self.peers[identity]
            in_flight = set(core.calls.in_flight[worker])
            if peer.is_server:
                self._check_server(peer, in_flight)
                continue
            owed = {job.number for job in peer.jobs.values() if not job.ended}
            assert in_flight <= set(peer.jobs), "in flight where it never was sent"
            if peer.reachable:
                assert in_flight == owed
            for job in peer.jobs.values():
                if not job.ended and not job.cancelled:
                    assert job.slots == job.call.room, "the worker does not know how much room its client has"
        for call in open_calls:
            client = core.calls.clients.get(call.client)
            assert client is not None
            one = client.open[msgpack.packb(call.message_id)]
            is_told_late = one.deadline_s <= self._ticked_s - late_s
            assert one.failure is not None or not is_told_late, "overdue and not told"
        counted = sum(sum(procedure.all_outcomes().values()) for procedure in core.registry.counted())
        counted += core.counters.unknown_method.total()
        assert counted + len(open_calls) + orphans(core) == self._sent_by_clients, "the books do not balance"

    def _check_server(self, server: Peer, in_flight: set[bytes]) -> None:
        ids = self.world.core.servers._conversations.ids
        calls = self.world.core.calls.in_flight[self._registered()[server.identity]]
        numbers = {msgpack.unpackb(ids.encode(number, calls[number].deaths)).encode() for number in in_flight}
        owed = {job.number for job in server.jobs.values() if not job.ended}
        dropped = {job.number for job in server.jobs.values() if job.dropped}
        assert owed - dropped <= numbers <= owed
        for job in server.jobs.values():
            if not (job.ended or job.dropped or job.cancelled or job.call.ended):
                assert job.slots == job.call.room, "the server does not know how much room its client has"

    def _registered(self) -> dict[bytes, Any]:
        return dict(self.world.core.registry.workers)

    def _reachable_with_orders(self) -> list[Peer]:
        return [peer for peer in self._reachable() if peer.orders]

    def _reachable(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.reachable]

    def _pick_call(self, which: int) -> Call | None:
        calls = [call for call in self.calls.values() if not call.ended]
        return calls[which % len(calls)] if calls else None

    def _open_jobs(self) -> list[Job]:
        jobs = (job for peer in self._reachable() for job in peer.jobs.values())
        return [job for job in jobs if not job.ended and not job.dropped]

    def _pick_job(self, which: int) -> Job | None:
        jobs = [job for job in self._open_jobs() if not self.peers[job.worker].blocked]
        return jobs[which % len(jobs)] if jobs else None
