"""Compares the cluster with its core compiled to the plain one, and writes the tables of docs/performance.md.

python -m bench.compiled
"""

from dataclasses import asdict, replace
from typing import Any

from bench import one_table, report, workloads
from bench.compare import compare
from bench.systems import Process, System, cluster, echo_cluster, echo_systems
from cluster.runtime import compiled
from scripts.compile_core import compile_core

RESULTS = report.FOLDER / "compiled.json"
PLAIN, COMPILED = "plain", "compiled"
ECHO_PLAIN, ECHO_COMPILED, ECHO_PROXY = "echo, plain", "echo, compiled", "echo-proxy"


def _compiled(system: System) -> System:
    environment = {compiled.VARIABLE: str(compile_core())}
    processes = (Process(one.command, {**one.environment, **environment}) for one in system.processes)
    return replace(system, processes=tuple(processes))


def systems() -> list[System]:
    """Return the cluster and the echo cluster, each plain and compiled, and `zmq.proxy`."""
    return [
        cluster(PLAIN, "the cluster", 2),
        _compiled(cluster(COMPILED, "the cluster, compiled", 2, port_block=1)),
        echo_cluster(ECHO_PLAIN, "this broker, 2 echo workers", port_block=2),
        _compiled(echo_cluster(ECHO_COMPILED, "this broker compiled, 2 echo workers", port_block=3)),
        *(system for system in echo_systems() if system.key == ECHO_PROXY),
    ]


def table(results: dict[str, Any]) -> str:
    """Return the tables: of the iris model, and of echo beside `zmq.proxy`."""
    points = results["compare"]
    of_models = [point for point in points if point["system"] in (PLAIN, COMPILED)]
    calls = {(point["system"], point["in_flight"]): point["measured"]["calls_a_second"] for point in points}
    lines = [
        "| calls in flight | echo calls/s, `zmq.proxy` | this broker | compiled |",
        "|---|---|---|---|",
    ]
    for in_flight in workloads.ROW.in_flight:
        proxy = calls[ECHO_PROXY, in_flight]
        cells = [
            f"{calls[key, in_flight]:,.0f} ({calls[key, in_flight] / proxy:.2f})" for key in (ECHO_PLAIN, ECHO_COMPILED)
        ]
        lines.append(f"| {in_flight} | {proxy:,.0f} | {' | '.join(cells)} |")
    return one_table.pair_table(of_models, PLAIN, COMPILED) + "\n\n" + "\n".join(lines)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure every system under each load; return the medians.

    Raises:
        BenchError: if a system does not start, or a measurement fails.
    """
    return {"compare": [asdict(point) for point in compare(systems(), workloads.ROW.in_flight, rounds, seconds)]}


def main() -> None:
    """Measure, and save the results."""
    one_table.run(__doc__, "compiled", report.DOCUMENT, RESULTS, measure, table)


if __name__ == "__main__":
    main()
