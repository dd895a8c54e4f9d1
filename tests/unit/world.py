"""A routing core with hand-made clients and workers around it: no socket, no clock, no sleep."""

from dataclasses import dataclass, field
from typing import Any

import msgpack

from broker.dispatch import Limits
from broker.outbox import ToWorker
from broker.routing import Core
from cluster import protocol
from cluster.descriptions import write_description
from cluster.pairs import read_pairs, write_pairs
from cluster.protocol import ModelDescription, ProcedureDescription, WorkerDescription

GRACE_S = 10.0
MAX_MESSAGE_BYTES = 100_000
LIMITS = Limits(
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
            ModelDescription(name.title(), name, f"The {name} model.", 1, 2, {}, {}, slots, retry, timeout_s, **batches)
            for name in models or ("m",)
        ],
        procedures=[
            ProcedureDescription(f"{name}_{what}", name, f"Predict with {name}.", ["data"], is_stream=is_stream)
            for name in models or ("m",)
            for what, is_stream in (("predict", False), ("predict_stream", True))
        ],
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
    """One conversation in a WORK."""

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

    # -- clients

    def say(self, client: bytes, header: Any, name: Any, args: Any) -> list[Reply]:
        return self.say_bytes(client, msgpack.packb([header, name, args]))

    def say_bytes(self, client: bytes, payload: bytes) -> list[Reply]:
        self.core.client_message(client, [b"", payload], self.now_s)
        return self.flush()

    def call(
        self, client: bytes, message_id: Any, name: str = "m_predict", args: Any = ("x",), v: int = 3
    ) -> list[Reply]:
        return self.say(client, {"message_id": message_id, "v": v}, name, args)

    # -- workers

    def join(self, identity: bytes, *models: str, **settings: Any) -> None:
        body = write_description(describe(identity.decode(), *models, **settings))
        self.core.worker_message(identity, [protocol.READY, body], self.now_s)
        self.flush()
        assert (identity, [protocol.WELCOME]) in self.to_workers

    def from_worker(self, identity: bytes, *frames: bytes) -> list[Reply]:
        self.core.worker_message(identity, list(frames), self.now_s)
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
            taken += [Work(number, bytes(event)) for number, event in read_pairs(send[1][1:])]
        return taken

    def kinds_to(self, identity: bytes) -> list[bytes]:
        return [frames[0] for to, frames in self.to_workers if to == identity]

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
        to_clients, to_workers = self.core.take_sends(self.now_s)
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
        assert len(core.conversations) == 0
        assert not core.conversations.clients
        assert not core._dispatcher._dirty
        for service in core.catalogue.all_services():
            assert (service.queue.calls, service.queue.bytes) == (0, 0)
            assert not service.queue._lanes
            assert not service.queue.again
            assert service.stream_bytes == 0
            name = service.model.qualified_name
            ready = [worker for worker in core.catalogue.workers.values() if worker.state == "ready"]
            described = [model for worker in ready for model in worker.description.models]
            hosted = [model for model in described if model.qualified_name == name]
            rooms = [one.max_streams if service.is_of_streams else one.slots + one.batches_ahead for one in hosted]
            assert service.free == sum(rooms)
        for worker in core.catalogue.workers.values():
            assert not worker.in_flight

    def outcomes(self, name: str = "m_predict") -> dict[str, int]:
        return {outcome: count for outcome, count in self.core.catalogue.procedures[name].outcomes.items() if count}
