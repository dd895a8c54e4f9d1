"""What the one on call does to a cluster, or what is done to it: overload, clocks, logs that nobody reads, scrapers."""

import fcntl
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import libfaketime
import pytest

from tests.figures import Figure
from tests.processes import Cluster, cluster, get, total, wait_until

PACE_S = 0.01


def paced(made: Cluster, paces_s: list[float]) -> None:
    for pace_s in paces_s:
        made.start_worker("PacerOnly", PACE_S=str(pace_s))
    made.wait_for_workers(len(paces_s))


@pytest.mark.alone
@pytest.mark.fault(41)
@pytest.mark.timeout(240)
def test_ten_times_too_much_for_a_minute_is_refused_and_not_suffered(tmp_path: Path, figure: Figure) -> None:
    overload_s = 60.0
    with cluster(tmp_path, BROKER_QUEUE_CALLS="400") as made:  # two seconds of work
        paced(made, [PACE_S, PACE_S])
        peak = made.load("pacer_predict", in_flight=32, connections=8, seconds=8).result()
        peak_rate = peak["outcomes"]["OK"]["count"] / peak["took_s"]
        load = made.load("pacer_predict", rate=10 * peak_rate, connections=20, seconds=overload_s)
        load_ends_s = time.monotonic() + overload_s + 1.0  # and a second for it to begin
        wait_until(lambda: made.outcomes("pacer_predict")["busy"] > 0, 45, "the queue is full")
        begin_s, begin_bytes = time.monotonic(), made.memory_bytes()
        ok_before = made.outcomes("pacer_predict")["ok"]
        end_s = begin_s + overload_s / 3
        wait_until(lambda: time.monotonic() > end_s, overload_s, "a while has passed")
        goodput = (made.outcomes("pacer_predict")["ok"] - ok_before) / (time.monotonic() - begin_s)
        grown_bytes = made.memory_bytes() - begin_bytes
        wait_until(lambda: time.monotonic() > load_ends_s, overload_s, "the load has ended")
        recovered_s = _recovery_s(made)
        result = load.result(200)
        busy = result["outcomes"]["ServerBusy"]
        figure("goodput at 10 times the capacity, of the peak", goodput / peak_rate, "x")
        figure("refusals: median until they come", busy["p50_ms"], "ms")
        figure("refusals: p99 until they come", busy["p99_ms"], "ms")
        figure("the load's own lateness: p99", result["lateness"]["p99_ms"], "ms")
        figure("the broker's growth once its queues are full", grown_bytes / 2**20, "MiB")
        figure("from the end of the overload to calls as fast as ever", recovered_s, "s")
        assert set(result["outcomes"]) <= {"OK", "ServerBusy", "DeadlineExceeded"}
        assert result["unanswered"] == result["unasked"] == 0
        assert goodput > 0.8 * peak_rate
        assert busy["p50_ms"] < 10
        assert busy["p99_ms"] < 300  # of which the load's own lateness is a part
        assert grown_bytes < 10 << 20
        assert recovered_s < 8  # the promise is 5 s


def _recovery_s(made: Cluster) -> float:
    """How long it takes from now until a few calls are as fast as they are without load."""
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < 30:
        asked_s = time.monotonic()
        calls = made.load("pacer_predict", in_flight=1, calls=5).result()["outcomes"]
        if set(calls) == {"OK"} and calls["OK"]["max_ms"] < 1000 * (PACE_S + 0.05):
            return asked_s - begin_s
    return float("inf")


@pytest.mark.alone
@pytest.mark.fault(11)
def test_a_worker_that_is_20_times_slower_gets_less_and_holds_nobody_up(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path) as made:
        paced(made, [PACE_S, PACE_S])
        without = made.load("pacer_predict", in_flight=2, connections=2, seconds=5).result()
        slow = made.start_worker("PacerOnly", PACE_S=str(20 * PACE_S))
        made.wait_for_workers(3)
        beside = made.load("pacer_predict", in_flight=3, connections=3, seconds=8).result()
        by_worker = beside["by_value"]
        figure("share of the slow worker", by_worker[str(slow.pid)]["count"] / beside["sent"], "")
        others = [by_worker[pid] for pid in by_worker if pid != str(slow.pid)]
        p99_ms = max(other["p99_ms"] for other in others)
        figure(
            "p99 of the others' calls, beside the slow worker and without",
            p99_ms / without["outcomes"]["OK"]["p99_ms"],
            "x",
        )
        assert by_worker[str(slow.pid)]["count"] < 0.1 * beside["sent"]
        assert p99_ms < 1.5 * without["outcomes"]["OK"]["p99_ms"] + 20


@pytest.mark.fault(42)
def test_the_wall_clock_may_jump(tmp_path: Path, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    variables = dict(libfaketime.get_reload_information()[1])
    variables["LD_PRELOAD"] = str(Path(variables["LD_LIBRARY_PATH"].split(":")[0]) / "libfaketime.so.1")
    variables["FAKETIME_TIMESTAMP_FILE"] = str(clock)
    with cluster(tmp_path) as made:
        made.broker.end()
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            made.start_broker()
            made.start_worker("SleeperOnly")
            made.start_worker("SleeperOnly")
        before = {worker["id"] for worker in made.wait_for_workers(2)}
        load = made.load("sleeper_predict", argument=0.1, in_flight=4, connections=2)

        def jump(shift_s: int) -> None:
            clock.write_text(f"{shift_s:+d}")
            wait_until(lambda: abs(_clock_of(made.http) - time.time() - shift_s) < 60, 5, "the clock has jumped")
            wanted = made.outcomes("sleeper_predict")["ok"] + 60
            wait_until(lambda: made.outcomes("sleeper_predict")["ok"] > wanted, 20, "calls go on")

        for shift_s in (-3600, 3600, 0):
            jump(shift_s)
        load.stop()
        result = load.result()
        figure("calls lost, or workers given up", result["unanswered"], "")
        assert set(result["outcomes"]) == {"OK"}
        assert result["unanswered"] == 0
        assert result["outcomes"]["OK"]["max_ms"] < 5000
        assert {worker["id"] for worker in made.workers()} == before
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 0


def _clock_of(address: str) -> float:
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=5) as response:
        return parsedate_to_datetime(response.headers["Date"]).timestamp()


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end for writing of a pipe that is full, and that nobody reads."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    try:
        yield write_end
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.fault(43)
def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    with full_pipe() as nobody_reads, cluster(tmp_path) as made:
        made.broker.end()
        made.start_broker(nobody_reads)
        made.start_worker("Misbehaving", output=nobody_reads)
        made.wait_for_workers(1)
        client = made.client()
        for _ in range(3):
            with pytest.raises(Exception, match="cannot: do"):
                client.misbehaver_predict("do")
            assert client.echo_predict("served") == "served"
        for process in (made.processes[-1], made.broker):
            process.signal(signal.SIGTERM)
            assert process.wait(10) == 0


@pytest.mark.alone
@pytest.mark.fault(44)
def test_scrapers_that_hurry_or_hang_disturb_nobody(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path) as made:
        paced(made, [PACE_S, PACE_S])
        addresses = [made.http, *made.worker_http.values()]
        alone = made.load("pacer_predict", in_flight=2, connections=2, seconds=5).result()["outcomes"]["OK"]
        with hanging_scrapers(addresses), every(0.02, lambda: get(made.http, "/metrics")) as count:
            beside = made.load("pacer_predict", in_flight=2, connections=2, seconds=8).result()["outcomes"]["OK"]
        figure("p99 of calls, beside 50 scrapes a second and without", beside["p99_ms"] / alone["p99_ms"], "x")
        figure("scrapes a second", count() / 8, "")
        assert count() > 8 * 20, "it was scraped often"
        assert beside["p99_ms"] < 1.5 * alone["p99_ms"] + 20


@contextmanager
def hanging_scrapers(addresses: list[str]) -> Iterator[None]:
    """On each address one that asks and never reads, and one that never ends its question."""
    connections = []
    try:
        for address in addresses:
            host, _, port = address.rpartition(":")
            for question in (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50, b"GET /met"):
                connection = socket.create_connection((host, int(port)))
                connections.append(connection)
                connection.sendall(question)
        yield
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def every(interval_s: float, do: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Do something again and again in a thread; yields what tells how often it was done."""
    done = 0
    stop = threading.Event()

    def run() -> None:
        nonlocal done
        while not stop.wait(interval_s):
            do()
            done += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: done
    finally:
        stop.set()
        thread.join()
