"""A worker of the test itself: a bare DEALER that registers any description and answers any bytes."""

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import msgpack
import zmq

from cluster.wire import protocol
from tests.faults.attacks.attack import peer
from tests.processes import wait_until

ROW = struct.Struct(">8sI")


def description(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe a worker as READY does; the broker adds nothing."""
    return {
        "protocol": protocol.VERSION,
        "id": "hostile",
        "host": "localhost",
        "pid": 1,
        "metrics_address": "127.0.0.1:1",
        "models": models,
    }


def model(name: str, **fields: Any) -> dict[str, Any]:
    """Describe a model with one procedure, `<name>_predict`."""
    return {
        "display_name": name,
        "qualified_name": name,
        "description": name,
        "major_version": 0,
        "minor_version": 1,
        "input_schema": {},
        "output_schema": {},
        "procedures": [{"name": f"{name}_predict", "doc": "Predict.", "args": ["data"]}],
        **fields,
    }


class HostileWorker:
    """Registers, and gives each WORK to a function."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self.received: list[list[bytes]] = []
        self.on_work: Callable[[bytes, Any], None] = lambda number, event: None

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def register(self, models: list[dict[str, Any]]) -> bytes:
        """Send READY; return WELCOME, or the BYE with its reason."""
        self.send(protocol.READY, msgpack.packb(description(models)))
        wait_until(lambda: any(one[0] in (protocol.WELCOME, protocol.BYE) for one in self.received), 30, "an answer")
        kind, *rest = next(one for one in self.received if one[0] in (protocol.WELCOME, protocol.BYE))
        return rest[0] if kind == protocol.BYE else protocol.WELCOME

    def reply(self, number: bytes, event: bytes) -> None:
        self.send(protocol.REPLY, ROW.pack(number, len(event)), event)

    def serve(self) -> None:
        pinged_s = time.monotonic()
        while True:
            while self._socket.poll(0):
                frames = self._socket.recv_multipart()
                if frames[0] == protocol.WORK:
                    table, *events = frames[2:]
                    for (number, _), event in zip(ROW.iter_unpack(table), events, strict=False):
                        self.on_work(number, msgpack.unpackb(event))
                elif frames[0] != protocol.PING:
                    self.received.append(frames)
            if time.monotonic() - pinged_s > protocol.WORKER_PING_INTERVAL_S:
                pinged_s = time.monotonic()
                self.send(protocol.PING)
            gevent.sleep(0.005)


@contextmanager
def hostile_worker(backend: str) -> Iterator[HostileWorker]:
    """Connect a worker that the body controls; its events are handled while the body waits."""
    with peer(backend) as socket:
        worker = HostileWorker(socket)
        serving = gevent.spawn(worker.serve)
        try:
            yield worker
        finally:
            serving.kill()
