"""A peer with two connections, of which one answers heartbeats for both: a worker whose interpreter is held."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from tests.zmtp.test_router import CAREFUL, Peer, Served
from zmtp import Session

ALIVE = b"alive-1"
VOUCHING = replace(CAREFUL, allows_vouching=True)


class TwoConnections(Peer):
    """The connection with the messages; it names the other one."""

    def __init__(self, endpoint: str, heartbeats_by: bytes = ALIVE) -> None:
        super().__init__(endpoint)
        self._session = Session(b"DEALER", (b"ROUTER",), heartbeats_by=heartbeats_by)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served("tcp://127.0.0.1:0", VOUCHING)
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
    assert identity not in served.router.disconnected
    pass_time(served, 1)
    assert identity in served.router.disconnected
    assert served.router.timed_out == set()
    assert not served.router._vouching._vouched
    assert not served.router._vouching._orphaned


def test_last_words_arrive_although_the_other_connection_has_ended(served: Served, alive: Any, connect: Any) -> None:
    peer = connect()
    served.identity_of(peer)
    alive.close()
    served.turn_until(lambda: served.router.disconnected)
    peer.send_event(b"x" * 900_000)
    peer.send_event(b"BYE")
    peer.socket.close()
    served.turn_until(lambda: len(served.messages) == 2)
    assert served.messages[1][1] == [b"BYE"]


def named(served: Served) -> Peer:
    """The other connection, under the control of the test."""
    peer = Peer(served.endpoint)
    peer._session._properties[b"Identity"] = ALIVE
    peer.complete_handshake(served)
    return peer


def test_the_other_connection_may_come_back(served: Served, connect: Any) -> None:
    first = named(served)
    identity = served.identity_of(connect())
    first.socket.close()
    served.turn_until(lambda: served.router.disconnected)
    second = named(served)
    pass_time(served, 2)
    assert identity not in served.router.disconnected
    assert not served.router._vouching._orphaned
    second.socket.close()


def test_both_end_when_the_other_connection_answers_no_heartbeat(served: Served, connect: Any) -> None:
    frozen = named(served)
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


def test_a_new_connection_takes_the_place_of_a_former_one(served: Served, alive: Any, connect: Any) -> None:
    first = served.identity_of(connect())
    second = served.identity_of(connect())
    assert served.router.disconnected == [first]
    pass_time(served, 5)
    assert second not in served.router.disconnected


def test_a_refused_copy_of_the_other_connection_harms_nobody(served: Served, alive: Any, connect: Any) -> None:
    identity = served.identity_of(connect())
    copy = named(served)
    served.turn_until(lambda: served.router.peer_errors)
    pass_time(served, 5)
    assert identity not in served.router.disconnected
    copy.socket.close()


def test_a_connection_that_is_named_by_others_answers_for_itself(served: Served) -> None:
    chained = TwoConnections(served.endpoint)
    chained._session._properties[b"Identity"] = ALIVE
    chained.complete_handshake(served)
    served.turn_until(lambda: served.router.peer_errors)
    assert "cannot answer the heartbeats of this one" in str(served.router.peer_errors[0])
    assert not served.router._vouching._vouched
    chained.socket.close()


def test_only_where_it_is_allowed_another_connection_answers(served: Served) -> None:
    strict = Served("tcp://127.0.0.1:0", CAREFUL)
    peer = TwoConnections(strict.endpoint, b"x" * 255)
    peer.complete_handshake(strict)
    identity = strict.identity_of(peer)
    pass_time(strict, 6)
    assert strict.router.disconnected == [identity]  # it has answered no heartbeat
    assert not strict.router._vouching._vouched
    peer.socket.close()
    strict.close()


def test_the_name_of_the_other_connection_is_bounded(served: Served) -> None:
    peer = TwoConnections(served.endpoint, b"x" * 256)
    peer.complete_handshake(served)
    served.turn_until(lambda: served.router.peer_errors)
    assert "has 256 bytes; the limit is 255" in str(served.router.peer_errors[0])
    peer.socket.close()


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
