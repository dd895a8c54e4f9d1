"""Ports of the tests: a child can listen on a reserved one, and no other socket gets it."""

import socket
import sys
from collections.abc import Callable

import pytest
import zmq

from tests.processes import free_port, free_ports


def listen_plainly(port: int) -> None:
    socket.create_server(("127.0.0.1", port)).close()


def listen_by_libzmq(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"tcp://127.0.0.1:{port}")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let no second socket bind the port")
@pytest.mark.parametrize("listen", [listen_plainly, listen_by_libzmq])
def test_a_reserved_port_can_be_listened_on_again_and_again(listen: Callable[[int], None]) -> None:
    port = free_port()
    for _ in range(3):
        listen(port)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let no second socket bind the port")
def test_a_reserved_port_is_not_reserved_twice_and_refuses_connections() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_reserved_ports_are_consecutive_and_different() -> None:
    first = free_ports(4)
    others = {free_port() for _ in range(20)}
    assert len(others) == 20
    assert not others & set(range(first, first + 4))
