"""Two sessions wired back to back, without a socket: what one sends, the other reads."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zmtp
from zmtp import PeerError, Session
from zmtp.commands import encode_command
from zmtp.curve import CurveClient, CurveKeys, CurveServer
from zmtp.frames import COMMAND, LONG, encode_frame, encode_message
from zmtp.greeting import Greeting
from zmtp.mechanism import Mechanism, Null

STEPS = st.sampled_from([1, 2, 63, 64, 65, 1000, 65_536])
SIZES = st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 100_000])
MESSAGES = st.lists(st.lists(SIZES.map(lambda size: b"m" * size), min_size=1, max_size=3), max_size=5)


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The flags, without LONG, and the body of each of some whole frames."""
    at = 0
    while at < len(data):
        start = at + (9 if data[at] & LONG else 2)
        stop = start + int.from_bytes(data[at + 1 : start], "big")
        yield data[at] & ~LONG, data[start:stop]
        at = stop


class Xor:
    """A mechanism for tests: it hides each frame, with its flags, by an XOR with a byte that the client chooses.

    It has what CURVE needs: roles, two handshake commands each way, and frames that are not what they contain.
    """

    name = b"XOR"
    wraps = True
    peer_name = ""
    peer_key = b""

    def __init__(self, as_server: bool, key: int = 0x5A) -> None:
        self.as_server = as_server
        self.peer_metadata: bytes | None = None
        self._key = key
        self._metadata = b""

    def begin(self, peer: Greeting, metadata: bytes) -> list[bytes]:
        if peer.as_server == self.as_server:
            raise PeerError("both ends have the same role")
        self._metadata = metadata
        return [] if self.as_server else [encode_command(b"HELLO", bytes((self._key,)))]

    def receive(self, name: bytes, body: bytes) -> list[bytes]:
        if name == b"HELLO" and self.as_server:
            self._key = body[0]
            return [encode_command(b"WELCOME")]
        if name == b"WELCOME" and not self.as_server:
            return [encode_command(b"INITIATE", self._hide(self._metadata))]
        if name == (b"INITIATE" if self.as_server else b"READY"):
            self.peer_metadata = self._hide(body)
            return [encode_command(b"READY", self._hide(self._metadata))] if self.as_server else []
        raise PeerError(f"the command {name!r} is out of turn")

    def wrap(self, frames: bytes) -> bytes:
        return b"".join(encode_frame(0, self._hide(bytes((flags,)) + body)) for flags, body in split_frames(frames))

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        if flags or not body:
            raise PeerError("a frame is not authentic")
        plain = self._hide(body)
        return plain[0], plain[1:]

    def _hide(self, data: bytes) -> bytes:
        return data.translate(bytes(i ^ self._key for i in range(256)))


SERVER_KEYS, CLIENT_KEYS = CurveKeys.of(b"s" * 32), CurveKeys.of(b"c" * 32)


def make_mechanisms(name: str) -> tuple[Mechanism, Mechanism]:
    if name == "null":
        return Null(), Null()
    if name == "xor":
        return Xor(False, 0x33), Xor(True)
    return CurveClient(CLIENT_KEYS, SERVER_KEYS.public), CurveServer(SERVER_KEYS, {CLIENT_KEYS.public: "c"}.get)


def make_pair(mechanism: str = "null") -> tuple[Session, Session]:
    for_client, for_server = make_mechanisms(mechanism)
    client = Session(b"DEALER", (b"ROUTER",), mechanism=for_client)
    server = Session(b"ROUTER", (b"DEALER",), mechanism=for_server, max_message_bytes=500_000)
    return client, server


def feed(session: Session, data: bytes, step: int = 65_536) -> list[list[bytes]]:
    messages = []
    while data:
        size = min(step, session.read_bytes)
        messages += session.receive_data(data[:size])
        data = data[size:]
    return messages


def run_handshake(client: Session, server: Session, step: int = 65_536) -> None:
    while client.to_send or server.to_send:
        for sender, receiver in ((client, server), (server, client)):
            data = b"".join(sender.to_send)
            sender.to_send.clear()
            assert feed(receiver, data, step) == []


def encode(session: Session, messages: Sequence[Sequence[bytes]]) -> bytes:
    chunks = [chunk for frames in messages for chunk in encode_message(frames)]
    return b"".join(session.wrap(chunks) if session.wraps else chunks)


@pytest.mark.parametrize("mechanism", ["null", "xor", "curve"])
@given(step=STEPS, there=MESSAGES, back=MESSAGES)
def test_messages_go_there_and_back(
    mechanism: str, step: int, there: list[list[bytes]], back: list[list[bytes]]
) -> None:
    client, server = make_pair(mechanism)
    run_handshake(client, server, step)
    assert client.is_ready
    assert server.is_ready
    step = max(step, 63)
    assert feed(server, encode(client, there), step) == there
    assert feed(client, encode(server, back), step) == back


@pytest.mark.parametrize("mechanism", ["null", "xor", "curve"])
def test_a_ping_gets_a_pong_and_a_pong_gets_no_answer(mechanism: str) -> None:
    client, server = make_pair(mechanism)
    run_handshake(client, server)
    ping = encode_frame(COMMAND, encode_command(b"PING", b"\0\0context"))
    assert feed(server, b"".join(client.wrap((ping,)))) == []
    pong = b"".join(server.to_send)
    expected = encode_frame(COMMAND, encode_command(b"PONG", b"context"))
    assert mechanism == "curve" or pong == b"".join(client.wrap((expected,)))
    assert feed(client, pong) == []
    assert client.to_send == []


def test_both_ends_may_send_their_greeting_and_ready_at_once() -> None:
    client, server = make_pair()
    greetings = b"".join(client.to_send), b"".join(server.to_send)
    client.to_send.clear()
    server.to_send.clear()
    feed(client, greetings[1])
    feed(server, greetings[0])
    assert not client.is_ready
    run_handshake(client, server)
    assert client.is_ready
    assert server.is_ready


def test_ends_with_different_mechanisms_refuse_each_other() -> None:
    client, _ = make_pair("xor")
    _, server = make_pair()
    with pytest.raises(PeerError, match="the peer uses the mechanism b'XOR'; this end uses b'NULL'"):
        feed(server, b"".join(client.to_send))
    with pytest.raises(PeerError, match="the peer uses the mechanism b'NULL'; this end uses b'XOR'"):
        feed(client, b"".join(make_pair()[1].to_send))


def test_the_mechanism_sees_the_role_of_the_peer() -> None:
    with pytest.raises(PeerError, match="the same role"):
        feed(make_pair("xor")[0], b"".join(make_pair("xor")[0].to_send))


def test_the_mechanism_refuses_a_command_out_of_turn() -> None:
    client, server = make_pair("xor")
    feed(server, b"".join(client.to_send))
    with pytest.raises(PeerError, match="the command b'READY' is out of turn"):
        feed(server, encode_frame(COMMAND, encode_command(b"READY")))


@pytest.mark.parametrize("data", [b"\x01\x01x", zmtp.PING, b"\x00\x00"])
def test_a_frame_that_the_mechanism_has_not_wrapped_is_refused(data: bytes) -> None:
    client, server = make_pair("xor")
    run_handshake(client, server)
    with pytest.raises(PeerError, match="a frame is not authentic"):
        feed(server, data)


def test_the_limits_hold_for_wrapped_messages() -> None:
    client, server = make_pair("xor")
    run_handshake(client, server)
    with pytest.raises(PeerError, match="has more than 64 frames"):
        feed(server, encode(client, [[b"x"] * 65]))
    client, server = make_pair("xor")
    run_handshake(client, server)
    with pytest.raises(PeerError, match="has at least 600001 bytes; the limit is 500000"):
        feed(server, encode(client, [[b"x" * 300_000] * 3]))
