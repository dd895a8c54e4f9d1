"""Many rows in one call, by stock clients: lists, streams of rows, and streams that a model makes itself."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
import zerorpc
from sklearn.datasets import load_iris

from tests.figures import Figure
from tests.processes import Cluster, cluster, get, total, wait_until

KEYS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROWS = [dict(zip(KEYS, row, strict=True)) for row in load_iris().data.tolist()]
MIB = 1 << 20


def rows_given(made: Cluster, model: str) -> float:
    """Count the rows that the model was given, over all workers."""
    return sum(total(http, "zerorpc_worker_batch_size_sum", model=model) for http in made.worker_http.values())


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("iris"), None, None) as made:
        yield made


def test_a_list_and_a_stream_of_rows_give_what_single_calls_do(iris: Cluster) -> None:
    client = iris.client()
    single = [client.iris_model_predict(row) for row in ROWS]
    assert client.iris_model_predict_batch(ROWS) == single
    assert list(client.iris_model_predict_stream(ROWS)) == single
    assert client.iris_model_predict_batch([]) == []
    assert list(client.iris_model_predict_stream([])) == []
    for name in ("predict", "predict_batch", "predict_stream"):
        calls = iris.outcomes(f"iris_model_{name}")
        assert calls == {"ok": 2 if name != "predict" else len(ROWS)}
    counted = [total(http, "zerorpc_worker_predictions_total") for http in iris.worker_http.values()]
    assert sum(counted) == len(ROWS) + 4, "each call counts once, at the broker and at the worker"
    assert rows_given(iris, "iris_model") == 3 * len(ROWS)


def test_a_bad_row_is_named_in_a_list_and_has_its_place_in_a_stream(iris: Cluster) -> None:
    text = "Failed to validate input data: Key 'petal_width' error:\n'abc' should be instance of 'float'"
    rows: list[dict[str, Any]] = [*ROWS]
    rows[70] = {**ROWS[70], "petal_width": "abc"}
    client = iris.client()
    with pytest.raises(zerorpc.RemoteError) as raised:
        client.iris_model_predict_batch(rows)
    assert (raised.value.name, raised.value.msg) == ("MLModelSchemaValidationException", f"rows[70]: {text}")
    got: list[Any] = []
    stream = client.iris_model_predict_stream(rows)
    with pytest.raises(zerorpc.RemoteError) as raised:
        got.extend(stream)  # keeps the items before the error
    assert got == client.iris_model_predict_batch(ROWS[:70])
    assert (raised.value.name, raised.value.msg) == ("MLModelSchemaValidationException", text)
    with pytest.raises(zerorpc.RemoteError) as raised:
        client.iris_model_predict_batch(ROWS[0])
    assert (raised.value.name, raised.value.msg) == (
        "BadRequest",
        "iris_model_predict_batch: the argument should be a list of rows",
    )


def test_a_long_stream_to_a_slow_reader_takes_no_memory(tmp_path: Path, figure: Figure) -> None:
    """Of 100,000 rows, the first tenth may take memory; the rest takes no more."""
    rows = (ROWS * 700)[:100_000]
    with cluster(tmp_path, None) as made:
        (worker,) = made.worker_http.values()

        def memory() -> dict[str, float]:
            own = psutil.Process().memory_info().rss
            in_worker = total(worker, "process_resident_memory_bytes")
            return {"client": own, "broker": made.memory_bytes(), "worker": in_worker}

        client = made.client()
        begun_s = time.monotonic()
        at_first: dict[str, float] = {}
        for count, _ in enumerate(client.iris_model_predict_stream(rows), start=1):
            if count == 10_000:
                at_first = memory()
            if count % 1000 == 0:
                gevent.sleep(0.05)  # this makes the reader slower than the model
        assert count == len(rows)
        grown = {name: (value - at_first[name]) / MIB for name, value in memory().items()}
        for name, mib in grown.items():
            figure(f"memory that a stream of 100,000 rows takes in the {name}", mib, "MiB")
        figure("rows a second of that stream, with its slow reader", len(rows) / (time.monotonic() - begun_s), "")
        assert max(grown.values()) < 8, grown


def test_a_stream_whose_reader_has_left_is_not_computed_any_further(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client()
        stream = client.sleeper_predict_stream([0.01] * 100_000)
        for _ in range(10):
            next(stream)
        client.close()
        left_s = time.monotonic()
        wait_until(lambda: made.in_flight() == 0, 5, "the worker has stopped")
        figure("until a stream whose reader has left is not computed any further", time.monotonic() - left_s, "s")
        given = rows_given(made, "sleeper")
        assert given < 120
        client = made.client()
        client.sleeper_predict(0.5)
        assert rows_given(made, "sleeper") == given + 1
        assert made.outcomes("sleeper_predict_stream") == {"cancelled": 1}


def test_a_reader_that_stops_reading_stops_the_model(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client()
        stream = client.sleeper_predict_stream([0.001] * 100_000)
        next(stream)

        def has_stopped() -> bool:
            before = rows_given(made, "sleeper")
            client.sleeper_predict(0.5)
            return rows_given(made, "sleeper") == before + 1

        wait_until(has_stopped, 20, "the model has stopped")
        assert rows_given(made, "sleeper") < 300, "a stock client has 100 slots"
        assert next(stream) is not None, "and it may read on"


def test_slow_streams_delay_no_call(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperAndEcho") as made:
        client = made.client()
        streams = [client.echo_predict_stream(list(range(100_000))) for _ in range(50)]
        for stream in streams:
            assert next(stream) == 0
        for i in range(50):
            assert client.echo_predict(i) == i
        assert [next(stream) for stream in streams] == [1] * 50


def test_streams_and_calls_take_turns_at_a_model(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client()
        streams = [gevent.spawn(lambda: list(client.sleeper_predict_stream([0.02] * 40))) for _ in range(5)]
        wait_until(lambda: rows_given(made, "sleeper") > 5, 10, "they have begun")
        client.sleeper_predict(0)
        assert not any(stream.ready() for stream in streams)
        gevent.joinall(streams, raise_error=True)


def test_a_quick_model_with_many_streams_stays_responsive(tmp_path: Path) -> None:
    """The thread of the loop runs the model's short turns itself."""
    with cluster(tmp_path, "SleeperAndEcho") as made:
        (http,) = made.worker_http.values()
        client = made.client()
        streams = [gevent.spawn(lambda: list(client.sleeper_predict_stream([0.004] * 500))) for _ in range(10)]
        wait_until(lambda: rows_given(made, "sleeper") > 100, 10, "they have begun")
        for call in (client.echo_predict, client.sleeper_predict):
            begun_s = time.monotonic()
            call(0)
            assert time.monotonic() - begun_s < 4, "and not the 20 s that they take"
        assert get(http, "/healthz")[0] == 200
        gevent.killall(streams)
        client.close()
        wait_until(lambda: made.in_flight() == 0, 5, "none of them is computed any further")


def test_a_list_takes_turns_with_all_streams_together(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client()
        streams = [gevent.spawn(lambda: list(client.sleeper_predict_stream([0.01] * 200))) for _ in range(10)]
        wait_until(lambda: rows_given(made, "sleeper") > 20, 10, "they have begun")
        begun_s = time.monotonic()
        client.sleeper_predict_batch([0.01] * 30)
        assert time.monotonic() - begun_s < 3, "0.6 s, and not ten times as long"
        gevent.killall(streams)


def test_a_list_whose_caller_has_left_is_not_computed_any_further(tmp_path: Path) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = made.client(timeout=1, heartbeat=None)
        with pytest.raises(zerorpc.TimeoutExpired):
            client.sleeper_predict_batch([0.004] * 100_000)
        client.close()
        wait_until(lambda: made.in_flight() == 0, 10, "the worker has stopped")
        assert made.outcomes("sleeper_predict_batch") == {"cancelled": 1}


def test_a_thousand_streams_beside_each_other(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        client = made.client(heartbeat=None)
        streams = [client.echo_predict_stream([i, i + 1, i + 2]) for i in range(1000)]
        assert [next(stream) for stream in streams] == list(range(1000))
        assert made.open_calls() == 1000
        assert [list(stream) for stream in streams] == [[i + 1, i + 2] for i in range(1000)]
        assert made.open_calls() == 0


def test_streams_of_a_broker_that_is_gone_are_closed(tmp_path: Path) -> None:
    with cluster(tmp_path, "CounterOnly") as made:
        client = made.client(heartbeat=None)
        streams = [client.counter_predict_stream(10_000_000) for _ in range(2)]
        assert [next(stream) for stream in streams] == [0, 0]
        assert client.counter_predict(None) == {"open": 2}
        made.broker.signal(signal.SIGKILL)
        made.start_broker()
        made.wait_for_workers(1)
        other = made.client()
        wait_until(lambda: other.counter_predict(None) == {"open": 0}, 5, "the model's generators are closed")


def test_a_model_streams_what_it_makes(tmp_path: Path) -> None:
    with cluster(tmp_path, "CounterOnly") as made:
        client = made.client()
        assert list(client.counter_predict_stream(1000)) == list(range(1000))
        assert client._zerorpc_args("counter_predict_stream")[0] == ["data"]
        stream = client.counter_predict_stream(10_000_000)
        assert next(stream) == 0
        assert made.client().counter_predict(None) == {"open": 1}
        client.close()
        other = made.client()
        wait_until(lambda: other.counter_predict(None) == {"open": 0}, 5, "the model's generator is closed")
