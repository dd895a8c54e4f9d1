"""A worker in some 100 lines, written from docs/protocol.md alone. Its model `counter` has one procedure, a stream.

    RAW_BACKEND=tcp://127.0.0.1:4243 RAW_ID=one python -m tests.services.raw_worker

`counter_count(n)` streams 0 .. n-1, each as [number, the worker's id, monotonic seconds when it was made]. It never
sends more items than the client has slots for.
"""

import os
import struct
import time
from typing import Any

import msgpack
import zmq

READY, REPLY, BYE, PING = b"\x01", b"\x02", b"\x05", b"\x06"
ROW = struct.Struct(">8sI")  # call number, size of its event
WELCOME, WORK, MORE, CANCEL, RESET = b"\x11", b"\x12", b"\x13", b"\x14", b"\x15"


def describe(worker_id: str) -> bytes:
    procedure = {"name": "counter_count", "doc": "Count.", "args": ["n"]}
    model = {
        "display_name": "Counter",
        "qualified_name": "counter",
        "description": "Counts.",
        "major_version": 1,
        "minor_version": 0,
        "input_schema": {},
        "output_schema": {},
        "slots": 10,
        "procedures": [procedure],
    }
    description = {
        "protocol": 3,
        "id": worker_id,
        "host": "localhost",
        "pid": 0,
        "metrics_address": "127.0.0.1:1",
        "models": [model],
    }
    packed: bytes = msgpack.packb(description)
    return packed


class Stream:
    def __init__(self, end: int) -> None:
        self.at = 0
        self.end = end
        self.slots = 1


def serve(backend: str, worker_id: str) -> bool:
    """Serve until the broker sends RESET (True) or BYE (False)."""
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.set(zmq.LINGER, 0)
    dealer.set(zmq.IMMEDIATE, 1)
    dealer.connect(backend)
    streams: dict[bytes, Stream] = {}
    welcome = False
    said_s = 0.0
    heard_s = time.monotonic()
    kind = b""

    def reply(number: bytes, name: str, args: Any) -> None:
        event = msgpack.packb([{}, name, args])
        dealer.send_multipart([REPLY, ROW.pack(number, len(event)), event])

    def send_items(number: bytes, stream: Stream) -> bool:
        """Send as many items as the client has slots for; return whether the stream has ended."""
        while stream.slots > 0:
            stream.slots -= 1
            if stream.at == stream.end:
                reply(number, "STREAM_DONE", None)
                return True
            reply(number, "STREAM", [stream.at, worker_id, time.monotonic()])
            stream.at += 1
        return False

    while True:
        if time.monotonic() - said_s > (1.0 if welcome else 0.5) and dealer.poll(0, zmq.POLLOUT):
            said_s = time.monotonic()
            dealer.send_multipart([PING] if welcome else [READY, describe(worker_id)])
        if not dealer.poll(200):
            if time.monotonic() - heard_s > 10:
                break
            continue
        heard_s = time.monotonic()
        kind, *parts = dealer.recv_multipart()
        if kind == WELCOME:
            welcome = True
        elif kind in (RESET, BYE):
            break
        elif kind == WORK:
            _procedure, table, events = (
                parts  # all events are in one frame: no call here is large enough for a frame of its own
            )
            at = 0
            for number, size in ROW.iter_unpack(table):
                streams[number] = Stream(msgpack.unpackb(events[at : at + size])[2][0])
                at += size
        elif kind == MORE and parts[0] in streams:
            streams[parts[0]].slots += int.from_bytes(parts[1], "big")
        elif kind == CANCEL and parts[0] in streams:
            reply(parts[0], "STREAM_DONE", None)
            del streams[parts[0]]
        for number, stream in list(streams.items()):
            if send_items(number, stream):
                del streams[number]
    dealer.close()
    return kind != BYE


if __name__ == "__main__":
    registration = 1
    while serve(os.environ["RAW_BACKEND"], f"{os.environ['RAW_ID']}-{registration}"):
        registration += 1
