"""Compares this cluster with other systems, and writes the tables and plots of docs/performance.md.

python -m bench                 what speaks ZeroRPC, and how cost grows
python -m bench --peers         the other model servers as well
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import report
from bench.compare import compare
from bench.growth import grow
from bench.running import BenchError
from bench.systems import of_echo, of_peers, of_zerorpc


def _machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "cpu": model,
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.system(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure the other model servers as well")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; medians are shown (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--only", nargs="*", metavar="KEY", help="only these systems; the document stays as it is")
    options = parser.parse_args()
    systems = [*of_zerorpc(), *of_echo(), *(of_peers() if options.peers else [])]
    if options.only is not None:
        known = {system.key: system for system in systems}
        if unknown := set(options.only) - set(known):
            parser.error(f"--only {' '.join(sorted(unknown))}: there are {' '.join(known)}")
        systems = [known[key] for key in options.only]
    try:
        points = compare(systems, options.rounds, options.seconds)
        for point in points:
            one = point.measured
            print(
                f"{point.title:32} {point.in_flight:4}  {one.calls_a_second:9,.0f} calls/s  p50 {one.p50_ms:8.3f} ms  "
                f"p99 {one.p99_ms:8.3f} ms  {one.cpu_us:7.1f} us  {one.memory_mib:6.0f} MiB  {one.failed} failed"
            )
        if options.only is not None:
            return
        results: dict[str, Any] = {
            "made": datetime.now(UTC).date().isoformat(),
            "machine": _machine(),
            "how": f"medians of {options.rounds} rounds of {options.seconds:g} s",
            "compare": [asdict(point) for point in points],
        }
        _save(results)  # the rest takes as long again, and may fail
        results["growth"] = [asdict(curve) for curve in grow(options.rounds, options.seconds)]
        _save(results)
        report.write()
    except BenchError as error:
        sys.exit(f"error: {error}")


def _save(results: dict[str, Any]) -> None:
    report.RESULTS.parent.mkdir(exist_ok=True)
    report.RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
