"""Compares the clients of this cluster, each in a process of its own, and writes the table of docs/clients.md.

python -m bench.clients
"""

import json
import subprocess
import sys
from collections import defaultdict
from statistics import median
from typing import Any

from tqdm import tqdm

from bench import one_table, report
from bench.running import BenchError, running
from bench.systems import REPOSITORY, SERVICES, cluster

DOCUMENT = REPOSITORY / "docs" / "clients.md"
RESULTS = report.FOLDER / "clients.json"

IN_FLIGHT = (1, 64)

TITLES = {
    "stock": "stock `zerorpc.Client`, greenlets",
    "threads": "`zerorpc_cluster.Client`, threads",
    "asyncio": "`zerorpc_cluster.AsyncClient`, tasks",
}


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure each client with each number of calls in flight; return the medians.

    Raises:
        BenchError: if the cluster does not start, or a client fails.
    """
    found: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    with (
        running(cluster("clients", "this cluster, 2 workers", 2)) as under_test,
        tqdm(total=rounds * len(TITLES) * len(IN_FLIGHT), unit="measurement") as progress,
    ):
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                for kind in TITLES:
                    progress.set_postfix_str(f"{kind}, {in_flight} in flight")
                    found[kind, in_flight].append(_run(kind, under_test.system.address, in_flight, seconds))
                    progress.update()
    medians = [
        {"client": kind, "in_flight": in_flight, **{name: median(one[name] for one in taken) for name in taken[0]}}
        for (kind, in_flight), taken in found.items()
    ]
    return {"clients": medians}


def _run(kind: str, address: str, in_flight: int, seconds: float) -> dict[str, float]:
    program = [sys.executable, str(SERVICES / "client_load.py"), kind, address, str(in_flight), str(seconds)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{TITLES[kind]}: {done.stderr.strip()}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def table(results: dict[str, Any]) -> str:
    """Return the table of the clients: figures, and in brackets their ratios to the stock client's."""
    lines = ["| client |", "|---|"]
    for in_flight in IN_FLIGHT:
        lines[0] += f" calls/s, {in_flight} in flight | client CPU, µs per call |"
        lines[1] += "---|---|"
    by_key = {(one["client"], one["in_flight"]): one for one in results["clients"]}
    for kind, title in TITLES.items():
        line = f"| {title} |"
        for in_flight in IN_FLIGHT:
            ours, stock = by_key[kind, in_flight], by_key["stock", in_flight]
            for name in ("calls_a_second", "cpu_us"):
                ratio = "" if kind == "stock" else f" ({ours[name] / stock[name]:.2f})"
                line += f" {ours[name]:,.0f}{ratio} |"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Measure, and save the results."""
    one_table.run(__doc__, "clients", DOCUMENT, RESULTS, measure, table)


if __name__ == "__main__":
    main()
