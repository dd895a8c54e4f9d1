"""Our DEALER against libzmq's ROUTER, DEALER and REP, and against plain sockets."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import DefaultSelector

import pytest
import zmq

from tests.processes import free_port
from zmtp.dealer import Dealer
from zmtp.errors import PeerError
from zmtp.frames import encode_event
from zmtp.limits import PeerLimits
from zmtp.mechanism import Mechanism, Null
from zmtp.router import Router


class Client:
    """A dealer and the loop around it."""

    def __init__(self, address: str, mechanism: Callable[[], Mechanism] = Null) -> None:
        self.selector = DefaultSelector()
        self.dealer = Dealer(address, self.selector, mechanism)
        self.events: list[bytes] = []

    def turn(self) -> None:
        for _ in self.selector.select(0.01):
            self.events += self.dealer.receive()
        self.dealer.reconnect_if_due()
        self.dealer.flush()

    def turn_until(self, condition: Callable[[], object], router: zmq.Socket[bytes] | None = None) -> None:
        """Run the loop; the router sends back each message that it receives."""
        until_s = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < until_s
            while router is not None and router.poll(0):
                router.send_multipart(router.recv_multipart())
            self.turn()


Connect = Callable[[str], Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[Client] = []

    def one(address: str) -> Client:
        made.append(Client(address))
        return made[-1]

    yield one
    for client in made:
        client.dealer.close()
        client.selector.close()


def bind(service: zmq.Socket[bytes]) -> str:
    """Bind libzmq's socket to a free port; return the endpoint."""
    service.linger = 0
    return f"tcp://127.0.0.1:{service.bind_to_random_port('tcp://127.0.0.1')}"


@contextmanager
def echo(address: str, heartbeat_ms: int = 0) -> Iterator[zmq.Socket[bytes]]:
    """A service that sends back each message that it receives."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        if heartbeat_ms:
            router.heartbeat_ivl = heartbeat_ms
            router.heartbeat_timeout = 3 * heartbeat_ms
        router.bind(address)
        yield router


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000, 3_000_000])
@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_events_of_any_size_go_there_and_back(connect: Connect, size: int, kind: str, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}" if kind == "tcp" else f"ipc://{tmp_path}/s"
    sent = [bytes([i]) * size + b"." for i in range(5)]
    with echo(address) as router:
        client = connect(address)
        for event in sent:
            client.dealer.send(event)
        client.turn_until(lambda: len(client.events) == 5, router)
    assert client.events == sent


def test_a_libzmq_dealer_and_our_dealer_exchange_events(connect: Connect) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        client = connect(bind(peer))
        client.dealer.send(b"there")
        client.turn_until(lambda: peer.poll(0))
        assert peer.recv_multipart() == [b"", b"there"]
        peer.send_multipart([b"", b"back"])
        client.turn_until(lambda: client.events)
    assert client.events == [b"back"]


def test_a_libzmq_rep_answers_our_dealer(connect: Connect) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as service:
        client = connect(bind(service))
        for question in (b"one", b"two"):
            client.dealer.send(question)
        for _ in range(2):
            client.turn_until(lambda: service.poll(0))
            service.send(b"answer to " + service.recv())
        client.turn_until(lambda: len(client.events) == 2)
    assert client.events == [b"answer to one", b"answer to two"]


def test_a_message_that_is_not_an_event_is_an_error(connect: Connect) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        client = connect(bind(peer))
        client.dealer.send(b"event")
        client.turn_until(lambda: peer.poll(0))
        peer.send_multipart([b"no", b"event"])
        with pytest.raises(PeerError, match="the peer sent b'no' instead of an empty frame and an event"):
            client.turn_until(lambda: False)


def test_our_dealer_and_our_router_exchange_events(connect: Connect) -> None:
    with DefaultSelector() as selector:
        router = Router("tcp://127.0.0.1:0", selector, PeerLimits())
        client = connect(router.endpoint)
        client.dealer.send(b"there")

        def echo_events() -> list[bytes]:
            for key, events in selector.select(0):
                key.data(events, 0.0)
            for identity, (_, event) in router.take(10):
                router.send(identity, encode_event(event + b" and back"))
            router.flush()
            return client.events

        client.turn_until(echo_events)
        router.close()
    assert client.events == [b"there and back"]


def test_pings_of_a_service_are_answered(connect: Connect) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with echo(address, heartbeat_ms=50) as router:
        client = connect(address)
        client.dealer.send(b"one")
        client.turn_until(lambda: client.events, router)
        with router.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            until_s = time.monotonic() + 1.0
            while time.monotonic() < until_s:
                client.turn()
            assert monitor.poll(0) == 0, "its heartbeats were not answered"
            router.disable_monitor()


def test_a_dealer_reconnects_and_sends_what_was_not_sent(connect: Connect) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with echo(address) as router:
        client = connect(address)
        client.dealer.send(b"before")
        client.turn_until(lambda: client.events == [b"before"], router)
    client.turn_until(lambda: not client.dealer.is_connected)
    client.dealer.send(b"after")
    with echo(address) as router:
        client.turn_until(lambda: client.events == [b"before", b"after"], router)


def test_an_answer_before_the_disconnect_is_read(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
        connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + bytes((4, len(ready))) + ready)
        client.turn_until(lambda: select.select([connection], [], [], 0)[0])
        client.turn()  # it reads the greeting
        connection.sendall(b"\x01\x00\x00\x06answer")
        connection.close()  # the client's greeting is unread, so the system resets the connection
        client.dealer.send(b"another")
        client.dealer.flush()
        client.dealer.flush()
        client.turn_until(lambda: not client.dealer.is_connected)
    assert client.events == [b"answer"]


def test_a_dealer_connects_to_a_service_that_starts_later(connect: Connect) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    client = connect(address)
    client.dealer.send(b"early")
    client.turn_until(lambda: not client.dealer.is_connected)
    with echo(address) as router:
        client.turn_until(lambda: client.events == [b"early"], router)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n" * 4, b"\xff" + bytes(8) + b"\x7f\x02" + bytes(60)])
def test_a_peer_that_does_not_speak_zmtp_3_is_an_error(connect: Connect, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)
                connection.recv(1000)

        speaker = threading.Thread(target=speak)
        speaker.start()
        client = connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(PeerError, match=r"does not speak ZMTP; it began with b'HTTP|speaks version 2 of ZMTP"):
            client.turn_until(lambda: False)
        client.dealer.close()
        speaker.join()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://:4242",
        "udp://127.0.0.1:1",
        "ipc://",
        "tcp://127.0.0.1:65536",
    ],
)
def test_a_malformed_endpoint_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="should be tcp://host:port or ipc://path"):
        Dealer(address, DefaultSelector())
