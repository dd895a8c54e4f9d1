"""Clients that vanish, flood or do not read, and thousands of clients."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import msgpack
import pytest
import zerorpc
import zmq

from tests.figures import Figure
from tests.processes import Cluster, cluster, end_talking, talking_process, total, wait_until

PACE_S = 0.01


@pytest.mark.fault(17)
def test_a_client_that_is_killed_leaves_nothing(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        made.start_raw_worker("one")
        made.wait_for_workers(2)
        calling = made.load("sleeper_predict", argument=0.5, in_flight=50)
        reading = made.load("counter_count", argument=1_000_000, in_flight=1)
        wait_until(lambda: made.in_flight() == 2 and made.open_calls() == 51, 10, "all calls have arrived")
        calling.end()
        reading.end()
        killed_s = time.monotonic()
        wait_until(lambda: made.in_flight() == 0 and made.open_calls() == 0, 15, "nothing is left of them")
        figure("from the kill to nothing in flight", time.monotonic() - killed_s, "s")
        assert made.outcomes("sleeper_predict")["cancelled"] > 40, "queued calls are dropped"
        assert isinstance(made.client().sleeper_predict(0), int)


@pytest.mark.fault(17)
def test_a_frozen_client_is_timed_out_and_its_next_call_is_served(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly") as made, stock_caller(made, heartbeat_s=1) as caller:
        made.load("sleeper_predict", argument=40, in_flight=1)
        wait_until(lambda: made.in_flight() == 1, 10, "the worker is busy")
        assert caller.stdin is not None
        assert caller.stdout is not None
        caller.stdin.write("0\n")
        caller.stdin.flush()
        wait_until(lambda: made.open_calls() == 2, 10, "its call waits")
        until_s = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > until_s, 5, "it has sent heartbeats")
        caller.send_signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        wait_until(lambda: made.outcomes("sleeper_predict")["cancelled"] == 1, 25, "its call is dropped")
        figure("from a client's freeze to its call dropped", time.monotonic() - frozen_s, "s")
        caller.send_signal(signal.SIGCONT)
        assert caller.stdout.readline() == "LostRemote\n"
        made.start_worker("SleeperOnly")
        caller.stdin.write("0\n")
        caller.stdin.flush()
        assert caller.stdout.readline() == "OK\n", "the same client calls again"


@contextmanager
def stock_caller(made: Cluster, heartbeat_s: float) -> Iterator[subprocess.Popen[str]]:
    process = talking_process("tests.services.caller", made.frontend, str(heartbeat_s))
    try:
        yield process
    finally:
        end_talking(process)


@pytest.mark.fault(17)
def test_a_call_that_its_client_has_timed_out_is_never_executed(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path, "SleeperOnly") as made:
        patient, impatient = made.client(heartbeat=1), made.client(heartbeat=1, timeout=4)
        first = gevent.spawn(patient, "sleeper_predict", 25)
        wait_until(lambda: made.in_flight() == 1, 5, "the first call runs")
        with pytest.raises(zerorpc.TimeoutExpired):
            impatient.sleeper_predict(0)
        gone_s = time.monotonic()
        wait_until(lambda: made.outcomes("sleeper_predict")["cancelled"] == 1, 20, "it is dropped")
        figure("from a client's own time-out to its call dropped", time.monotonic() - gone_s, "s")
        assert isinstance(first.get(timeout=30), int)
        assert total(made.http, "zerorpc_broker_dispatched_total") == 1


@contextmanager
def bare_client(made: Cluster, **options: Any) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    for name, value in {"linger": 0, "sndhwm": 0, **options}.items():
        setattr(dealer, name, value)
    dealer.connect(made.frontend)
    try:
        yield dealer
    finally:
        dealer.close()
        context.term()


def call_event(number: int, procedure: str, argument: Any) -> bytes:
    event: bytes = msgpack.packb([{"message_id": b"%032x" % number, "v": 3}, procedure, [argument]])
    return event


@pytest.mark.fault(21)
@pytest.mark.parametrize(("size", "calls"), [(1_000_000, 600), (20_000, 12_000)])
def test_a_client_that_never_reads_is_dropped(tmp_path: Path, figure: Figure, size: int, calls: int) -> None:
    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        other = made.load("echo_predict", rate=20)
        before_bytes = made.memory_bytes()
        with bare_client(made, rcvhwm=1, rcvbuf=4096) as dealer:
            argument = b"x" * size
            sent = 0
            step = 4_000_000 // size

            def send_more() -> bool:
                """Keep some calls waiting, and never read an answer."""
                nonlocal sent
                while sent < calls and made.open_calls() < 2 * step:
                    for _ in range(step):
                        dealer.send_multipart([b"", call_event(sent, "echo_predict", argument)])
                        sent += 1
                # The broker drops it when its buffer is full, or when its kernel has taken no byte for 7 s.
                return total(made.http, "zerorpc_broker_clients_dropped_total") >= 1

            wait_until(send_more, 60, "it is dropped")
            grown_bytes = made.memory_bytes() - before_bytes
        figure(f"{size} bytes a result: the broker's growth when it is dropped", grown_bytes / 2**20, "MiB")
        other.stop()
        result = other.result()
        assert set(result["outcomes"]) == {"OK"}
        figure(f"{size} bytes a result: p99 of another's calls meanwhile", result["outcomes"]["OK"]["p99_ms"], "ms")
        assert result["unanswered"] == 0
        assert grown_bytes < 450 << 20
        wait_until(lambda: made.in_flight() == 0 and made.open_calls() == 0, 15, "nothing is left of it")
        # Small blocks go back to the allocator and not to the system, so some of the growth stays.
        wait_until(lambda: made.memory_bytes() - before_bytes < 150 << 20, 15, "its memory is released")


@pytest.mark.alone
@pytest.mark.fault(20)
def test_a_flood_costs_others_no_more_than_a_turn(tmp_path: Path, figure: Figure) -> None:
    with paced(tmp_path, PACE_S, PACE_S, BROKER_QUEUE_CLIENT_CALLS="500") as made:
        alone = made.load("pacer_predict", in_flight=1, calls=200).result()["outcomes"]["OK"]
        flood = made.load("pacer_predict", in_flight=3000, rate=10 * 2 / PACE_S, seconds=6)  # ten times the capacity
        wait_until(lambda: made.outcomes("pacer_predict")["busy"] > 0, 10, "the flood is refused in part")
        beside = made.load("pacer_predict", in_flight=1, calls=200).result()["outcomes"]
        assert set(beside) == {"OK"}
        ratio = beside["OK"]["p99_ms"] / alone["p99_ms"]
        figure("p99 of another's calls, beside a flood and without", ratio, "x")
        flooder = flood.result()
        assert set(flooder["outcomes"]) == {"OK", "ServerBusy"}
        assert flooder["unanswered"] == 0
        assert beside["OK"]["p99_ms"] < 2 * alone["p99_ms"] + 20


@contextmanager
def paced(folder: Path, *paces_s: float, **broker_settings: str) -> Iterator[Cluster]:
    """A cluster with a worker for each pace: the seconds that it takes for a call."""
    with cluster(folder, **broker_settings) as made:
        for pace_s in paces_s:
            made.start_worker("PacerOnly", PACE_S=str(pace_s))
        made.wait_for_workers(len(paces_s))
        yield made


@pytest.mark.alone
@pytest.mark.fault(22)
def test_2000_clients_and_10000_waiting_calls(tmp_path: Path, figure: Figure) -> None:
    calls = 10_000

    def broker_cpu_us(made: Cluster, connections: int) -> float:
        def cpu_s() -> float:
            return total(made.http, "process_cpu_seconds_total")

        before_s = cpu_s()
        load = made.load("echo_predict", in_flight=calls, calls=calls, connections=connections)
        result = load.result()
        assert result["outcomes"]["OK"]["count"] == calls
        assert result["unanswered"] == result["unasked"] == 0
        return (cpu_s() - before_s) / calls * 1e6

    with cluster(tmp_path, "EchoOnly", "EchoOnly") as made:
        few_us, many_us = broker_cpu_us(made, 10), broker_cpu_us(made, 2000)
        figure("the broker's CPU a call with 2,000 clients and with 10", many_us / few_us, "x")
        assert many_us < 2 * few_us
        assert made.open_calls() == 0


@pytest.mark.fault(19)
def test_a_reader_that_stops_reading_stops_the_stream_and_no_other(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path) as made:
        made.start_raw_worker("one")
        made.wait_for_workers(1)
        slow = made.client().counter_count(100_000)
        read = [next(slow) for _ in range(10)]
        paused_s = time.monotonic()
        fast = [number for number, _, _ in made.client().counter_count(5000)]
        assert fast == list(range(5000)), "another's stream goes on"
        until_s = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until_s, 3, "the pause has passed")
        resumed_s = time.monotonic()
        read += [next(slow) for _ in range(500)]
        assert [number for number, _, _ in read] == list(range(510))
        ahead = sum(made_s < resumed_s for _, _, made_s in read) - 10
        figure("items made ahead of a reader that stopped", ahead, "")
        assert ahead <= 101
        assert sum(paused_s + 1 < made_s < resumed_s for _, _, made_s in read) == 0


@pytest.mark.fault(19)
def test_a_slow_reader_gets_every_item(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        made.start_raw_worker("one")
        made.wait_for_workers(1)
        numbers = []
        for number, _, _ in made.client(heartbeat=1).counter_count(600):
            numbers.append(number)
            gevent.sleep(0.01)  # this is what makes the reader slow
        assert numbers == list(range(600))
