"""CURVE: both ends against libzmq's, and a server against peers that break the rules."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from tests.zmtp.test_dealer import Client
from tests.zmtp.test_router import CAREFUL, MIB, Served
from zmtp import PeerError, Session, curve
from zmtp.commands import encode_command
from zmtp.curve import CurveClient, CurveKeys, CurveServer
from zmtp.errors import MECHANISM
from zmtp.frames import COMMAND, encode_frame, encode_message
from zmtp.greeting import encode_greeting
from zmtp.router import HANDSHAKE_TIMEOUT_S, HANDSHAKES_PER_TURN

SERVER = CurveKeys.of(b"s" * 32)
CLIENT = CurveKeys.of(b"c" * 32)
STRANGER = CurveKeys.of(b"x" * 32)
ACCEPTED = {CLIENT.public: "billing"}
SIZES = (0, 1, 255, 256, 65_535, 70_000, 900_000)
NAMES = (b"", b"HELLO", b"WELCOME", b"INITIATE", b"READY", b"MESSAGE", b"ERROR", b"PING")
TRANSCRIPTS = Path(__file__).with_name("transcripts")


def server_end() -> CurveServer:
    return CurveServer(SERVER, ACCEPTED.get)


def client_end(keys: CurveKeys = CLIENT, server_key: bytes = SERVER.public) -> CurveClient:
    return CurveClient(keys, server_key)


def sessions(keys: CurveKeys = CLIENT, server_key: bytes = SERVER.public) -> tuple[Session, Session]:
    """A client's and a server's session, before the greeting."""
    client = Session(b"DEALER", (b"ROUTER",), mechanism=client_end(keys, server_key))
    return client, Session(b"ROUTER", (b"DEALER",), mechanism=server_end(), max_message_bytes=MIB)


def taken(session: Session) -> bytes:
    """What a session has to send."""
    data = b"".join(session.to_send)
    session.to_send.clear()
    return data


def shake_hands(client: Session, server: Session) -> list[bytes]:
    """Complete a handshake; return what the client sent."""
    sent = []
    while client.to_send or server.to_send:
        sent.append(taken(client))
        if sent[-1]:
            server.receive_data(sent[-1])
        answer = taken(server)
        if answer:
            client.receive_data(answer)
    return sent


def event(session: Session, *frames: bytes) -> bytes:
    return b"".join(session.wrap(encode_message(frames)))


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served("tcp://127.0.0.1:0", CAREFUL, server_end)
    yield made
    made.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made


def libzmq(context: zmq.Context[Any], kind: int, keys: CurveKeys | None, server_key: bytes = b"") -> zmq.Socket[bytes]:
    """A socket of libzmq with keys: a server's, or, with the server's key, a client's; without keys it uses NULL."""
    made = cast("zmq.Socket[bytes]", context.socket(kind))
    made.linger = 0
    made.rcvtimeo = 5000
    if keys is not None:
        made.curve_secretkey = z85.encode(keys.secret)
        made.curve_publickey = z85.encode(keys.public)
        if server_key:
            made.curve_serverkey = z85.encode(server_key)
        else:
            made.curve_server = True
    return made


def test_libzmq_s_client_talks_to_our_server(served: Served, context: zmq.Context[Any]) -> None:
    dealer = libzmq(context, zmq.DEALER, CLIENT, SERVER.public)
    dealer.connect(served.endpoint)
    sent = [[b"", bytes([size % 251]) * size] for size in SIZES]
    for frames in sent:
        dealer.send_multipart(frames)
    served.turn_until(lambda: len(served.messages) == len(sent))
    assert [frames for _, frames in served.messages] == sent
    identity = served.messages[0][0]
    assert served.router.name_of(identity) == "billing"
    assert served.router.name_of(b"gone") == ""
    for frames in sent:
        served.send(identity, *frames)
    received: list[list[bytes]] = []
    while len(received) < len(sent):
        served.turn()
        while dealer.poll(0):
            received.append(dealer.recv_multipart())
    assert received == sent
    dealer.close()


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER])
def test_our_client_talks_to_libzmq_s_server(context: zmq.Context[Any], kind: int) -> None:
    server = libzmq(context, kind, SERVER)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    client = Client(f"tcp://127.0.0.1:{port}", client_end)
    sent = [bytes([size % 251]) * size for size in SIZES]
    for one in sent:
        client.dealer.send(one)
    client.turn_until(lambda: client.events == sent, server)
    client.dealer.close()
    server.close()


def test_heartbeats_of_libzmq_are_answered_in_encrypted_frames(served: Served, context: zmq.Context[Any]) -> None:
    dealer = libzmq(context, zmq.DEALER, CLIENT, SERVER.public)
    dealer.heartbeat_ivl, dealer.heartbeat_timeout = 50, 150
    dealer.connect(served.endpoint)
    until_s = time.monotonic() + 1
    dealer.send_multipart([b"", b"x"])
    while time.monotonic() < until_s:  # libzmq would end the connection after 150 ms without a PONG
        served.turn()
    assert len(served.messages) == 1
    assert served.router.disconnected == []
    dealer.close()


@pytest.mark.parametrize(
    ("keys", "server_key", "reason", "says"),
    [
        (None, b"", MECHANISM, "the peer uses the mechanism b'NULL'; this end uses b'CURVE'"),
        (STRANGER, SERVER.public, curve.CLIENT_KEY, "the peer's key is none of those that are accepted"),
        (CLIENT, STRANGER.public, curve.SERVER_KEY, "the peer knows another key of this server"),
    ],
    ids=["without a key", "with an unlisted key", "with a wrong server key"],
)
def test_a_client_is_refused_with_the_reason(
    served: Served, context: zmq.Context[Any], keys: CurveKeys | None, server_key: bytes, reason: str, says: str
) -> None:
    dealer = libzmq(context, zmq.DEALER, keys, server_key)
    dealer.connect(served.endpoint)
    dealer.send_multipart([b"", b"do not read this"])
    begin_s = time.monotonic()
    served.turn_until(lambda: served.router.peer_errors)
    assert time.monotonic() - begin_s < 1
    (error,) = served.router.peer_errors[:1]
    assert error.reason == reason
    assert says in str(error)
    for _ in range(20):
        served.turn()
    assert served.messages == []
    dealer.close()


def test_libzmq_s_client_is_served_as_soon_as_its_key_is_accepted(served: Served, context: zmq.Context[Any]) -> None:
    dealer = libzmq(context, zmq.DEALER, STRANGER, SERVER.public)
    dealer.connect(served.endpoint)
    dealer.send_multipart([b"", b"hello"])
    served.turn_until(lambda: served.router.peer_errors)
    ACCEPTED[STRANGER.public] = "late"
    try:
        served.turn_until(lambda: served.messages)
    finally:
        del ACCEPTED[STRANGER.public]
    assert served.router.name_of(served.messages[0][0]) == "late"
    dealer.close()


def test_a_peer_without_keys_is_told_what_the_port_requires(served: Served) -> None:
    host, port = served.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        plain.sendall(taken(Session(b"DEALER", (b"ROUTER",))))
        served.turn_until(lambda: served.router.peer_errors)
        received = b""
        while piece := plain.recv(1000):
            received += piece
    assert received.endswith(b"\x05ERROR\x18this port requires CURVE")


def test_a_peer_whose_key_is_withdrawn_is_dropped_and_no_other(served: Served, context: zmq.Context[Any]) -> None:
    ACCEPTED[STRANGER.public] = "other"
    try:
        dealers = [libzmq(context, zmq.DEALER, keys, SERVER.public) for keys in (CLIENT, STRANGER)]
        for dealer in dealers:
            dealer.connect(served.endpoint)
            dealer.send_multipart([b"", b"hello"])
        served.turn_until(lambda: len(served.messages) == 2)
    finally:
        del ACCEPTED[STRANGER.public]
    by_name = {served.router.name_of(identity): identity for identity, _ in served.messages}
    assert served.router.drop_keys(ACCEPTED.get) == [by_name["other"]]
    assert served.router.disconnected == [by_name["other"]]
    served.send(by_name["billing"], b"", b"still here")
    assert dealers[0].recv_multipart() == [b"", b"still here"]
    for dealer in dealers:
        dealer.close()


def test_a_peer_whose_key_gets_another_name_is_dropped(served: Served, context: zmq.Context[Any]) -> None:
    """Its rules are those of its name, so an open connection must not keep the old one."""
    dealer = libzmq(context, zmq.DEALER, CLIENT, SERVER.public)
    dealer.connect(served.endpoint)
    dealer.send_multipart([b"", b"hello"])
    served.turn_until(lambda: served.messages)
    assert served.router.drop_keys({CLIENT.public: "renamed"}.get) == [served.messages[0][0]]
    dealer.close()


def test_the_two_roles_do_not_fit_themselves() -> None:
    (client, server), (other_client, _) = sessions(), sessions()
    with pytest.raises(PeerError, match="both ends are servers of CURVE"):
        server.receive_data(encode_greeting(b"CURVE", as_server=True))
    other_client.receive_data(taken(client))
    with pytest.raises(PeerError, match="the command b'HELLO' came in place of WELCOME"):
        client.receive_data(taken(other_client))


def test_every_changed_byte_of_a_handshake_ends_it() -> None:
    """Each byte after the greeting, but for the padding of a HELLO, is authenticated or checked."""
    client, server = sessions()
    hello, initiate = (part for part in shake_hands(client, server)[1:] if part)
    padding = range(2 + 6 + 2, 2 + 6 + 2 + 72)
    for stage, command in enumerate((hello, initiate)):
        for at in range(2 if stage == 0 else 9, len(command)):
            if stage == 0 and at in padding:
                continue
            client, server = sessions()
            server.receive_data(taken(client))
            client.receive_data(taken(server))
            sent = taken(client)
            if stage == 1:
                server.receive_data(sent)
                client.receive_data(taken(server))
                sent = taken(client)
            assert len(sent) == len(command)
            changed = bytearray(sent)
            changed[at] ^= 0x40
            with pytest.raises(PeerError) as caught:
                server.receive_data(bytes(changed))
            assert caught.value.reason in (curve.HANDSHAKE, curve.SERVER_KEY), (stage, at)
            assert not server.is_ready


def test_every_changed_byte_of_a_message_is_found() -> None:
    client, server = sessions()
    shake_hands(client, server)
    whole = event(client, b"an event")
    for at in range(2, len(whole)):
        client, server = sessions()
        shake_hands(client, server)
        changed = bytearray(event(client, b"an event"))
        changed[at] ^= 1
        with pytest.raises(PeerError) as caught:
            server.receive_data(bytes(changed))
        assert caught.value.reason == curve.MESSAGE


@pytest.mark.parametrize("size", [0, 1, 95, 96, 103, 193, 195, 247, 5000])
@pytest.mark.parametrize("name", [b"HELLO", b"INITIATE", b"READY", b"WELCOME", b"MESSAGE", b""])
def test_a_handshake_command_of_any_size_is_refused(name: bytes, size: int) -> None:
    for steps in (0, 1):
        client, server = sessions()
        server.receive_data(taken(client))
        client.receive_data(taken(server))
        if steps:
            server.receive_data(taken(client))
        frame = encode_frame(COMMAND, bytes((len(name),)) + name + bytes(size))
        with pytest.raises(PeerError) as caught:
            server.receive_data(frame)
        assert caught.value.reason in (curve.HANDSHAKE, curve.SERVER_KEY)


@given(stage=st.integers(0, 3), data=st.binary(min_size=1, max_size=400), name=st.sampled_from(NAMES))
def test_no_bytes_raise_anything_but_a_peer_error(stage: int, data: bytes, name: bytes) -> None:
    client, server = sessions()
    for _ in range(stage):
        server.receive_data(taken(client))
        client.receive_data(taken(server))
    spoiled = encode_frame(COMMAND, encode_command(name, data)) if name else data
    for end in (client, server):
        with suppress(PeerError):
            end.receive_data(spoiled[: end.read_bytes])
    assert server.is_ready == (stage == 3)


def test_a_recorded_handshake_cannot_be_replayed_on_another_connection() -> None:
    client, server = sessions()
    recorded = shake_hands(client, server)
    _, another = sessions()
    another.receive_data(recorded[0])
    another.receive_data(recorded[1])
    with pytest.raises(PeerError, match="the command INITIATE is not authentic"):
        another.receive_data(recorded[2])


def test_messages_cannot_be_repeated_left_behind_or_reflected() -> None:
    def fresh() -> tuple[Session, Session]:
        client, server = sessions()
        shake_hands(client, server)
        return client, server

    client, server = fresh()
    first, second = event(client, b"1"), event(client, b"2")
    assert server.receive_data(first) == [[b"1"]]
    with pytest.raises(PeerError, match="is not higher than"):
        server.receive_data(first)
    client, server = fresh()
    first, second = event(client, b"1"), event(client, b"2")
    assert server.receive_data(second) == [[b"2"]]
    with pytest.raises(PeerError, match="is not higher than"):
        server.receive_data(first)
    client, server = fresh()
    with pytest.raises(PeerError, match="not authentic"):
        client.receive_data(event(client, b"my own"))
    client, server = fresh()
    with pytest.raises(PeerError, match="no MESSAGE of CURVE"):
        server.receive_data(b"".join(encode_message([b"in plain text, or a downgrade" * 2])))


def test_weak_keys_of_a_peer_are_refused() -> None:
    _, server = sessions()
    client, _ = sessions()
    server.receive_data(taken(client))
    client.receive_data(taken(server))
    hello = bytearray(taken(client))
    hello[2 + 6 + 74 : 2 + 6 + 74 + 32] = bytes(32)  # a point of low order: every secret makes the same shared key
    with pytest.raises(PeerError) as caught:
        server.receive_data(bytes(hello))
    assert caught.value.reason == curve.HANDSHAKE


def test_half_open_handshakes_take_little_memory_and_are_freed(served: Served) -> None:
    count = 2000
    host, port = served.endpoint.removeprefix("tcp://").split(":")
    process = psutil.Process()
    before = process.memory_info().rss
    peers = []
    for _ in range(count):
        peer = socket.create_connection((host, int(port)))
        client, _ = sessions()
        peer.sendall(taken(client))
        served.turn(0)
        client.receive_data(_greeting(peer, served))
        peer.sendall(taken(client))
        peers.append(peer)
    served.turn_until(lambda: served.router.connections == count)
    for _ in range(2 * count // HANDSHAKES_PER_TURN):
        served.turn(0)
    # The clients' sockets and sessions are in this process too; a server's half takes 3 KiB of it.
    assert process.memory_info().rss - before < count * 20 * 1024
    served.advance(HANDSHAKE_TIMEOUT_S)
    assert served.router.connections == 0
    for peer in peers:
        peer.close()


def _greeting(peer: socket.socket, served: Served) -> bytes:
    peer.settimeout(0.01)
    data = b""
    while len(data) < 64:
        served.turn(0)
        try:
            data += peer.recv(64 - len(data))
        except TimeoutError:
            continue
    return data


def test_many_handshakes_at_once_are_spread_over_turns(served: Served) -> None:
    host, port = served.endpoint.removeprefix("tcp://").split(":")
    peers = [socket.create_connection((host, int(port))) for _ in range(3 * HANDSHAKES_PER_TURN)]
    for peer in peers:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    served.turn_until(lambda: len(served.router.peer_errors) == len(peers))
    # The last one waited for two further turns at least.
    counts: list[int] = []
    served.router.peer_errors.clear()
    for peer in peers:
        peer.close()
    peers = [socket.create_connection((host, int(port))) for _ in range(3 * HANDSHAKES_PER_TURN)]
    while served.router.connections < len(peers):
        served.turn()
    for peer in peers:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    while len(served.router.peer_errors) < len(peers):
        before = len(served.router.peer_errors)
        served.turn()
        counts.append(len(served.router.peer_errors) - before)
    assert max(counts) <= HANDSHAKES_PER_TURN
    for peer in peers:
        peer.close()


# -- known answers: transcripts of connections with libzmq, which `python -m tests.zmtp.capture` writes ----------------


class Replayed:
    """Random numbers and key pairs, in the order in which a transcript has them."""

    def __init__(self, drawn: Sequence[Sequence[str]]) -> None:
        self._drawn = [[bytes.fromhex(part) for part in one] for one in drawn]

    def random(self, size: int) -> bytes:
        (value,) = self._drawn.pop(0)
        assert len(value) == size
        return value

    def key_pair(self) -> tuple[bytes, bytes]:
        public, secret = self._drawn.pop(0)
        return public, secret


@pytest.mark.parametrize("name", ["server", "client"])
def test_known_answers_of_libzmq(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    transcript = json.loads((TRANSCRIPTS / f"{name}.json").read_text())
    replayed = Replayed(transcript["drawn"])
    monkeypatch.setattr(curve, "randombytes", replayed.random)
    monkeypatch.setattr(curve, "crypto_box_keypair", replayed.key_pair)
    ends: dict[str, Callable[[], Session]] = {
        "server": lambda: Session(b"ROUTER", (b"DEALER",), mechanism=server_end()),
        "client": lambda: Session(b"DEALER", (b"ROUTER", b"DEALER"), mechanism=client_end()),
    }
    session = ends[name]()
    received: list[list[bytes]] = []
    sent = taken(session)
    for step in transcript["steps"]:
        if "from_libzmq" in step:
            received += session.receive_data(bytes.fromhex(step["from_libzmq"]))
            sent += taken(session)
        elif "message" in step:
            sent += event(session, *(bytes.fromhex(frame) for frame in step["message"]))
        else:
            expected = bytes.fromhex(step["to_libzmq"])
            assert sent == expected
            sent = b""
    assert session.is_ready
    assert received == [[bytes.fromhex(frame) for frame in frames] for frames in transcript["received"]]
