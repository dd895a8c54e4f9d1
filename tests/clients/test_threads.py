"""What only `Client` promises: threads, forks, signals, and the garbage collector."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from zerorpc_cluster import CallTimeoutError, Client, ClientClosedError, Options

from tests.processes import Cluster, cluster, wait_until


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("echo"), "SleeperAndEcho", "SleeperAndEcho") as made:
        yield made


def connections(made: Cluster) -> int:
    """Count the connections that this process has to the broker's frontend."""
    port = int(made.frontend.rpartition(":")[2])
    own = psutil.Process().net_connections("tcp4")
    return sum(bool(one.raddr) and one.raddr.port == port for one in own)


def test_many_threads_share_one_connection(echo: Cluster) -> None:
    before = connections(echo)
    with Client(echo.frontend) as client, ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(client.echo_predict, i) for i in range(3000)]
        assert [call.result(30) for call in calls] == list(range(3000))
        assert connections(echo) == before + 1


def test_a_slow_call_does_not_hold_the_quick_ones_of_other_threads(echo: Cluster) -> None:
    with Client(echo.frontend) as client, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(client.sleeper_predict, 2)
        wait_until(lambda: echo.in_flight() == 1, 10, "the slow call runs")
        started_s = time.monotonic()
        assert [client.echo_predict(i) for i in range(100)] == list(range(100))
        assert time.monotonic() - started_s < 1.5
        assert slow.result(10) > 0


def test_each_thread_has_its_own_time_limit(echo: Cluster) -> None:
    with Client(echo.frontend) as client, ThreadPoolExecutor(8) as pool:

        def time_out(limit_s: float) -> float:
            started_s = time.monotonic()
            with pytest.raises(CallTimeoutError):
                client.call("sleeper_predict", 1.2, timeout_s=limit_s)
            return time.monotonic() - started_s

        limits = [0.9, 0.2, 0.7, 0.4, 0.3, 0.8]
        for limit_s, took_s in zip(limits, pool.map(time_out, limits), strict=True):
            assert limit_s <= took_s < limit_s + 0.5
        assert client.echo_predict(1) == 1


def test_streams_of_several_threads_do_not_mix(echo: Cluster) -> None:
    with Client(echo.frontend) as client, ThreadPoolExecutor(8) as pool:
        rows = [[n] * 500 for n in range(8)]
        results = pool.map(lambda row: list(client.stream("echo_predict_stream", row)), rows)
        assert list(results) == rows


def test_closing_ends_the_calls_of_other_threads(echo: Cluster) -> None:
    client = Client(echo.frontend)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(client.sleeper_predict, 3) for _ in range(3)]
        wait_until(lambda: echo.open_calls() == 3, 10, "the calls are open")
        client.close()
        client.close()
        for call in calls:
            assert isinstance(call.exception(2), ClientClosedError)
    with pytest.raises(ClientClosedError):
        client.echo_predict(1)
    wait_until(lambda: echo.in_flight() == 0, 10, "the workers are free")


def test_a_child_that_was_forked_gets_a_connection_of_its_own(echo: Cluster) -> None:
    with Client(echo.frontend) as client, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.sleeper_predict, 1.5)  # a thread of the parent leads when the child is made
        wait_until(lambda: echo.in_flight() == 1, 10, "the slow call runs")
        child = os.fork()
        if child == 0:
            os._exit(0 if [client.echo_predict(i) for i in range(20)] == list(range(20)) else 1)
        assert [client.echo_predict(i) for i in range(20)] == list(range(20))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert slow.result(10) > 0


def test_a_child_that_drops_a_stream_of_its_parent_does_not_end_it(echo: Cluster) -> None:
    with Client(echo.frontend) as client:
        streams = [client.stream("echo_predict_stream", list(range(1000)))]
        assert next(streams[0]) == 0
        child = os.fork()
        if child == 0:
            streams.clear()
            os._exit(0)
        os.waitpid(child, 0)
        assert list(streams[0]) == list(range(1, 1000))


def test_an_interrupt_ends_the_call_and_leaves_the_client_usable(echo: Cluster) -> None:
    program = f"""
import os, signal, threading
from zerorpc_cluster import Client
client = Client({echo.frontend!r})
client.echo_predict(1)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    client.sleeper_predict(20)
except KeyboardInterrupt:
    print("interrupted", client.echo_predict(2))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    assert result.stdout == "interrupted 2\n", result.stderr
    assert echo.open_calls() == 0


def test_an_idle_client_stays_connected_and_leaves_when_it_is_dropped(echo: Cluster) -> None:
    before = threading.active_count()
    client = Client(echo.frontend)
    assert client.echo_predict(1) == 1
    time_used_s = time.process_time()
    time.sleep(3)  # it is idle
    assert time.process_time() - time_used_s < 0.1
    assert client.echo_predict(1) == 1
    client.close()
    del client
    gc.collect()
    wait_until(lambda: threading.active_count() <= before, 5, "its thread has ended")


def test_a_program_ends_without_closing_its_client(echo: Cluster) -> None:
    program = f"""
from zerorpc_cluster import Client
client = Client({echo.frontend!r})
print(client.echo_predict(1))
stream = client.stream("echo_predict_stream", [1] * 1000)
print(next(stream))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("1\n1\n", "", 0)
    wait_until(lambda: echo.open_calls() == 0, 5, "the broker has no call open")


def test_options_are_checked() -> None:
    for wrong in ({"timeout_s": 0}, {"heartbeat_s": -1}, {"retries": -1}, {"slots": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)  # type: ignore[arg-type]


def test_signals_are_not_touched(echo: Cluster) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Client(echo.frontend) as client:
        client.echo_predict(1)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
