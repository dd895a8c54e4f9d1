"""Answers every call at once with true, behind ZeroMQ's proxy or behind this broker (with its worker protocol).

    echo_worker.py proxy tcp://127.0.0.1:4343
    echo_worker.py broker tcp://127.0.0.1:4243

Both do the same small amount of work, so that only the proxy and the broker differ. Behind the broker, the worker can
host several models (echo, echo_1, echo_2, ...), and can answer with the argument:

    echo_worker.py broker tcp://127.0.0.1:4243 --models 100 --back
"""

import argparse
import os
import time

import msgpack
import zmq
import zmq.backend

from cluster.wire import protocol
from cluster.wire.events import read_event
from cluster.wire.pairs import read_pairs, write_pairs

NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
MORE = int(zmq.SNDMORE)
receive = zmq.backend.Socket.recv
send = zmq.backend.Socket.send

BODY = b"\xa2OK\x91\xc3"
OK = b"\x93\x80\xa2OK"
EVENT = b"\x93\x80" + BODY
PING_S = 1.0


def description(models: int) -> bytes:
    """Return the body of READY."""
    names = ["echo", *(f"echo_{i}" for i in range(1, models))]
    described = [
        {
            "display_name": name,
            "qualified_name": name,
            "description": "Answers at once.",
            "major_version": 1,
            "minor_version": 0,
            "input_schema": {},
            "output_schema": {},
            "max_batch_size": 64,
            "procedures": [{"name": f"{name}_predict", "doc": "Answer at once.", "args": ["data"]}],
        }
        for name in names
    ]
    packed: bytes = msgpack.packb(
        {
            "protocol": protocol.VERSION,
            "id": f"echo-{os.getpid()}",
            "host": "localhost",
            "pid": os.getpid(),
            "metrics_address": "127.0.0.1:1",
            "models": described,
        }
    )
    return packed


def behind_broker(dealer: zmq.Socket[bytes], models: int, back: bool) -> None:
    """Answer the calls of each batch in one message."""
    dealer.send_multipart([protocol.READY, description(models)])
    pinged_s = time.monotonic()
    while True:
        if dealer.poll(100):
            kind, *parts = dealer.recv_multipart()
            if kind == protocol.WORK:
                calls = read_pairs(parts[1:])
                answers = [
                    (number, EVENT if not back else OK + event[read_event(event).args_at :]) for number, event in calls
                ]
                dealer.send_multipart(write_pairs(protocol.REPLY, answers), copy=not back)
        if time.monotonic() - pinged_s >= PING_S:
            pinged_s = time.monotonic()
            dealer.send_multipart([protocol.PING])


def behind_proxy(dealer: zmq.Socket[bytes]) -> None:
    """Answer each call. Its id is at the position at which stock Python clients write it."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("behind", choices=["proxy", "broker"])
    parser.add_argument("address")
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--back", action="store_true")
    options = parser.parse_args()
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.sndhwm = dealer.rcvhwm = 0
    dealer.connect(options.address)
    if options.behind == "proxy":
        behind_proxy(dealer)
    else:
        behind_broker(dealer, options.models, options.back)


if __name__ == "__main__":
    main()
