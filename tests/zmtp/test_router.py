"""Our ROUTER against libzmq's sockets, and against plain sockets that break the rules."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from selectors import EVENT_WRITE, DefaultSelector
from typing import Any

import pytest
import zmq

import zmtp
from tests.processes import wait_until
from zmtp import Session, StalledError, UnreachableError
from zmtp.limits import PeerLimits
from zmtp.mechanism import Mechanism, Null
from zmtp.router import MESSAGES_PER_TURN, Router

MIB = 1024 * 1024
TRUSTING = PeerLimits()
CAREFUL = PeerLimits(
    heartbeat_interval_s=1.0,
    heartbeat_timeout_s=3.0,
    max_message_bytes=MIB,
    max_unsent_messages=100,
    max_unsent_bytes=16 * MIB,
    max_total_unsent_bytes=24 * MIB,
)


class Served:
    """A router and the loop around it, with a clock that the test sets."""

    def __init__(self, endpoint: str, limits: PeerLimits, mechanism: Callable[[], Mechanism] = Null) -> None:
        self.selector = DefaultSelector()
        self.router = Router(endpoint, self.selector, limits, mechanism)
        self.endpoint = self.router.endpoint
        self.messages: list[tuple[bytes, list[bytes]]] = []
        self.now_s = 1000.0

    def close(self) -> None:
        if self.selector.get_map() is not None:
            self.router.close()
            self.selector.close()

    def turn(self, wait_s: float = 0.01) -> None:
        for key, events in self.selector.select(wait_s):
            key.data(events, self.now_s)
        self.messages += self.router.take(64)
        self.router.flush()

    def turn_until(self, condition: Callable[[], object]) -> None:
        until_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until_s, (self.messages, self.router.disconnected, self.router.peer_errors)
            self.turn()

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.router.check_timeouts(self.now_s)

    def send(self, identity: bytes, *frames: bytes) -> None:
        self.router.send(identity, zmtp.encode_message(frames))
        self.router.flush()

    def identity_of(self, peer: "Peer") -> bytes:
        peer.send_event(b"identify")
        self.turn_until(lambda: self.messages)
        return self.messages.pop()[0]


class Peer:
    """A peer on a plain socket, under the control of the test."""

    def __init__(self, endpoint: str, version: bytes = b"\x03\x01") -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(5)
        self._session = Session(b"DEALER", (b"ROUTER",))
        self._version = version

    def greet(self) -> None:
        greeting = self._session.to_send.pop()
        self.socket.sendall(greeting[:10] + self._version + greeting[12:])

    def complete_handshake(self, served: Served) -> None:
        self.greet()
        self.socket.settimeout(0.01)
        while not self._session.is_ready:
            served.turn()
            with suppress(TimeoutError):
                self._session.receive_data(self.socket.recv(1000))
        self.socket.settimeout(5)
        self.socket.sendall(b"".join(self._session.to_send))
        self._session.to_send.clear()

    def send_event(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(bytes(chunk) for chunk in zmtp.encode_message(frames)))

    def answer_heartbeats(self) -> int:
        """Answer the heartbeats that have come; return how many."""
        self._session.receive_data(self.socket.recv(1000))
        count = len(self._session.to_send)
        self.socket.sendall(b"".join(self._session.to_send))
        self._session.to_send.clear()
        return count


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Served] = []

    def one(limits: PeerLimits = CAREFUL, endpoint: str = "") -> Served:
        made.append(Served(endpoint or "tcp://127.0.0.1:0", limits))
        return made[-1]

    yield one
    for served in made:
        served.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    made: list[zmq.Socket[bytes]] = []
    with zmq.Context() as context:

        def one(endpoint: str, kind: int = zmq.DEALER, **options: Any) -> zmq.Socket[bytes]:
            one: zmq.Socket[bytes] = context.socket(kind)
            made.append(one)
            one.linger = 0
            one.rcvtimeo = 5000
            one.ipv6 = True
            for name, value in options.items():
                setattr(one, name.lower(), value)
            one.connect(endpoint)
            return one

        yield one
        for each in made:
            each.close()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def one(served: Served, **options: Any) -> Peer:
        made.append(Peer(served.endpoint, **options))
        return made[-1]

    yield one
    for each in made:
        each.socket.close()


@pytest.mark.parametrize(
    "limits", [TRUSTING, replace(CAREFUL, max_message_bytes=32 * MIB)], ids=["trusting", "careful"]
)
@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_messages_go_to_libzmq_and_back(
    serve: Serve, connect: Any, limits: PeerLimits, kind: str, tmp_path: Path
) -> None:
    served = serve(limits, f"ipc://{tmp_path}/s" if kind == "ipc" else "")
    dealer = connect(served.endpoint)
    sent: list[list[bytes]] = [[b"", bytes([size % 251]) * size] for size in (0, 1, 255, 256, 70_000, 9_000_000)]
    sent += [[b"a" * 300, b"", b"b" * 1_500_000, b"c"]]
    for frames in sent:
        dealer.send_multipart(frames)
    served.turn_until(lambda: len(served.messages) == len(sent))
    assert [frames for _, frames in served.messages] == sent
    for identity, message in served.messages:
        served.send(identity, *message)
    received: list[list[bytes]] = []
    while len(received) < len(sent):
        served.turn()
        with suppress(zmq.Again):
            received.append(dealer.recv_multipart(zmq.NOBLOCK))
    assert received == sent


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "localhost", "127.0.0.1", "[::1]", "[::]"])
def test_it_listens_at_every_form_of_host(serve: Serve, connect: Any, host: str) -> None:
    served = serve(endpoint=f"tcp://{host}:0")
    port = served.endpoint.rpartition(":")[2]
    for reached in ["127.0.0.1"] * (host != "[::1]") + ["[::1]"] * (host in ("*", "[::1]", "[::]")):
        connect(f"tcp://{reached}:{port}").send_multipart([b"", reached.encode()])
        served.turn_until(lambda: served.messages)
        assert served.messages.pop()[1] == [b"", reached.encode()]


def test_an_address_that_is_taken_is_refused(serve: Serve) -> None:
    taken = serve().endpoint
    with pytest.raises(OSError, match="Address already in use"):
        serve(endpoint=taken)


def test_a_socket_file_without_a_listener_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    served = serve(endpoint=f"ipc://{path}")
    assert path.is_socket()
    served.close()
    assert not path.exists()


def test_a_req_socket_is_served(serve: Serve, connect: Any) -> None:
    served = serve()
    req = connect(served.endpoint, zmq.REQ)
    req.send(b"question")
    served.turn_until(lambda: served.messages)
    identity, frames = served.messages[0]
    assert frames == [b"", b"question"]
    served.send(identity, b"", b"answer")
    served.turn()
    assert req.recv() == b"answer"


def test_a_libzmq_router_and_our_router_exchange_messages(serve: Serve, connect: Any) -> None:
    served = serve()
    # libzmq's ROUTER sends to a name that it gives to the peer before it connects.
    peer = connect(served.endpoint, zmq.ROUTER, CONNECT_ROUTING_ID=b"ours", ROUTER_MANDATORY=True)
    peer.send_multipart([b"ours", b"", b"there"])
    served.turn_until(lambda: served.messages)
    identity, frames = served.messages[0]
    assert frames == [b"", b"there"]
    served.send(identity, b"", b"back")
    served.turn()
    assert peer.recv_multipart() == [b"ours", b"", b"back"]


def test_it_reports_the_endpoint_at_which_it_listens(serve: Serve, tmp_path: Path) -> None:
    assert not serve(endpoint="tcp://[::1]:0").endpoint.endswith(":0")
    assert serve(endpoint="tcp://[::1]:0").endpoint.startswith("tcp://[::1]:")
    assert serve(endpoint=f"ipc://{tmp_path}/s").endpoint == f"ipc://{tmp_path}/s"


def test_other_sockets_are_refused_by_name(serve: Serve, connect: Any) -> None:
    served = serve()
    connect(served.endpoint, zmq.SUB)
    served.turn_until(lambda: served.router.peer_errors)
    assert str(served.router.peer_errors[0]) == "the peer is a b'SUB' socket"


def test_a_person_with_nc_reads_what_the_port_is(serve: Serve) -> None:
    served = serve(CAREFUL)
    with socket.create_connection(("127.0.0.1", int(served.endpoint.rpartition(":")[2]))) as person:
        person.sendall(b"GET / HTTP/1.1\r\n\r\n")
        served.turn_until(lambda: served.router.peer_errors)
        said = b""
        while data := person.recv(1000):
            said += data
    assert said[64:] == b"\r\nThis port speaks ZMTP, the protocol of ZeroMQ, and neither HTTP nor plain text.\r\n"


def test_a_peer_that_wants_security_does_not_stay(serve: Serve, connect: Any) -> None:
    served = serve()
    (public, secret), (of_server, _) = zmq.curve_keypair(), zmq.curve_keypair()
    connect(served.endpoint, CURVE_SERVERKEY=of_server, CURVE_PUBLICKEY=public, CURVE_SECRETKEY=secret)
    served.turn_until(lambda: served.router.disconnected)  # either end may be the first to close it


def test_a_routing_id_is_free_for_another_when_its_owner_has_gone(serve: Serve, connect: Any) -> None:
    served = serve()
    owner = connect(served.endpoint, ROUTING_ID=b"one")
    owner.send(b"owner")
    served.turn_until(lambda: served.messages)
    heir = connect(served.endpoint, ROUTING_ID=b"one")
    heir.send(b"heir")
    served.turn_until(lambda: served.router.peer_errors)
    assert "the routing id b'one' is taken" in str(served.router.peer_errors[0])
    assert len(served.messages) == 1
    owner.close()

    def has_come() -> bool:
        heir.send(b"heir")  # again, for what leaves over a connection that is being closed is lost
        return len(served.messages) > 1

    served.turn_until(has_come)
    assert served.messages[1][1] == [b"heir"]


def test_messages_before_a_disconnect_are_taken_and_the_disconnect_is_reported(serve: Serve, peer: Any) -> None:
    served = serve()
    talker = peer(served)
    talker.complete_handshake(served)
    for i in range(3 * MESSAGES_PER_TURN):
        talker.send_event(b"%d" % i)
    talker.socket.close()
    served.turn_until(lambda: served.router.disconnected)
    served.turn_until(lambda: not served.router.has_messages)
    assert [frames for _, frames in served.messages] == [[b"%d" % i] for i in range(3 * MESSAGES_PER_TURN)]
    assert served.router.disconnected == [served.messages[0][0]]
    with pytest.raises(UnreachableError):
        served.send(served.router.disconnected[0], b"x")


def test_a_peer_that_sends_much_does_not_delay_the_others(serve: Serve, peer: Any) -> None:
    served = serve()
    flooder, other = peer(served), peer(served)
    for each in (flooder, other):
        each.complete_handshake(served)
    flooder.socket.sendall(b"".join(bytes(chunk) for chunk in zmtp.encode_message([b"flood"])) * 1000)
    other.send_event(b"other")
    wait_until(lambda: len(served.selector.select(0)) == 2, 10, "both peers are readable")
    for key, events in served.selector.select(0):
        key.data(events, served.now_s)
    assert [b"other"] in [frames for _, frames in served.router.take(2 * MESSAGES_PER_TURN)]
    served.turn_until(lambda: len(served.messages) >= 1000 - 2 * MESSAGES_PER_TURN)


@pytest.mark.parametrize("tiny", [b"\x04\x00", b"\x00\x00"], ids=["commands", "messages"])
def test_a_peer_that_sends_many_tiny_frames_does_not_delay_the_others(serve: Serve, peer: Any, tiny: bytes) -> None:
    served = serve()
    flooder, other = peer(served), peer(served)
    for each in (flooder, other):
        each.complete_handshake(served)
    flooder.socket.sendall(tiny * 20_000)
    other.send_event(b"other")
    wait_until(lambda: len(served.selector.select(0)) == 2, 10, "both peers are readable")
    for key, events in served.selector.select(0):
        key.data(events, served.now_s)
    connection = next(iter(served.router._connections.values()))
    assert len(connection.messages) <= MESSAGES_PER_TURN
    assert [b"other"] in [frames for _, frames in served.router.take(2 * MESSAGES_PER_TURN)]
    assert connection.session.has_buffered
    flooder.send_event(b"the end")
    served.turn_until(lambda: [b"the end"] in [frames for _, frames in served.messages])


@pytest.mark.parametrize("greets", [False, True])
def test_a_peer_that_does_not_complete_the_handshake_in_time_is_dropped(serve: Serve, peer: Any, greets: bool) -> None:
    served = serve(TRUSTING)
    silent = peer(served)
    if greets:
        silent.greet()
    served.turn()
    served.advance(4.9)
    assert silent.socket.recv(64).startswith(b"\xff")
    served.advance(1.1)
    silent.socket.settimeout(5)
    while silent.socket.recv(64):
        pass


def test_a_silent_peer_gets_a_ping_and_is_then_dropped(serve: Serve, peer: Any) -> None:
    served = serve()
    silent = peer(served)
    silent.complete_handshake(served)
    identity = served.identity_of(silent)
    served.advance(1.0)
    served.router.flush()
    assert silent.answer_heartbeats() == 1
    served.turn_until(lambda: not served.selector.select(0.05))
    served.advance(3.5)  # it has answered, so it gets another PING
    served.router.flush()
    assert served.router.disconnected == []
    served.advance(2.9)
    assert served.router.disconnected == []
    served.advance(0.3)
    assert served.router.disconnected == [identity]


def test_a_pause_of_the_router_itself_drops_no_peer(serve: Serve, peer: Any) -> None:
    served = serve()
    patient = peer(served)
    patient.complete_handshake(served)
    served.identity_of(patient)
    served.advance(1.0)
    served.router.flush()
    assert patient.answer_heartbeats() == 1
    time.sleep(0.1)  # so that the answer is there, unread
    served.advance(60.0)
    assert served.router.disconnected == []


def test_a_peer_of_zmtp_3_0_gets_no_ping(serve: Serve, peer: Any) -> None:
    served = serve()
    old = peer(served, version=b"\x03\x00")
    old.complete_handshake(served)
    served.identity_of(old)
    for _ in range(5):
        served.advance(20.0)
    assert served.router.disconnected == []


def test_a_peer_of_zmtp_3_0_gets_pings_with_ping_all(serve: Serve, peer: Any) -> None:
    served = serve(replace(CAREFUL, ping_all=True))
    old = peer(served, version=b"\x03\x00")
    old.complete_handshake(served)
    served.identity_of(old)
    served.advance(2.0)
    served.router.flush()
    assert old.answer_heartbeats() == 1
    served.turn_until(lambda: next(iter(served.router._connections.values())).last_received_s == served.now_s)
    for _ in range(5):
        served.advance(2.0)
    assert len(served.router.disconnected) == 1


def test_tcp_keep_alive_watches_a_peer_without_heartbeats(serve: Serve, peer: Any) -> None:
    served = serve()
    peer(served, version=b"\x03\x00").complete_handshake(served)
    connection = next(iter(served.router._connections.values()))
    assert connection._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_peer_that_reads_a_large_message_is_not_dropped(serve: Serve, peer: Any) -> None:
    served = serve(PeerLimits(heartbeat_interval_s=1.0, heartbeat_timeout_s=3.0))
    reader = peer(served)
    reader.complete_handshake(served)
    served.send(served.identity_of(reader), bytes(40 * MIB))
    assert served.router.is_stalled
    while served.router.is_stalled:
        reader.socket.recv(MIB)
        served.turn(0)
        served.advance(0.2)
        assert served.router.disconnected == []
    served.send(next(iter(served.router._connections)), bytes(40 * MIB))
    assert served.router.is_stalled
    for _ in range(20):  # a peer that reads none of it is dropped
        served.turn(0)
        served.advance(0.5)
    assert len(served.router.disconnected) == 1


def test_libzmq_accepts_the_heartbeats(serve: Serve, connect: Any) -> None:
    served = serve(PeerLimits(heartbeat_interval_s=0.05, heartbeat_timeout_s=0.5))
    dealer = connect(served.endpoint, HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=500)
    dealer.send(b"hello")
    until_s = time.monotonic() + 1.5
    while time.monotonic() < until_s:
        served.now_s = time.monotonic()
        served.turn()
        served.router.check_timeouts(time.monotonic())
    assert served.router.disconnected == []
    assert len(served.messages) == 1


def fill(served: Served, identity: bytes, size: int) -> int:
    """Send until the peer is stalled; return how many messages of that size were accepted."""
    count = 0
    with suppress(StalledError):
        while count < 10_000_000 // size + 10_000:
            served.send(identity, bytes(size))
            count += 1
    return count


@pytest.mark.parametrize("size", [10, 1000, 100_000, 500_000])
def test_unsent_messages_of_a_peer_that_does_not_read_are_limited(serve: Serve, peer: Any, size: int) -> None:
    served = serve()
    lazy = peer(served)
    lazy.complete_handshake(served)
    identity = served.identity_of(lazy)
    kernel = 8 * MIB  # may take what it likes of that
    count = fill(served, identity, size)
    assert count * size <= kernel + CAREFUL.max_unsent_bytes
    if size <= 100_000:
        assert count <= kernel / size + 101
    assert served.router.is_stalled
    lazy.socket.settimeout(0.05)
    while served.router.is_stalled:  # it reads, and is served again
        with suppress(TimeoutError):
            lazy.socket.recv(MIB)
        served.turn()
    served.send(identity, bytes(size))


def test_unsent_messages_leave_while_the_peer_reads(serve: Serve, peer: Any) -> None:
    served = serve(replace(CAREFUL, max_unsent_messages=10_000))
    slow = peer(served)
    slow.complete_handshake(served)
    fill(served, served.identity_of(slow), 500_000)
    assert served.router.is_stalled
    while served.router.is_stalled:
        slow.socket.recv(MIB)
        until_s = time.monotonic() + 10
        while ready := [key for key, events in served.selector.select(0) if events & EVENT_WRITE]:
            assert time.monotonic() < until_s, "the selector reports again and again that the peer reads"
            for key in ready:
                key.data(EVENT_WRITE, served.now_s)


def test_a_peer_that_sends_pings_and_does_not_read_gets_no_more_pongs(serve: Serve, peer: Any) -> None:
    served = serve(replace(CAREFUL, max_message_bytes=None))
    asker = peer(served)
    asker.complete_handshake(served)
    asker.socket.setblocking(False)
    pings = memoryview(zmtp.PING * 4_000_000)
    connection = next(iter(served.router._connections.values()))
    while pings:
        with suppress(BlockingIOError):
            pings = pings[asker.socket.send(pings) :]
        served.turn(0)
    assert served.router.is_stalled
    assert connection.unsent_bytes < MIB


def test_all_peers_together_have_a_limit_and_a_reader_keeps_its_share(serve: Serve, peer: Any) -> None:
    limits = replace(CAREFUL, max_unsent_messages=10_000)
    served = serve(limits)
    lazy, idle, reader = peer(served), peer(served), peer(served)
    identities = []
    for each in (lazy, idle, reader):
        each.complete_handshake(served)
        identities.append(served.identity_of(each))
    fill(served, identities[0], 500_000)
    second = fill(served, identities[1], 500_000)
    assert second * 500_000 <= 8 * MIB + limits.max_total_unsent_bytes - 15 * MIB
    served.send(identities[2], bytes(MIB))
    lazy.socket.close()
    served.turn_until(lambda: served.router.disconnected)
    assert fill(served, identities[1], 500_000) > 5  # the share of the other is free again


def test_all_peers_together_have_a_limit_for_small_messages_too(serve: Serve, peer: Any) -> None:
    limits = replace(CAREFUL, max_unsent_messages=10_000)
    served = serve(limits)
    for _ in range(3):
        lazy = peer(served)
        lazy.complete_handshake(served)
        fill(served, served.identity_of(lazy), 16_000)
    waiting = [connection.unsent_bytes for connection in served.router._connections.values()]
    assert limits.max_unsent_bytes < sum(waiting) <= limits.max_total_unsent_bytes + 3 * 16_100


def test_messages_that_leave_in_the_same_turn_do_not_count_as_unsent(serve: Serve, peer: Any) -> None:
    served = serve()
    reader = peer(served)
    reader.complete_handshake(served)
    identity = served.identity_of(reader)
    for _ in range(3 * (CAREFUL.max_unsent_messages or 0)):
        served.router.send(identity, zmtp.encode_message([b"small"]))
    served.router.send(identity, zmtp.encode_message([bytes(20_000)]))
    served.router.flush()
    assert not served.router.is_stalled


def test_a_message_that_stays_incomplete_ends_its_connection(serve: Serve, peer: Any) -> None:
    served = serve(TRUSTING)
    slow = peer(served)
    slow.complete_handshake(served)
    identity = served.identity_of(slow)
    slow.socket.sendall(b"\x02" + (2 * MIB).to_bytes(8, "big") + bytes(MIB))
    served.turn_until(lambda: served.router._unread_bytes == MIB)
    served.advance(9.9)
    assert served.router.disconnected == []
    slow.socket.sendall(bytes(1000))
    served.turn_until(lambda: served.router._unread_bytes == MIB + 1000)
    served.advance(9.9)
    assert served.router.disconnected == []
    served.advance(1.1)
    assert served.router.disconnected == [identity]
    assert [str(error) for error in served.router.peer_errors] == ["a message stayed incomplete for 10 s"]
    assert served.router._unread_bytes == 0


def test_too_much_input_in_all_ends_the_largest_connection_that_stalls(serve: Serve, peer: Any) -> None:
    served = serve(replace(CAREFUL, max_total_unread_bytes=2 * MIB, heartbeat_interval_s=0))
    sizes = {"large": 900_000, "small": 300_000, "active": 700_000}
    peers = {name: peer(served) for name in sizes}
    identities = {}
    for name, one in peers.items():
        one.complete_handshake(served)
        identities[name] = served.identity_of(one)
        one.socket.sendall(b"\x02" + MIB.to_bytes(8, "big") + bytes(sizes[name] - 100_000))
    served.turn_until(lambda: served.router._unread_bytes == 1_600_000)
    served.now_s += 1.5
    peers["active"].socket.sendall(bytes(100_000))
    served.turn_until(lambda: served.router._unread_bytes == 1_700_000)
    another = peer(served)
    another.complete_handshake(served)
    another.socket.sendall(b"\x02" + MIB.to_bytes(8, "big") + bytes(500_000))
    served.turn_until(lambda: served.router.disconnected)
    assert served.router.disconnected == [identities["large"]]
    served.turn_until(lambda: served.router._unread_bytes == 1_400_000)
    peers["active"].socket.sendall(bytes(MIB - 700_000))
    served.turn_until(lambda: served.messages and served.messages[-1][1] == [bytes(MIB)])


def test_without_free_descriptors_accepting_pauses_until_there_are_some(serve: Serve, connect: Any) -> None:
    served = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [socket.socket() for _ in range(3)]
    port = int(served.endpoint.rpartition(":")[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(one.fileno() for one in waiting) + 1, hard))
    try:
        fillers = []
        with suppress(OSError):
            while True:
                fillers.append(socket.socket())
        for one in waiting:
            one.connect(("127.0.0.1", port))
        served.turn_until(lambda: not served.selector.select(0))  # it does not try again and again
        for filler in fillers:
            filler.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served.advance(1.5)
    served.turn()
    assert all(one.recv(64) for one in waiting)
    for one in waiting:
        one.close()


def test_further_connections_wait_until_one_ends(serve: Serve, peer: Any) -> None:
    served = serve(replace(CAREFUL, max_connections=2))
    peers = [peer(served) for _ in range(3)]
    served.turn_until(lambda: served.router.accept_pauses == 1)
    assert served.router.connections == 2
    assert not served.selector.select(0), "it does not try again and again"
    served.advance(1.5)
    assert served.router.connections == 2
    peers[0].socket.close()
    served.turn_until(lambda: served.router.connections == 1)
    served.advance(1.5)
    served.turn_until(lambda: served.router.connections == 2)
    peers[2].complete_handshake(served)
    assert served.identity_of(peers[2])
