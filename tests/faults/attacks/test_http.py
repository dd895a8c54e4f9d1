"""The HTTP pages while a broker has thousands of clients, and while somebody attacks them."""

import resource
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest

from tests.faults.attacks.attack import attack
from tests.faults.attacks.test_large_messages import connect
from tests.figures import Figure
from tests.processes import get, wait_until

CLIENTS = 5000
IDLE = 150
MIB = 1 << 20


def raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CLIENTS + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted) if hard >= 0 else hard))


@pytest.mark.alone
@pytest.mark.fault(45)
def test_pages_are_served_beside_5000_clients(tmp_path: Path, figure: Figure) -> None:
    raise_descriptor_limit()
    with attack(tmp_path, figure, f"{CLIENTS} connections") as made, ExitStack() as stack:
        for _ in range(CLIENTS):
            connect(stack, made.cluster.frontend, 1)
            gevent.sleep(0)
        for path in ("/healthz", "/readyz", "/metrics", "/workers", "/prometheus/targets"):
            assert get(made.cluster.http, path)[0] == 200


@pytest.mark.alone
@pytest.mark.fault(53)
def test_idle_connections_and_large_bodies_do_not_occupy_the_pages(tmp_path: Path, figure: Figure) -> None:
    with attack(tmp_path, figure, f"{IDLE} idle HTTP connections, and bodies of 450 MiB") as made, ExitStack() as stack:
        host, _, http_port = made.cluster.http.partition(":")
        port = int(http_port)
        idle = [stack.enter_context(socket.create_connection((host, port), timeout=30)) for _ in range(IDLE)]
        started_s = time.monotonic()
        assert get(made.cluster.http, "/healthz") == (200, "ok\n")
        assert time.monotonic() - started_s < 1.0
        before = {path.name for path in Path(tempfile.gettempdir()).iterdir()}
        body = stack.enter_context(socket.create_connection((host, port), timeout=30))
        body.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (450 * MIB))
        assert body.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert {path.name for path in Path(tempfile.gettempdir()).iterdir()} <= before
        wait_until(lambda: all(is_closed(one) for one in idle), 20, "idle connections are closed")


def is_closed(connected: socket.socket) -> bool:
    connected.setblocking(False)
    try:
        return connected.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
