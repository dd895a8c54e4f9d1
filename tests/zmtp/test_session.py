"""A session by itself: bytes in, messages out. The tests against libzmq are in test_router and test_dealer."""

import itertools
from collections.abc import Sequence

import pytest

import zmtp
from zmtp import PeerError, Session

MIB = 1024 * 1024
SIZES = (0, 1, 255, 256, 65_526, 65_527, 65_535, 65_536, 70_000, 1_000_000)
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"


def greeting(version: bytes = b"\x03\x01", mechanism: bytes = b"NULL") -> bytes:
    return SIGNATURE + version + mechanism.ljust(20, b"\0") + bytes(32)


def command(name: bytes, body: bytes = b"") -> bytes:
    content = bytes((len(name),)) + name + body
    size = len(content)
    return (bytes((4, size)) if size < 256 else b"\x06" + size.to_bytes(8, "big")) + content


def ready(socket_type: bytes = b"DEALER", more: bytes = b"") -> bytes:
    return command(b"READY", b"\x0bSocket-Type" + len(socket_type).to_bytes(4, "big") + socket_type + more)


def router(max_message_bytes: int | None = 2 * MIB) -> Session:
    return Session(b"ROUTER", (b"DEALER", b"REQ"), max_message_bytes=max_message_bytes)


def greeted() -> Session:
    session = router()
    assert session.receive_data(greeting() + ready()) == []
    session.to_send.clear()
    return session


def feed(session: Session, data: bytes, step: int) -> list[list[bytes]]:
    """Feed the data in parts of at most `step` bytes; return the messages."""
    messages, at = [], 0
    while at < len(data):
        part = data[at : at + min(step, session.read_bytes)]
        messages += session.receive_data(part)
        at += len(part)
    return messages


@pytest.mark.parametrize("step", [7, 1000, 65_536, MIB])
def test_messages_arrive_unchanged_however_the_data_is_cut(step: int) -> None:
    sent: list[Sequence[bytes]] = [[bytes([i % 256]) * size] for i, size in enumerate(SIZES)]
    sent += [[b"x" * first, b"", b"y" * last] for first, last in itertools.pairwise(SIZES)]
    wire = b"".join(chunk for frames in sent for chunk in zmtp.encode_message(frames))
    assert feed(greeted(), wire, step) == [list(frames) for frames in sent]


@pytest.mark.parametrize("size", SIZES)
def test_encode_event_and_encode_message_give_the_same_bytes(size: int) -> None:
    event = b"e" * size
    assert b"".join(zmtp.encode_event(event)) == b"".join(zmtp.encode_message([b"", event]))


def test_the_handshake_is_the_same_however_it_is_cut() -> None:
    for step in (1, 63, 64, 65, 1000):
        session = router()
        for_peer = b"".join(session.to_send)
        session.to_send.clear()
        message = b"".join(zmtp.encode_message([b"", b"first"]))
        assert feed(session, greeting() + ready() + message, step) == [[b"", b"first"]]
        assert session.is_ready
        assert session.supports_heartbeats
        peer = Session(b"DEALER", (b"ROUTER",))
        assert peer.receive_data(for_peer + b"".join(session.to_send)) == []
        assert peer.is_ready


def test_a_session_sends_only_its_greeting_before_it_has_the_peers() -> None:
    session = router()
    assert b"".join(session.to_send) == greeting()
    session.to_send.clear()
    session.receive_data(greeting()[:-1])
    assert session.to_send == []
    session.receive_data(greeting()[-1:])
    assert session.to_send[0].startswith(b"\x04")


def test_a_heartbeat_is_answered_with_its_context() -> None:
    session = greeted()
    session.receive_data(command(b"PING", b"\x00\x0acontext"))
    assert session.to_send == [command(b"PONG", b"context")]
    assert greeted().receive_data(zmtp.PING) == []


def test_a_peer_of_zmtp_3_0_does_not_support_heartbeats() -> None:
    session = router()
    session.receive_data(greeting(version=b"\x03\x00") + ready())
    assert session.is_ready
    assert not session.supports_heartbeats


def test_the_peers_routing_id_is_read() -> None:
    session = router()
    session.receive_data(greeting() + ready(more=b"\x08identity\x00\x00\x00\x03abc"))
    assert session.routing_id == b"abc"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "does not speak ZMTP; it began with b'G"),
        (b"\xff" + bytes(9), "does not speak ZMTP"),
        (greeting(version=b"\x02\x00"), "speaks version 2 of ZMTP; version 3 is required"),
        (greeting(mechanism=b"CURVE"), "uses the mechanism b'CURVE'; this end uses b'NULL'"),
        (greeting() + ready(b"PUB"), "is a b'PUB' socket"),
        (greeting() + command(b"READY"), "is a b'' socket"),
        (
            greeting() + command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x10DEALER"),
            "the metadata of the peer is incomplete",
        ),
        (greeting() + command(b"READY", b"\x0bSocket"), "the metadata of the peer is incomplete"),
        (greeting() + command(b"PING", b"\0\0"), "the command b'PING' came before the READY"),
        (greeting() + b"\x04\x00", "the command b'' came before the READY"),
        (greeting() + command(b"ERROR", b"\x05go on"), "refused the connection: b'go on'"),
        (greeting() + command(b"ERROR", b"\x03400"), r"refused the connection: b'400' \(the key is not accepted\)"),
        (greeting() + b"\x00\x01x", "a message came before the READY"),
        (greeting() + ready() + b"\x05\x00", "the flags 0x05"),
        (greeting() + ready() + b"\x08\x00", "the flags 0x08"),
        (greeting() + ready() + b"\x01\x00" * 64, "has more than 64 frames"),
        (
            greeting() + ready() + b"\x01\x00" * 63 + b"\x03" + (70_000).to_bytes(8, "big") + bytes(70_000),
            "has more than 64 frames",
        ),
        (
            greeting() + ready(more=b"\x08Identity\x00\x00\x01\x00" + bytes(256)),
            "routing id of the peer has 256 bytes; the limit is 255",
        ),
        (greeting() + ready() + b"\x06" + (70_000).to_bytes(8, "big"), "a command has 70000 bytes; the limit is 65536"),
        (greeting() + ready() + b"\x02" + (3 * MIB).to_bytes(8, "big"), "has at least 3145728 bytes; the limit is"),
        (greeting() + ready() + b"\x02" + (2**63).to_bytes(8, "big"), "has at least 9223372036854775808 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_the_error_names_what_the_peer_did_wrong(data: bytes, text: str) -> None:
    for step in (1, 1000):
        with pytest.raises(PeerError, match=text):
            feed(router(), data, step)


def test_the_reason_in_an_error_command_is_shortened() -> None:
    with pytest.raises(PeerError) as raised:
        router().receive_data(greeting() + command(b"ERROR", b"\xff" + b"x" * 255))
    assert len(str(raised.value)) < 150


def test_one_call_reads_no_more_than_the_read_limit() -> None:
    session = Session(b"ROUTER", (b"DEALER",), read_limit=3)
    wire = b"".join(b"".join(zmtp.encode_message([b"", b"%d" % i])) + zmtp.PING for i in range(10))
    passes = [session.receive_data(greeting() + ready() + wire[:-1])]
    while session.has_buffered:
        passes.append(session.read_buffered())
    assert [len(messages) for messages in passes] == [1, 2, 1, 2, 1, 2, 1]  # and the READY and the PINGs
    session.receive_data(wire[-1:])
    assert [frames for messages in passes for frames in messages] == [[b"", b"%d" % i] for i in range(10)]
    assert b"".join(session.to_send).count(b"PONG") == 10


def test_the_size_limit_counts_all_frames_of_a_message() -> None:
    session = greeted()
    large = b"x" * 700_000
    with pytest.raises(PeerError, match="has at least 2100000 bytes; the limit is 2097152"):
        feed(session, b"".join(zmtp.encode_message([large, large, large])), 65_536)


def test_an_announced_size_allocates_no_memory() -> None:
    sessions = []
    before = resident_bytes()
    for _ in range(200):
        session = router(128 * MIB)
        session.receive_data(greeting() + ready() + b"\x02" + (100 * MIB).to_bytes(8, "big"))
        sessions.append(session)
    assert all(session.read_bytes == zmtp.PIECE_BYTES for session in sessions)
    assert resident_bytes() - before < 50 * MIB


def test_a_large_frame_in_small_pieces_takes_no_more_memory_than_its_size() -> None:
    session = greeted()
    before = resident_bytes()
    feed(session, zmtp.encode_message([b"x" * 2 * MIB])[0] + b"x" * MIB, 10)
    assert resident_bytes() - before < 3 * MIB


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
