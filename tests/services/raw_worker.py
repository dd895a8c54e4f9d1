"""A worker in some 80 lines, written from docs/protocol.md alone: it hosts `counter`, whose procedure is a stream.

    RAW_BACKEND=tcp://127.0.0.1:4243 RAW_ID=one python -m tests.services.raw_worker

`counter_count(n)` streams 0 .. n-1, each as [number, the worker's id], and never more than the client has room for.
"""

import os
import time
from typing import Any

import msgpack
import zmq

READY, REPLY, PING, WELCOME, WORK, MORE, CANCEL = b"\x01", b"\x02", b"\x06", b"\x11", b"\x12", b"\x13", b"\x14"


def describe(worker_id: str) -> bytes:
    model = {
        "display_name": "Counter",
        "qualified_name": "counter",
        "description": "Counts.",
        "major_version": 1,
        "minor_version": 0,
        "input_schema": {},
        "output_schema": {},
        "slots": 10,
    }
    procedure = {"name": "counter_count", "model": "counter", "doc": "Count.", "args": ["n"]}
    description = {
        "protocol": 1,
        "id": worker_id,
        "host": "localhost",
        "pid": 0,
        "metrics_address": "127.0.0.1:1",
        "models": [model],
        "procedures": [procedure],
    }
    packed: bytes = msgpack.packb(description)
    return packed


class Stream:
    def __init__(self, end: int) -> None:
        self.at = 0
        self.end = end
        self.slots = 1


def main(backend: str, worker_id: str) -> None:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(backend)
    dealer.send_multipart([READY, describe(worker_id)])
    streams: dict[bytes, Stream] = {}
    pinged_s = 0.0

    def reply(number: bytes, name: str, args: Any) -> None:
        dealer.send_multipart([REPLY, number, msgpack.packb([{}, name, args])])

    while True:
        if time.monotonic() - pinged_s > 1:
            pinged_s = time.monotonic()
            dealer.send(PING)
        if not dealer.poll(200):
            continue
        kind, *parts = dealer.recv_multipart()
        if kind == WORK:
            for number, event in zip(parts[::2], parts[1::2], strict=True):
                streams[number] = Stream(msgpack.unpackb(event)[2][0])
        elif kind == MORE and parts[0] in streams:
            streams[parts[0]].slots += int.from_bytes(parts[1], "big")
        elif kind == CANCEL and parts[0] in streams:
            streams[parts[0]].end = streams[parts[0]].at
        for number, stream in list(streams.items()):
            while stream.slots > 0:
                stream.slots -= 1
                if stream.at == stream.end:
                    reply(number, "STREAM_DONE", None)
                    del streams[number]
                    break
                reply(number, "STREAM", [stream.at, worker_id])
                stream.at += 1


if __name__ == "__main__":
    main(os.environ["RAW_BACKEND"], os.environ["RAW_ID"])
