"""Compares the cluster with keys to the cluster without, and writes the table of docs/performance.md.

python -m bench.keys
"""

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import one_table, report
from bench.compare import compare
from bench.systems import System, cluster
from scripts import keys

RESULTS = report.FOLDER / "keys.json"
IN_FLIGHT = (1, 16, 64, 256)
OPEN, KEYED = "open", "keyed"


def systems(folder: Path) -> list[System]:
    """Return the cluster without and with keys.

    Args:
        folder: for the keys.
    """
    plain = replace(cluster(OPEN, "without keys", 2), script_options=())
    keyed = cluster(KEYED, "with keys on both ports", 2, port_block=1)
    for kind, name in ((keys.BROKER, ""), ("client", "bench"), ("worker", "bench")):
        keys.new(folder, kind, name)
    broker_key = str(keys.public_file(folder, keys.BROKER, ""))
    environment = {
        "BROKER_CURVE_SECRET": str(keys.secret_file(folder, keys.BROKER, "")),
        "BROKER_CLIENT_KEYS": str(folder / "clients"),
        "BROKER_WORKER_KEYS": str(folder / "workers"),
    }
    for_workers = {
        "WORKER_CURVE_SECRET": str(keys.secret_file(folder, "worker", "bench")),
        "WORKER_BROKER_KEY": broker_key,
    }
    broker, *workers = keyed.processes
    processes = (
        replace(broker, environment={**broker.environment, **environment}),
        *(replace(worker, environment={**worker.environment, **for_workers}) for worker in workers),
    )
    options = ("--secret", str(keys.secret_file(folder, "client", "bench")), "--broker-key", broker_key)
    return [plain, replace(keyed, processes=processes, script_options=options)]


def table(results: dict[str, Any]) -> str:
    """Return the table: figures, and in brackets their ratios to the cluster without keys."""
    return one_table.pair_table(results["compare"], OPEN, KEYED)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure the cluster without and with keys under each load; return the medians.

    Raises:
        BenchError: if a cluster does not start, or a measurement fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        return {"compare": [asdict(point) for point in compare(systems(Path(folder)), IN_FLIGHT, rounds, seconds)]}


def main() -> None:
    """Measure, and save the results."""
    one_table.run(__doc__, "keys", report.DOCUMENT, RESULTS, measure, table)


if __name__ == "__main__":
    main()
