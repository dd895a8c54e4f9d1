"""Measures how the cost of a call grows with clients, workers, procedures, bytes and concurrent streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from tqdm import tqdm

from bench.running import Measured, Running, running
from bench.systems import System, cluster, echo, of_echo

CLIENTS = (10, 100, 1_000, 5_000)
WORKERS = (1, 2, 4, 8, 16, 32, 64)
PROCEDURES = (1, 10, 100)
BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)

STREAMS = (1, 10, 100, 1_000)

ITEMS = 50
"""Rows of each stream."""

RATE = 1_500
"""Calls per second of the curve of clients, spread over all of them in turn."""


@dataclass(frozen=True)
class Curve:
    """A curve: calls per second, and the broker's CPU time per call in microseconds, at each size.

    Of streams, their items instead of calls.
    """

    name: str
    sizes: tuple[int, ...]
    calls_a_second: tuple[float, ...]
    broker_cpu_us: tuple[float, ...]


def _with_clients(under_test: Running, clients: int, seconds: float) -> Measured:
    return under_test.measure(1, seconds, "--rate", str(RATE), "--connections", str(clients))


def _with_workers(under_test: Running, workers: int, seconds: float) -> Measured:
    return under_test.measure(2 * workers, seconds)


def _with_procedures(under_test: Running, _procedures: int, seconds: float) -> Measured:
    return under_test.measure(64, seconds)


def _with_streams(under_test: Running, streams: int, seconds: float) -> Measured:
    per_stream = under_test.measure(streams, seconds)
    return replace(
        per_stream,
        calls_a_second=per_stream.calls_a_second * ITEMS,
        cpu_us=per_stream.cpu_us / ITEMS,
        first_cpu_us=per_stream.first_cpu_us / ITEMS,
    )


def _with_bytes(under_test: Running, size: int, seconds: float) -> Measured:
    in_flight = 64 if size < 100_000 else 4
    return under_test.measure(in_flight, seconds, "--data-bytes", str(size))


def grow(rounds: int, seconds: float) -> list[Curve]:
    """Measure every curve."""
    sleeping = "bench.services.models:SleeperOnly"
    rows = ("--data", json.dumps([0] * ITEMS))
    echoing = "bench.services.models:EchoOnly"
    sizes = sum(map(len, (CLIENTS, CLIENTS, WORKERS, PROCEDURES, BYTES, STREAMS)))
    with tqdm(total=rounds * sizes, unit="measurement") as bar:

        def curve(
            name: str,
            sizes: tuple[int, ...],
            system: Callable[[int], System],
            measure: Callable[[Running, int, float], Measured],
            *,
            one_for_all: bool = False,
        ) -> Curve:
            seen: dict[int, list[Measured]] = {size: [] for size in sizes}
            if one_for_all:
                with running(system(sizes[0])) as under_test:
                    for _ in range(rounds):
                        for size in sizes:
                            bar.set_postfix_str(f"{name}: {size}")
                            seen[size].append(measure(under_test, size, seconds))
                            bar.update()
            else:
                for size in sizes:
                    with running(system(size)) as under_test:
                        for _ in range(rounds):
                            bar.set_postfix_str(f"{name}: {size}")
                            seen[size].append(measure(under_test, size, seconds))
                            bar.update()
            return Curve(
                name,
                sizes,
                tuple(median(one.calls_a_second for one in seen[size]) for size in sizes),
                tuple(median(one.first_cpu_us for one in seen[size]) for size in sizes),
            )

        return [
            curve("clients", CLIENTS, lambda _: echo("", ""), _with_clients, one_for_all=True),
            curve("clients of zmq.proxy", CLIENTS, lambda _: of_echo()[0], _with_clients, one_for_all=True),
            curve("workers", WORKERS, lambda n: cluster("", "", n, sleeping, "sleeper_predict"), _with_workers),
            curve("procedures", PROCEDURES, _with_models, _with_procedures),
            curve("bytes", BYTES, lambda _: echo("", "", "--back"), _with_bytes, one_for_all=True),
            curve(
                "streams",
                STREAMS,
                lambda _: replace(cluster("", "", 2, echoing, "echo_predict_stream"), options=rows),
                _with_streams,
                one_for_all=True,
            ),
        ]


def _with_models(models: int) -> System:
    last = "echo_predict" if models == 1 else f"echo_{models - 1}_predict"
    return echo("", "", "--models", str(models), procedure=last)
