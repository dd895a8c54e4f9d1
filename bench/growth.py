"""Measures how the cost of a call grows with clients, workers, procedures, bytes, and concurrent streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from tqdm import tqdm

from bench import workloads
from bench.generator import zerorpc_request
from bench.running import Measurement, RunningSystem, running
from bench.systems import System, cluster, echo_cluster, echo_systems
from bench.workloads import STREAM, Workload

CLIENTS = (10, 100, 1_000, 5_000)
WORKERS = (1, 2, 4, 8, 16, 32, 64)
PROCEDURES = (1, 10, 100)
CALL_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)

STREAMS = (1, 10, 100, 1_000)

CALLS_PER_SECOND = 1_500
"""Total rate of calls for every number of clients; the clients take turns."""


@dataclass(frozen=True)
class Curve:
    """One figure that grows, and its cost. For streams, an item counts as a call.

    Attributes:
        name: the name of the figure.
        sizes: the values of the figure.
        calls_a_second: calls per second at each size.
        broker_cpu_us: CPU time of the broker per call at each size, in microseconds.
    """

    name: str
    sizes: tuple[int, ...]
    calls_a_second: tuple[float, ...]
    broker_cpu_us: tuple[float, ...]


def _measure_clients(under_test: RunningSystem, clients: int, seconds: float) -> Measurement:
    return under_test.measure(1, seconds, rate=CALLS_PER_SECOND, connections=clients)


def _measure_workers(under_test: RunningSystem, workers: int, seconds: float) -> Measurement:
    return under_test.measure(2 * workers, seconds)


def _measure_procedures(under_test: RunningSystem, _procedures: int, seconds: float) -> Measurement:
    return under_test.measure(64, seconds)


def _measure_streams(under_test: RunningSystem, streams: int, seconds: float) -> Measurement:
    per_stream = under_test.measure(streams, seconds)
    return replace(
        per_stream,
        calls_a_second=per_stream.items_a_second,
        cpu_us=per_stream.cpu_us / STREAM.items,
        first_cpu_us=per_stream.first_cpu_us / STREAM.items,
    )


def _measure_bytes(under_test: RunningSystem, size: int, seconds: float) -> Measurement:
    in_flight = 64 if size < 100_000 else 4
    return under_test.measure(in_flight, seconds, request=zerorpc_request("echo_predict", bytes(size)))


def measure_growth(rounds: int, seconds: float) -> list[Curve]:
    """Measure every curve.

    Args:
        rounds: number of measurements at each size; a curve has their medians.
        seconds: duration of each measurement.
    """
    sleeper = Workload("sleeper", "", (), "sleeper_predict", 0, "bench.services.models:SleeperOnly", "")
    sizes = sum(map(len, (CLIENTS, CLIENTS, WORKERS, PROCEDURES, CALL_BYTES, STREAMS)))
    with tqdm(total=rounds * sizes, unit="measurement") as progress:

        def curve(
            name: str,
            sizes: tuple[int, ...],
            system: Callable[[int], System],
            measure: Callable[[RunningSystem, int, float], Measurement],
            *,
            share_system: bool = False,
        ) -> Curve:
            measurements: dict[int, list[Measurement]] = {size: [] for size in sizes}
            if share_system:
                with running(system(sizes[0])) as under_test:
                    for _ in range(rounds):
                        for size in sizes:
                            progress.set_postfix_str(f"{name}: {size}")
                            measurements[size].append(measure(under_test, size, seconds))
                            progress.update()
            else:
                for size in sizes:
                    with running(system(size)) as under_test:
                        for _ in range(rounds):
                            progress.set_postfix_str(f"{name}: {size}")
                            measurements[size].append(measure(under_test, size, seconds))
                            progress.update()
            return Curve(
                name,
                sizes,
                tuple(median(measured.calls_a_second for measured in measurements[size]) for size in sizes),
                tuple(median(measured.first_cpu_us for measured in measurements[size]) for size in sizes),
            )

        return [
            curve("clients", CLIENTS, lambda _: echo_cluster("", ""), _measure_clients, share_system=True),
            curve("clients of zmq.proxy", CLIENTS, lambda _: echo_systems()[0], _measure_clients, share_system=True),
            curve("workers", WORKERS, lambda n: cluster("", "", n, sleeper), _measure_workers),
            curve("procedures", PROCEDURES, _cluster_with_models, _measure_procedures),
            curve("bytes", CALL_BYTES, lambda _: echo_cluster("", "", "--back"), _measure_bytes, share_system=True),
            curve("streams", STREAMS, lambda _: cluster("", "", 2, STREAM), _measure_streams, share_system=True),
        ]


def _cluster_with_models(models: int) -> System:
    last = "echo_predict" if models == 1 else f"echo_{models - 1}_predict"
    request = zerorpc_request(last, workloads.FLOWER)
    return echo_cluster("", "", "--models", str(models), request=request)
