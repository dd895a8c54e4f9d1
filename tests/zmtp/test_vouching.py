"""A peer with two connections, of which one answers heartbeats for both: a worker whose interpreter is held."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from tests.zmtp.test_router import CAREFUL, Peer, Served
from zmtp import PeerError, Session

ALIVE = b"alive-1"


class TwoConnections(Peer):
    """The connection with the messages; it names the other one."""

    def __init__(self, endpoint: str, heartbeats_by: bytes = ALIVE) -> None:
        super().__init__(endpoint)
        self._session = Session(b"DEALER", (b"ROUTER",), heartbeats_by=heartbeats_by)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served("tcp://127.0.0.1:0", CAREFUL)
    yield made
    made.close()


@pytest.fixture
def connect(served: Served) -> Iterator[Callable[[bytes], TwoConnections]]:
    made: list[TwoConnections] = []

    def one(heartbeats_by: bytes = ALIVE) -> TwoConnections:
        made.append(TwoConnections(served.endpoint, heartbeats_by))
        made[-1].complete_handshake(served)
        return made[-1]

    yield one
    for peer in made:
        peer.socket.close()


@pytest.fixture
def alive(served: Served) -> Iterator[zmq.Socket[bytes]]:
    """The connection of libzmq, which answers heartbeats in a thread of its own."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.routing_id = ALIVE
        dealer.connect(served.endpoint)
        served.turn_until(lambda: ALIVE in served.router._claimed)
        yield dealer


def pass_time(served: Served, seconds: int) -> None:
    for _ in range(4 * seconds):
        served.advance(0.25)
        for _ in range(5):
            served.turn()


def test_a_silent_connection_lives_while_the_other_answers(served: Served, alive: Any, connect: Any) -> None:
    peer = connect()
    identity = served.identity_of(peer)
    pass_time(served, 10)
    assert served.router.disconnected == []
    peer.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):  # it got no heartbeat, which it might not answer
        peer.socket.recv(1000)
    served.send(identity, b"work")


def test_both_end_when_the_other_connection_ends(served: Served, alive: Any, connect: Any) -> None:
    identity = served.identity_of(connect())
    alive.close()
    served.turn_until(lambda: served.router.disconnected)
    assert identity in served.router.disconnected
    assert served.router.timed_out == set()
    assert served.router._vouched == {}


def test_both_end_when_the_other_connection_answers_no_heartbeat(served: Served, connect: Any) -> None:
    frozen = Peer(served.endpoint)
    frozen._session._properties[b"Identity"] = ALIVE
    frozen.complete_handshake(served)
    identity = served.identity_of(connect())
    pass_time(served, 6)
    assert identity in served.router.disconnected
    assert identity in served.router.timed_out
    frozen.socket.close()


def test_a_connection_whose_other_one_never_comes_ends(served: Served, connect: Any) -> None:
    identity = served.identity_of(connect())
    pass_time(served, 2)
    assert served.router.disconnected == []
    pass_time(served, 3)
    assert served.router.disconnected == [identity]
    assert served.router.timed_out == {identity}


def test_a_connection_answers_for_one_other_alone(served: Served, alive: Any, connect: Any) -> None:
    first = served.identity_of(connect())
    second = TwoConnections(served.endpoint)
    second.complete_handshake(served)
    served.turn_until(lambda: served.router.peer_errors)
    assert "answers the heartbeats of another connection" in str(served.router.peer_errors[0])
    assert isinstance(served.router.peer_errors[0], PeerError)
    assert first not in served.router.disconnected
    second.socket.close()


def test_a_large_message_may_stop_on_its_way_while_the_other_answers(served: Served, alive: Any, connect: Any) -> None:
    peer = connect()
    identity = served.identity_of(peer)
    peer.socket.sendall(b"\x02" + (200_000).to_bytes(8, "big") + bytes(100_000))
    pass_time(served, 15)
    assert served.router.disconnected == []
    peer.socket.sendall(bytes(100_000))
    served.turn_until(lambda: served.messages)
    ((sender, frames),) = served.messages
    assert (sender, len(frames[0])) == (identity, 200_000)
