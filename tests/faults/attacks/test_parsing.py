"""Events that are small but were expensive to read."""

import time
from pathlib import Path

import gevent
import msgpack
import pytest

from tests.faults.attacks.attack import attack, peer
from tests.figures import Figure

SECONDS = 4.0
BYTES_A_SECOND = 1_200_000

# 1,000 arrays, one in the other. Each declares as many elements as the event has bytes, so none is absurd by itself.
NESTED = b"\xdc\x0b\xb8" * 1000
HEADER = msgpack.packb({"message_id": b"0" * 32, "v": 3})
EVENTS = {
    "nested arrays in the header": b"\x93\x82\xaamessage_id\xa1x\xa1y" + NESTED,
    "nested arrays as the name": b"\x93" + HEADER + NESTED,
    "nested arrays as an argument": b"\x93" + HEADER + msgpack.packb("get_model_metadata") + b"\x91" + NESTED,
    "a header of 20,000 keys": b"\x93\xde\x4e\x20" + b"\xcd\x01\x02\x03" * 20_000,
}


@pytest.mark.alone
@pytest.mark.fault(47)
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_events_that_were_expensive_to_read(
    tmp_path: Path, figure: Figure, event: bytes, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    with attack(tmp_path, figure, name) as made, peer(made.cluster.frontend) as attacker:
        started_s = time.monotonic()
        sent = 0
        while (passed_s := time.monotonic() - started_s) < SECONDS:
            while sent < passed_s * BYTES_A_SECOND:
                attacker.send_multipart([b"", event])
                sent += len(event)
            gevent.sleep(0.002)
