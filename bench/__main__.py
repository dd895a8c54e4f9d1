"""Compares this cluster with other servers, and writes the tables and plots of docs/performance.md.

python -m bench                 ZeroRPC servers, and how the cost of a call grows
python -m bench --peers         other model servers as well
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench import report
from bench.compare import compare
from bench.growth import measure_growth
from bench.machine import describe_machine
from bench.running import BenchError
from bench.systems import echo_systems, peer_systems, zerorpc_systems


def main() -> None:
    """Measure, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure other model servers as well")
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of repetitions; the tables show medians (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="duration of each measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="*", metavar="KEY", help="measure only these systems, and leave the document unchanged"
    )
    options = parser.parse_args()
    systems = [*zerorpc_systems(), *echo_systems(), *(peer_systems() if options.peers else [])]
    if options.only is not None:
        known = {system.key: system for system in systems}
        if unknown := set(options.only) - set(known):
            parser.error(f"--only {' '.join(sorted(unknown))}: the systems are {' '.join(known)}")
        systems = [known[key] for key in options.only]
    try:
        points = compare(systems, options.rounds, options.seconds)
        for point in points:
            measured = point.measured
            print(
                f"{point.title:32} {point.in_flight:4}  {measured.calls_a_second:9,.0f} calls/s  "
                f"p50 {measured.p50_ms:8.3f} ms  p99 {measured.p99_ms:8.3f} ms  {measured.cpu_us:7.1f} us  "
                f"{measured.memory_mib:6.0f} MiB  {measured.failed} failed"
            )
        if options.only is not None:
            return
        results: dict[str, Any] = {
            "made": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(),
            "how": f"medians of {options.rounds} rounds of {options.seconds:g} s",
            "compare": [asdict(point) for point in points],
        }
        _save(results)  # the next measurements take as long, and may fail
        results["growth"] = [asdict(curve) for curve in measure_growth(options.rounds, options.seconds)]
        _save(results)
        report.update_document()
    except BenchError as error:
        sys.exit(f"error: {error}")


def _save(results: dict[str, Any]) -> None:
    report.RESULTS.parent.mkdir(exist_ok=True)
    report.RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
