"""The Python clients against a real cluster: results, streams, chunks, errors, deadlines, retries."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from zerorpc_cluster import CallTimeoutError, ConnectionLostError, RemoteError, StreamMismatchError

from tests.clients.conftest import Connect
from tests.processes import Cluster, cluster, free_port, total, wait_until

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("iris"), None, None) as made:
        yield made


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("sleeper"), "SleeperOnly") as made:
        yield made


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("counter"), "CounterOnly") as made:
        yield made


def test_a_call_returns_what_the_model_returns(iris: Cluster, connect: Connect) -> None:
    client = connect(iris.frontend)
    assert client.call("iris_model_predict", FLOWER) == {"species": "setosa"}
    assert [model["qualified_name"] for model in client.call("get_models")] == ["iris_model"]
    assert client.call("_zerorpc_name") == "ModelZeroRPCService"


def test_an_error_has_its_name_and_text(iris: Cluster, connect: Connect) -> None:
    client = connect(iris.frontend)
    with pytest.raises(RemoteError) as raised:
        client.call("iris_model_predict", {**FLOWER, "petal_width": "abc"})
    assert raised.value.name == "MLModelSchemaValidationException"
    assert raised.value.msg.endswith("Key 'petal_width' error:\n'abc' should be instance of 'float'")
    with pytest.raises(RemoteError, match=r"^NameError: 'nope' is not a procedure"):
        client.call("nope")


def test_a_stream_has_its_items_in_order(iris: Cluster, connect: Connect) -> None:
    client = connect(iris.frontend)
    assert list(client.stream("iris_model_predict_stream", [FLOWER] * 300)) == [{"species": "setosa"}] * 300
    assert list(client.stream("iris_model_predict_stream", [])) == []


def test_the_items_before_an_error_arrive(counter: Cluster, connect: Connect) -> None:
    got: list[Any] = []
    with pytest.raises(RemoteError, match="enough"):
        got.extend(connect(counter.frontend).stream("counter_predict_stream", -250))
    assert got == list(range(250))


def test_a_slow_reader_gets_all_items(counter: Cluster, connect: Connect) -> None:
    client = connect(counter.frontend, slots=4)
    got: list[Any] = []
    for item in client.stream("counter_predict_stream", 60):
        got.append(item)
        time.sleep(0.01)  # the reader is slow
    assert got == list(range(60))


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_stream_that_its_reader_leaves_frees_the_server(counter: Cluster, connect: Connect, how: str) -> None:
    client = connect(counter.frontend)
    stream: Any = client.stream("counter_predict_stream", 10_000_000)
    assert [next(stream) for _ in range(5)] == list(range(5))
    assert client.call("counter_predict", 0) == {"open": 1}
    left_s = time.monotonic()
    if how == "close":
        stream.close()
        stream.close()
        assert list(stream) == []
    else:
        del stream
    wait_until(lambda: client.call("counter_predict", 0) == {"open": 0}, 5, "the model's generator is closed")
    assert time.monotonic() - left_s < 3, "long before missing heartbeats show it"
    wait_until(lambda: counter.open_calls() == 0, 5, "the broker has no call open")


def test_the_other_kind_of_answer_says_which_method_to_use(counter: Cluster, connect: Connect) -> None:
    client = connect(counter.frontend)
    with pytest.raises(StreamMismatchError, match=r"counter_predict_stream answers with a stream: use stream\(\)"):
        client.call("counter_predict_stream", 10_000_000)
    with pytest.raises(StreamMismatchError, match=r"counter_predict answers with one result.*: use call\(\)"):
        next(client.stream("counter_predict", 0))
    wait_until(lambda: counter.open_calls() == 0, 5, "the broker has no call open")
    assert client.call("counter_predict", 0) == {"open": 0}


def test_many_rows_go_in_chunks_and_come_back_in_order(iris: Cluster, connect: Connect) -> None:
    before = iris.outcomes("iris_model_predict_batch")["ok"]
    rows = ({**FLOWER, "petal_length": 1.4 + (i % 2) * 5} for i in range(250))
    outputs = list(connect(iris.frontend).map("iris_model_predict_batch", rows, chunk_rows=30, in_flight=3))
    assert outputs == [{"species": "setosa"}, {"species": "virginica"}] * 125
    assert iris.outcomes("iris_model_predict_batch")["ok"] - before == 9


def test_a_bad_row_of_a_chunk_raises_and_the_outputs_before_it_arrive(iris: Cluster, connect: Connect) -> None:
    rows = [FLOWER] * 95 + [{**FLOWER, "petal_width": "abc"}] + [FLOWER] * 1000
    got: list[Any] = []
    with pytest.raises(RemoteError, match=r"rows\[5\]: Failed to validate"):
        got.extend(connect(iris.frontend).map("iris_model_predict_batch", rows, chunk_rows=10, in_flight=2))
    assert len(got) == 90
    wait_until(lambda: iris.open_calls() == 0, 5, "the broker has no call open")


def test_no_rows_make_no_call(iris: Cluster, connect: Connect) -> None:
    assert list(connect(iris.frontend).map("iris_model_predict_batch", [])) == []
    with pytest.raises(ValueError, match="chunk_rows should be at least 1, not 0"):
        connect(iris.frontend).map("iris_model_predict_batch", [FLOWER], chunk_rows=0)


def test_a_call_without_an_answer_in_time_ends_here_and_at_the_broker(sleeper: Cluster, connect: Connect) -> None:
    client = connect(sleeper.frontend)
    client.call("sleeper_predict", 0)
    started_s = time.monotonic()
    with pytest.raises(CallTimeoutError) as raised:
        client.call("sleeper_predict", 2.0, timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started_s < 1.5
    text = f"sleeper_predict: no answer from {sleeper.frontend} within 0.3 s; it may have been executed"
    assert str(raised.value) == text
    assert isinstance(raised.value, TimeoutError)
    assert not raised.value.not_executed
    wait_until(lambda: sleeper.open_calls() == 0, 1, "the client has cancelled it")
    wait_until(lambda: sleeper.in_flight() == 0, 5, "the worker is free")


def test_a_queued_call_that_is_given_up_is_never_executed(sleeper: Cluster, connect: Connect) -> None:
    client, other = connect(sleeper.frontend), connect(sleeper.frontend)
    executed = sum(total(http, "zerorpc_worker_predictions_total") for http in sleeper.worker_http.values())
    with pytest.raises(CallTimeoutError):
        client.call("sleeper_predict", 1.0, timeout_s=0.2)
    with pytest.raises(CallTimeoutError):
        other.call("sleeper_predict", 0, timeout_s=0.2)
    wait_until(lambda: sleeper.in_flight() == 0, 5, "the worker is free")
    now = sum(total(http, "zerorpc_worker_predictions_total") for http in sleeper.worker_http.values())
    assert now - executed == 1


def test_long_calls_have_heartbeats(sleeper: Cluster, connect: Connect) -> None:
    client = connect(sleeper.frontend, heartbeat_s=1.0)  # it gives up after two
    assert client.call("sleeper_predict", 5.0) > 0


def test_the_time_of_a_stream_counts_for_each_item(counter: Cluster, connect: Connect) -> None:
    stream = connect(counter.frontend).stream("counter_predict_stream", 30, timeout_s=1.0)
    got: list[Any] = []
    for item in stream:
        got.append(item)
        time.sleep(0.1)  # three times the time of one item in all
    assert got == list(range(30))


def test_a_refused_call_is_made_again(tmp_path: Path, connect: Connect) -> None:
    with cluster(tmp_path, "SleeperOnly", BROKER_QUEUE_CLIENT_CALLS="1") as made, ThreadPoolExecutor(5) as pool:
        refused: list[BaseException] = []
        for retries in (0, 5):
            client = connect(made.frontend, retries=retries)
            calls = [pool.submit(client.call, "sleeper_predict", 0.3) for _ in range(5)]
            errors = [error for call in calls if (error := call.exception(30)) is not None]
            refused = refused or errors
            assert {str(error).partition(":")[0] for error in errors} == (set() if retries else {"ServerBusy"})
            assert all(isinstance(error, RemoteError) and error.not_executed for error in errors)
        assert made.outcomes("sleeper_predict")["busy"] > len(refused), "calls of the second client were refused too"


def test_a_call_that_may_have_been_executed_is_not_made_again(tmp_path: Path, connect: Connect) -> None:
    with cluster(tmp_path, "SleeperOnce") as made:
        client = connect(made.frontend, retries=5)

        def kill() -> None:
            wait_until(lambda: made.in_flight() == 1, 10, "the call runs")
            made.processes[1].end()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(RemoteError, match="WorkerLost") as raised:
            client.call("sleeper_predict", 30)
        killer.join()
        assert not raised.value.not_executed
        assert sum(made.outcomes("sleeper_predict").values()) == 1


def test_the_client_lives_longer_than_the_broker(tmp_path: Path, connect: Connect) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        client = connect(made.frontend)
        assert client.call("sleeper_predict", 0) > 0

        def kill() -> None:
            wait_until(lambda: made.in_flight() == 1, 10, "the call runs")
            made.broker.end()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(ConnectionLostError, match="before the answer came; the call may have been executed"):
            client.call("sleeper_predict", 30)
        killer.join()
        with pytest.raises(CallTimeoutError, match="it was not sent, because of this: Connection refused") as raised:
            client.call("sleeper_predict", 0, timeout_s=0.5)
        assert raised.value.not_executed
        made.start_broker()
        made.wait_for_workers(1)
        assert client.call("sleeper_predict", 0) > 0


def test_an_idle_client_notices_a_restart_before_its_next_call(tmp_path: Path, connect: Connect) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        client = connect(made.frontend)
        assert client.call("echo_predict", 1) == 1
        made.broker.end()
        made.start_broker()
        made.wait_for_workers(1)
        assert client.call("echo_predict", 2) == 2


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("tcp://127.0.0.1:{free}", "was not sent, because of this: Connection refused"),
        ("ipc:///nowhere/at/all", "was not sent, because of this: No such file or directory"),
        ("tcp://no-such-host.invalid:4242", "was not sent, because of this: "),
    ],
)
def test_an_address_without_a_server_is_named(connect: Connect, address: str, text: str) -> None:
    address = address.format(free=free_port())
    client = connect(address, timeout_s=0.5)
    with pytest.raises(CallTimeoutError) as raised:
        client.call("anything")
    assert f"anything: no answer from {address} within 0.5 s" in str(raised.value)
    assert text in str(raised.value)


def test_a_port_that_does_not_speak_zeromq_is_named_at_once(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"220 mail.example.org ESMTP\r\n")
                accepted.recv(1000)

        greeter = threading.Thread(target=greet)
        greeter.start()
        client = connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(
            ConnectionLostError, match="the peer does not speak ZMTP; it began with b'220 mail"
        ) as raised:
            client.call("anything")
        greeter.join()
    assert raised.value.not_executed


def test_a_port_that_never_answers_is_named(iris: Cluster, connect: Connect) -> None:
    with pytest.raises(CallTimeoutError, match="the server has not completed ZeroMQ's handshake"):
        connect(f"tcp://{iris.http}").call("anything", timeout_s=0.5)


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "http://127.0.0.1:80"])
def test_a_malformed_address_is_refused_at_once(connect: Connect, address: str) -> None:
    with pytest.raises(ValueError, match=r"an (address|endpoint) should be tcp://host:port"):
        connect(address)


@pytest.mark.parametrize("kind", ["IPv6", "a name", "a Unix socket"])
def test_it_reaches_every_kind_of_address(tmp_path: Path, connect: Connect, kind: str) -> None:
    address = {
        "IPv6": f"tcp://[::1]:{free_port('::1')}",
        "a name": f"tcp://localhost:{free_port()}",
        "a Unix socket": f"ipc://{tmp_path}/frontend",
    }[kind]
    with cluster(tmp_path, "EchoOnly", BROKER_FRONTEND=address):
        assert connect(address).call("echo_predict", kind) == kind
