"""Handshakes and messages of CURVE that no honest peer sends."""

import random
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.attacks.attack import attack_on_keys
from tests.figures import Figure
from tests.integration.keyed import Keyed
from tests.processes import samples, wait_until
from tests.zmtp.test_curve import taken
from zmtp import Session
from zmtp.certificates import read_certificate
from zmtp.curve import CurveClient, CurveKeys
from zmtp.frames import encode_message

HALF_OPEN = 2000
AT_ONCE = 50
"""Connections that the attacker has open beside each other."""


class Attacker:
    """Peers with an accepted key, which keep to the protocol up to the piece that they spoil."""

    def __init__(self, keyed: Keyed, seed: int) -> None:
        own, broker = (read_certificate(Path(file)) for file in keyed.admit("client", "attacker"))
        assert own.secret is not None
        self._keys, self._broker_key = CurveKeys.of(own.secret), broker.public
        host, _, port = keyed.cluster.frontend.removeprefix("tcp://").rpartition(":")
        self._address = host, int(port)
        self.chance = random.Random(seed)
        self._recorded: list[bytes] = []

    def connect(self) -> socket.socket:
        made = socket.create_connection(self._address, timeout=20)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def session(self) -> Session:
        return Session(b"DEALER", (b"ROUTER",), mechanism=CurveClient(self._keys, self._broker_key))

    def advance(self, connection: socket.socket, session: Session, steps: int) -> bytes:
        """Go on with the handshake for some steps; return what an honest peer would send next."""
        for _ in range(steps):
            connection.sendall(taken(session))
            while not session.to_send and not session.is_ready:
                session.receive_data(connection.recv(4096))
        if session.is_ready:
            event = [b"", bytes(self.chance.randrange(200))]
            return b"".join(session.wrap(encode_message(event)))
        return taken(session)

    def spoil(self, data: bytes) -> bytes:
        """Change, cut, repeat or replace a piece of what an honest peer sends."""
        chance = self.chance
        spoiled = bytearray(data)
        way = chance.randrange(6)
        if way == 0:
            for _ in range(chance.randint(1, 8)):
                spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
        elif way == 1:
            del spoiled[chance.randrange(len(spoiled)) :]
        elif way == 2:
            spoiled += data
        elif way == 3 and self._recorded:
            spoiled = bytearray(chance.choice(self._recorded))
        elif way == 4:
            at = chance.randrange(len(spoiled))
            spoiled[at:at] = chance.randbytes(chance.randint(1, 64))
        else:
            spoiled = bytearray(chance.randbytes(len(spoiled)))
        if chance.random() < 0.01 and len(self._recorded) < 100:
            self._recorded.append(data)
        return bytes(spoiled)


@pytest.mark.alone
@pytest.mark.fault(64)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [3000, pytest.param(200_000, marks=pytest.mark.nightly)])
def test_spoiled_handshakes_and_messages(tmp_path: Path, figure: Figure, count: int) -> None:
    with attack_on_keys(tmp_path, figure, f"{count:,} spoiled pieces of CURVE") as (made, keyed):
        attacker = Attacker(keyed, seed=20)
        open_ones: list[socket.socket] = []
        for _ in range(count):
            connection = attacker.connect()
            # Most are spoiled early, where a connection costs the attacker little.
            steps = attacker.chance.choices((0, 1, 2, 3), weights=(4, 4, 1, 1))[0]
            with suppress(OSError):
                connection.sendall(attacker.spoil(attacker.advance(connection, attacker.session(), steps)))
            open_ones.append(connection)
            if len(open_ones) >= AT_ONCE:
                open_ones.pop(0).close()
        for connection in open_ones:
            connection.close()
        counts = samples(made.cluster.http, "zerorpc_broker_bad_frames_total")
        reasons = Counter({dict(labels)["reason"]: value for labels, value in counts.items()})
        assert reasons["internal"] == 0
        assert all(reasons[reason] for reason in ("zmtp", "curve_handshake", "curve_server_key", "curve_message"))


@pytest.mark.alone
@pytest.mark.fault(65)
def test_connections_that_stop_in_the_middle_of_the_handshake(tmp_path: Path, figure: Figure) -> None:
    with attack_on_keys(tmp_path, figure, f"{HALF_OPEN:,} half-open handshakes") as (made, keyed):
        attacker = Attacker(keyed, seed=20)
        http = made.cluster.http
        begin_s = time.monotonic()
        opened = []
        for _ in range(HALF_OPEN):
            connection = attacker.connect()
            session = attacker.session()
            connection.sendall(attacker.advance(connection, session, 1))  # the HELLO; the WELCOME is not answered
            opened.append(connection)
        figure(f"time to open {HALF_OPEN:,} half-open handshakes", time.monotonic() - begin_s, "s")

        def connections() -> float:
            return samples(http, "zerorpc_broker_connections")[("socket", "clients"),]

        wait_until(lambda: connections() == 1, 10, "only the honest client's connection is left")
        for connection in opened:
            connection.close()
    assert made.growth_bytes < HALF_OPEN * 16 * 1024
