"""A routing core with hand-made clients and workers around it: no socket, no clock, no sleep."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from broker.core.core import Core
from broker.core.scheduling.admission import QueueLimits
from broker.core.state.outbox import ToWorker
from broker.core.state.pool import WorkerPool
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.pairs import read_pairs, write_pairs
from cluster.wire.protocol import ModelDescription, ProcedureDescription, Version, WorkerDescription

GRACE_S = 10.0
VERSION = Version(1, 2)
MAX_MESSAGE_BYTES = 100_000
LIMITS = QueueLimits(
    no_worker_grace_s=GRACE_S,
    queue_timeout_s=4000.0,
    queue_calls=20,
    queue_bytes=3000,
    client_calls=10,
    client_bytes=2000,
)


def describe(
    worker_id: str, *models: str, slots: int = 1, retry: bool = True, timeout_s: float = 5000.0, **batches: Any
) -> WorkerDescription:
    return WorkerDescription(
        protocol=protocol.VERSION,
        id=worker_id,
        host="host",
        pid=1,
        metrics_address="127.0.0.1:8421",
        models=[
            describe_model(name, slots=slots, retry=retry, timeout_s=timeout_s, **batches) for name in models or ("m",)
        ],
        loads=True,
    )


def describe_model(name: str, version: Version = VERSION, **settings: Any) -> ModelDescription:
    return ModelDescription(
        display_name=name.title(),
        qualified_name=name,
        description=f"The {name} model.",
        major_version=version.major,
        minor_version=version.minor,
        input_schema={},
        output_schema={},
        procedures=[
            ProcedureDescription(f"{name}_{what}", f"Predict with {name}.", ["data"], is_stream=is_stream)
            for what, is_stream in (("predict", False), ("predict_stream", True))
        ],
        **{"timeout_s": 5000.0, **settings},
    )


@dataclass
class Reply:
    """An event as a client reads it."""

    client: bytes
    header: dict[str, Any]
    name: str
    args: Any


@dataclass
class Work:
    """One call in a WORK."""

    number: bytes
    payload: bytes

    @property
    def event(self) -> list[Any]:
        event: list[Any] = msgpack.unpackb(self.payload)
        return event


@dataclass
class World:
    now_s: float = 1000.0
    core: Core = field(default_factory=lambda: Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS))
    to_workers: list[ToWorker] = field(default_factory=list)
    asked: int = 0
    next_dispatch_s: float = float("inf")

    # -- clients

    def send_event(self, client: bytes, header: Any, name: Any, args: Any) -> list[Reply]:
        return self.say_bytes(client, msgpack.packb([header, name, args]))

    def say_bytes(self, client: bytes, payload: bytes) -> list[Reply]:
        self.core.clients.message(client, [b"", payload], self.now_s)
        return self.flush()

    def call(
        self, client: bytes, message_id: Any, name: str = "m_predict", args: Any = ("x",), v: int = 3
    ) -> list[Reply]:
        return self.send_event(client, {"message_id": message_id, "v": v}, name, args)

    # -- workers

    def join(self, identity: bytes, *models: str, **settings: Any) -> None:
        self.join_as(identity, describe(identity.decode(), *models, **settings))

    def join_with(self, identity: bytes, *models: ModelDescription) -> None:
        self.join_as(identity, replace(describe(identity.decode()), models=list(models)))

    def join_as(self, identity: bytes, description: WorkerDescription) -> None:
        body = write_description(description)
        self.core.workers.message(identity, [protocol.READY, body], self.now_s)
        self.flush()
        assert (identity, [protocol.WELCOME]) in self.to_workers

    def from_worker(self, identity: bytes, *frames: bytes) -> list[Reply]:
        self.core.workers.message(identity, list(frames), self.now_s)
        return self.flush()

    def answer(
        self, identity: bytes, number: bytes, name: str = "OK", args: Any = ("y",), header: Any = None
    ) -> list[Reply]:
        return self.reply(identity, number, msgpack.packb([header or {}, name, args]))

    def reply(self, identity: bytes, number: bytes, event: bytes, kind: bytes = protocol.REPLY) -> list[Reply]:
        return self.from_worker(identity, *write_pairs(kind, [(number, event)]))

    def work_of(self, identity: bytes) -> list[Work]:
        """What was given to a worker since this was last asked; the rest of the sends stays."""
        taken: list[Work] = []
        for send in [send for send in self.to_workers if send[0] == identity and send[1][0] == protocol.WORK]:
            self.to_workers.remove(send)
            taken += [Work(number, bytes(event)) for number, event in read_pairs(send[1][2:])]
        return taken

    def in_flight(self, identity: bytes) -> list[bytes]:
        """The numbers of the calls that a worker has not answered."""
        return list(self.core.calls.in_flight[self.core.registry.workers[identity]])

    def kinds_to(self, identity: bytes) -> list[bytes]:
        return [frames[0] for to, frames in self.to_workers if to == identity]

    def orders_of(self, identity: bytes, kind: bytes) -> list[list[bytes]]:
        """What orders of a kind a worker got since this was last asked; the rest of the sends stays."""
        taken = [send for send in self.to_workers if send[0] == identity and send[1][0] == kind]
        for send in taken:
            self.to_workers.remove(send)
        return [frames[1:] for _, frames in taken]

    # -- administrators

    def ask(self, name: str, *args: Any, message_id: bytes | None = None) -> list[Reply]:
        """Ask something at the administrators' address; the answers that come at once."""
        self.asked += 1
        event = msgpack.packb([{"message_id": message_id or b"%d" % self.asked, "v": 3}, name, args])
        self.core.admin.message(b"admin", [b"", event], self.now_s)
        self.flush()
        return self.admin_replies()

    def admin_replies(self) -> list[Reply]:
        sends = self.core.outbox.take_admins()
        return [Reply(to, *msgpack.unpackb(payload, strict_map_key=False)) for to, payload in sends]

    # -- time

    def pass_time(self, seconds: float, step_s: float = 0.25) -> list[Reply]:
        replies = []
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + step_s)
            self.core.tick(self.now_s)
            replies += self.flush()
        return replies

    def flush(self) -> list[Reply]:
        self.next_dispatch_s = self.core.dispatch(self.now_s)
        self.core.plan_saved(self.core.deployment.plan.changes, is_on_disk=True)
        to_clients, to_workers = self.core.outbox.take()
        self.to_workers += to_workers
        replies = []
        for client, payload in to_clients:
            try:
                header, name, args = msgpack.unpackb(payload)
            except ValueError:  # what a worker says after the name is passed on unread
                header, name, args = {}, "unreadable", payload
            replies.append(Reply(client, header, name, args))
        return replies

    # -- what must be so when nothing is under way

    def assert_at_rest(self) -> None:
        core = self.core
        assert len(core.calls) == 0
        assert not core.calls.clients
        assert not core._scheduler._dirty
        for pool in core.registry.all_pools():
            queue = core.calls.queues[pool]
            assert (queue.calls, queue.bytes) == (0, 0)
            assert not queue._groups
            assert not queue.retries
            assert pool.stream_bytes == 0
            ready = [worker for worker in core.registry.workers.values() if worker.state == "ready"]
            replicas = [worker.replicas[pool] for worker in ready if pool in worker.replicas]
            assert pool.free == sum(one.capacity for one in replicas)
            assert all(one.free == one.capacity for one in replicas)
        for worker in core.registry.workers.values():
            assert not worker.in_flight
            assert not core.calls.in_flight[worker]

    def outcomes(self, name: str = "m_predict") -> dict[str, int]:
        return {
            outcome: count for outcome, count in self.core.registry.procedures[name].all_outcomes().items() if count
        }

    def pool(self, name: str = "m") -> WorkerPool:
        """The calls of a model that has one version."""
        (hosted,) = self.core.registry.models[name].versions.values()
        return hosted.calls

    def stream_pool(self, name: str = "m") -> WorkerPool:
        """The streams of a model that has one version."""
        (hosted,) = self.core.registry.models[name].versions.values()
        return hosted.streams
