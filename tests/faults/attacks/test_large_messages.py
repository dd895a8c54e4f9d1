"""Large messages: many that never become complete, and many at once."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import msgpack
import pytest

from tests.faults.attacks.attack import attack, peer
from tests.figures import Figure
from tests.processes import total, wait_until

MIB = 1 << 20


def connect(stack: ExitStack, address: str, version: int) -> socket.socket:
    """Connect and shake hands, as a DEALER of ZMTP 3.`version`."""
    host, port = address.removeprefix("tcp://").split(":")
    connected = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
    connected.sendall(b"\xff" + bytes(8) + b"\x7f\x03" + bytes([version]) + b"NULL".ljust(20, b"\0") + bytes(32))
    body = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    connected.sendall(bytes([4, len(body)]) + body)
    return connected


@pytest.mark.alone
@pytest.mark.fault(46)
@pytest.mark.parametrize("version", [0, 1])
def test_messages_that_stay_incomplete(tmp_path: Path, figure: Figure, version: int) -> None:
    """30 connections send 63 of 64 MiB each, and then nothing."""
    with attack(tmp_path, figure, f"30 incomplete messages of ZMTP 3.{version}") as made, ExitStack() as stack:
        chunk = bytes(MIB)
        for _ in range(30):
            connected = connect(stack, made.cluster.frontend, version)
            try:
                connected.sendall(b"\x02" + (64 * MIB).to_bytes(8, "big"))
                for _ in range(63):
                    connected.sendall(chunk)
                    gevent.sleep(0)
            except OSError:
                continue  # the broker has dropped it
        bad = "zerorpc_broker_bad_frames_total"
        wait_until(lambda: total(made.cluster.http, bad, reason="zmtp") >= 30, 20, "all connections are dropped")
    assert made.growth_bytes < 700 * MIB


@pytest.mark.alone
@pytest.mark.fault(56)
@pytest.mark.parametrize("procedure", ["iris_model_predict_batch", "no_such_procedure"])
@pytest.mark.parametrize("connections", [2, 4])
def test_large_calls_delay_no_other(tmp_path: Path, figure: Figure, connections: int, procedure: str) -> None:
    """Connections that send calls of 13 MiB as fast as the broker reads them."""
    name = f"calls of 13 MiB to {procedure} from {connections} connections"
    with attack(tmp_path, figure, name, longest_call_s=0.3) as made, ExitStack() as stack:
        event = msgpack.packb([{"message_id": b"0" * 32, "v": 3}, procedure, [[1.5] * (13 * MIB // 9)]])
        dealers = [stack.enter_context(peer(made.cluster.frontend, sndhwm=2)) for _ in range(connections)]
        started_s = time.monotonic()
        while time.monotonic() < started_s + 4.0:
            for dealer in dealers:
                if dealer.poll(0, 2):  # POLLOUT
                    dealer.send_multipart([b"", event], copy=False)
                while dealer.poll(0):
                    dealer.recv_multipart()
            gevent.sleep(0.002)
        figure(f"{name}: lag", total(made.cluster.http, "zerorpc_broker_loop_lag_seconds"), "s")
