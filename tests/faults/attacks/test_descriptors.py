"""More clients than the broker has descriptors."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.attacks.attack import ATTACKED
from tests.faults.attacks.honest import FLOWER
from tests.figures import Figure
from tests.processes import Cluster, cluster, get, total, wait_until

DESCRIPTORS = 256
CLIENTS = 1_000
WATCHED_S = 10.0


@pytest.fixture
def _descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * CLIENTS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect_all(stack: ExitStack, made: Cluster) -> list[socket.socket]:
    """Connect clients that shake hands and then say nothing."""
    host, port = made.frontend.removeprefix("tcp://").split(":")
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
    connected = []
    for _ in range(CLIENTS):
        one = stack.enter_context(socket.socket())
        one.setblocking(False)
        one.connect_ex((host, int(port)))
        connected.append(one)
    wait_until(lambda: total(made.http, "zerorpc_broker_accept_pauses_total", socket="clients") >= 1, 10, "it is full")
    for one in connected:
        try:
            one.send(greeting + bytes([4, len(ready)]) + ready)
        except OSError:
            continue  # the system has not connected it
    return connected


@pytest.mark.alone
@pytest.mark.fault(52)
@pytest.mark.usefixtures("_descriptors")
def test_more_clients_than_descriptors(tmp_path: Path, figure: Figure) -> None:
    prefix = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    with cluster(tmp_path, None, None, code=ATTACKED, broker_prefix=prefix) as made, ExitStack() as stack:
        client = made.client(timeout=10)
        client.iris_model_predict(FLOWER)
        connected = connect_all(stack, made)
        before_s, log_before = total(made.http, "process_cpu_seconds_total"), len(made.broker.output())
        longest_s, until_s = 0.0, time.monotonic() + WATCHED_S
        made.start_worker(None)
        while time.monotonic() < until_s:
            started_s = time.monotonic()
            client.iris_model_predict(FLOWER)
            assert get(made.http, "/healthz")[0] == 200
            longest_s = max(longest_s, time.monotonic() - started_s)
            time.sleep(0.05)
        made.wait_for_workers(3)
        cpu_s = total(made.http, "process_cpu_seconds_total") - before_s
        log_bytes = len(made.broker.output()) - log_before
        figure("the longest call and /healthz together at the limit of descriptors", longest_s, "s")
        figure("the broker's CPU at the limit of descriptors", cpu_s / WATCHED_S, "s/s")
        figure("the broker's log at the limit of descriptors", log_bytes, "bytes")
        assert longest_s < 0.5
        assert cpu_s < 0.2 * WATCHED_S
        assert made.broker.output().count("no descriptor is left") == 1
        assert log_bytes < 10_000
        for one in connected:
            one.close()
        made.client(timeout=10).iris_model_predict(FLOWER)
        wait_until(lambda: total(made.http, "zerorpc_broker_connections", socket="clients") < 10, 10, "they are gone")
