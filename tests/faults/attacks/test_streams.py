"""Streams that are opened and not read, as many as there may be."""

import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import msgpack
import pytest
import zerorpc

from broker.core.scheduling.unread import UNREAD_S
from tests.faults.attacks.attack import attack, peer
from tests.faults.attacks.honest import FLOWER
from tests.figures import Figure

STREAMS = 2_500
"""More than the two workers have, 1,000 each, and than a client may have: the rest waits."""

READERS = 8


@pytest.mark.alone
@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("connections", "head_start_s"),
    [
        (1, 2.0),  # the connection gets nine tenths; others have the last
        (50, UNREAD_S + 2.0),  # the connections of one address get all but a twentieth; others get what is not read
    ],
)
def test_unread_streams_leave_room(tmp_path: Path, figure: Figure, connections: int, head_start_s: float) -> None:
    """Others open streams at once, one after the other, while all have been asked for."""
    name = f"{STREAMS:,} streams of {connections} connections that are not read"
    longest_s = [0.0]
    with attack(tmp_path, figure, name) as made, ExitStack() as stack:
        dealers = [stack.enter_context(peer(made.cluster.frontend)) for _ in range(connections)]
        for number in range(STREAMS):
            header = {"message_id": b"%032d" % number, "v": 3}
            event = msgpack.packb([header, "iris_model_predict_stream", [[FLOWER] * 50]])
            dealers[number % connections].send_multipart([b"", event])
        gevent.sleep(head_start_s)
        until_s = time.monotonic() + 4.0

        def read_streams() -> None:
            client = zerorpc.Client(made.cluster.frontend, timeout=30)
            while time.monotonic() < until_s:
                started_s = time.monotonic()
                assert len(list(client.iris_model_predict_stream([FLOWER] * 5))) == 5
                longest_s[0] = max(longest_s[0], time.monotonic() - started_s)
            client.close()

        for reader in gevent.joinall([gevent.spawn(read_streams) for _ in range(READERS)], timeout=60):
            reader.get()
    figure(f"{name}: another's longest stream", longest_s[0], "s")
    assert 0.0 < longest_s[0] < 3.0
