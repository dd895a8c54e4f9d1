"""Heartbeats and readers that leave: zerorpc-python's test_client_heartbeat."""

from collections.abc import Iterator

import gevent
import zerorpc

from tests.processes import Cluster, wait_until
from tests.stock_suite.cases import case
from tests.stock_suite.conftest import Call, Serve

BEAT_S = 0.5
"""The interval of heartbeats, in seconds. A peer is lost after two of them."""


class Slow:
    """Counts the streams that it has open."""

    def __init__(self) -> None:
        self.open = 0

    def answer(self) -> int:
        return 42

    def answer_in(self, seconds: float) -> int:
        gevent.sleep(seconds)
        return 42

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def numbers(self, end: int) -> Iterator[int]:
        self.open += 1
        try:
            yield from range(end)
        finally:
            self.open -= 1


@case("test_client_heartbeat", "test_client_server_hearbeat")
def test_heartbeats_do_not_disturb_a_short_call(serve: Serve, connect: Call) -> None:
    serve(Slow(), heartbeat=BEAT_S)
    client = connect(heartbeat=BEAT_S)
    assert client.answer() == 42
    gevent.sleep(3 * BEAT_S)
    assert client.answer() == 42


@case("test_client_heartbeat", "test_client_server_activate_heartbeat")
def test_heartbeats_keep_a_long_call(serve: Serve, connect: Call) -> None:
    serve(Slow(), heartbeat=BEAT_S)
    assert connect(heartbeat=BEAT_S).answer_in(6 * BEAT_S) == 42


@case("test_client_heartbeat", "test_client_server_passive_hearbeat")
def test_a_client_that_only_answers_heartbeats_keeps_its_call(serve: Serve, connect: Call) -> None:
    serve(Slow(), heartbeat=BEAT_S)
    assert connect(heartbeat=BEAT_S, passive_heartbeat=True).answer_in(6 * BEAT_S) == 42


@case("test_client_heartbeat", "test_client_hb_doesnt_linger_on_streaming")
def test_heartbeats_end_with_a_stream(broker: Cluster, serve: Serve, connect: Call) -> None:
    service = Slow()
    serve(service, heartbeat=BEAT_S)
    client = connect(heartbeat=BEAT_S)
    assert list(client.numbers(42)) == list(range(42))
    gevent.sleep(4 * BEAT_S)
    assert service.open == 0
    assert broker.in_flight() == broker.open_calls() == 0


@case("test_client_heartbeat", "test_client_drop_empty_stream")
def test_an_empty_stream_may_be_dropped_unread(broker: Cluster, serve: Serve, connect: Call) -> None:
    serve(Slow(), heartbeat=BEAT_S)
    dropping = connect(heartbeat=BEAT_S)
    gevent.spawn(dropping.numbers, 0).get()
    gevent.sleep(3 * BEAT_S)
    assert connect(heartbeat=BEAT_S).answer() == 42
    assert broker.open_calls() == 0


@case("test_client_heartbeat", "test_client_drop_stream")
def test_a_stream_may_be_dropped_half_read(serve: Serve, connect: Call) -> None:
    service = Slow()
    serve(service, heartbeat=BEAT_S)
    client = connect(heartbeat=BEAT_S)
    items = client.numbers(500)
    assert [next(items) for _ in range(142)] == list(range(142))
    assert service.open == 1
    client.close()  # the server notices by the heartbeats that cease
    wait_until(lambda: service.open == 0, 40, "the server ends the stream that nobody reads")
