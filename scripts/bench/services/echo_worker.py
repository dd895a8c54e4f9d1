"""Answers every call at once with true: behind ZeroMQ's proxy, or behind this broker by its worker protocol.

    echo_worker.py proxy tcp://127.0.0.1:4343
    echo_worker.py broker tcp://127.0.0.1:4243

Both do the same little work, so that what differs is the proxy and the broker.
"""

import os
import sys
import time

import msgpack
import zmq
import zmq.backend

from cluster import protocol
from cluster.pairs import read_pairs, write_pairs

NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
MORE = int(zmq.SNDMORE)
receive = zmq.backend.Socket.recv
send = zmq.backend.Socket.send

BODY = b"\xa2OK\x91\xc3"
EVENT = b"\x93\x80" + BODY
PING_S = 1.0


def description() -> bytes:
    """What READY says."""
    model = {
        "display_name": "Echo",
        "qualified_name": "echo",
        "description": "Answers at once.",
        "major_version": 1,
        "minor_version": 0,
        "input_schema": {},
        "output_schema": {},
        "max_batch_size": 64,
    }
    procedure = {"name": "echo_predict", "model": "echo", "doc": "Answer at once.", "args": ["data"]}
    packed: bytes = msgpack.packb(
        {
            "protocol": protocol.VERSION,
            "id": f"echo-{os.getpid()}",
            "host": "localhost",
            "pid": os.getpid(),
            "metrics_address": "127.0.0.1:1",
            "models": [model],
            "procedures": [procedure],
        }
    )
    return packed


def behind_broker(dealer: zmq.Socket[bytes]) -> None:
    """Answer in the batches in which the calls come."""
    dealer.send_multipart([protocol.READY, description()])
    pinged_s = time.monotonic()
    while True:
        if dealer.poll(100):
            kind, *parts = dealer.recv_multipart()
            if kind == protocol.WORK:
                dealer.send_multipart(write_pairs(protocol.REPLY, [(number, EVENT) for number, _ in read_pairs(parts)]))
        if time.monotonic() - pinged_s >= PING_S:
            pinged_s = time.monotonic()
            dealer.send_multipart([protocol.PING])


def behind_proxy(dealer: zmq.Socket[bytes]) -> None:
    """Answer each call under its own id, which stands where stock Python clients put it."""
    while True:
        identity = receive(dealer)
        receive(dealer)
        event = receive(dealer)
        answer = b"\x93\x83\xabresponse_to" + event[13:47] + b"\xa1v\x03\xaamessage_id\xc4\x08--------" + BODY
        send(dealer, identity, MORE)
        send(dealer, b"", MORE)
        send(dealer, answer)


def main() -> None:
    """Answer until killed."""
    behind, address = sys.argv[1:]
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.sndhwm = dealer.rcvhwm = 0
    dealer.connect(address)
    {"proxy": behind_proxy, "broker": behind_broker}[behind](dealer)


if __name__ == "__main__":
    main()
