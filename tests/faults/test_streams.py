"""Streams whose workers die or whose readers leave."""

import signal
from pathlib import Path

import gevent
import pytest
import zerorpc

from tests.processes import cluster, total, wait_until


def test_streams_of_two_workers_stay_with_their_worker(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        for name in ("one", "two"):
            made.start_raw_worker(name)
        made.wait_for_workers(2)
        client = made.client(heartbeat=1)
        streams = [gevent.spawn(lambda: list(client.counter_count(2000))) for _ in range(6)]
        gevent.joinall(streams, timeout=60, raise_error=True)
        owners = set()
        for stream in streams:
            rows = stream.get()
            assert [row[0] for row in rows] == list(range(2000))
            (owner,) = {row[1] for row in rows}
            owners.add(owner)
        assert owners == {"one-1", "two-1"}
        assert total(made.http, "zerorpc_broker_requests_total", method="counter_count", outcome="ok") == 6
        assert made.in_flight() == 0


@pytest.mark.fault(17)
def test_a_stream_whose_reader_goes_away_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_raw_worker("one")
        made.wait_for_workers(1)
        client = made.client(heartbeat=1)
        stream = client.counter_count(10_000_000)
        assert next(stream)[0] == 0
        assert made.in_flight() == 1
        client.close()
        wait_until(lambda: made.in_flight() == 0, 15, "nothing is in flight")
        assert total(made.http, "zerorpc_broker_open_channels") == 0


@pytest.mark.fault(2)
def test_a_stream_whose_worker_dies_ends_with_an_error_and_never_as_done(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_raw_worker("one")
        made.wait_for_workers(1)
        client = made.client(heartbeat=1)
        stream = client.counter_count(10_000_000)
        first = [next(stream) for _ in range(150)]
        assert [row[0] for row in first] == list(range(150))
        made.processes[-1].signal(signal.SIGKILL)
        with pytest.raises(zerorpc.RemoteError) as raised:
            for _ in stream:
                pass
        assert raised.value.name == "WorkerLost"
        assert made.in_flight() == 0
