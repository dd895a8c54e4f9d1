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

from bench import report, workloads
from bench.compare import Point, compare
from bench.growth import measure_growth
from bench.half_rate import measure_half_rate
from bench.machine import describe_machine
from bench.running import BenchError
from bench.systems import System, cluster_of_two, echo_systems, peer_systems, zerorpc_systems
from bench.workloads import Workload


def main() -> None:
    """Measure, and save the results."""
    options = _options()
    try:
        if options.only is not None or options.workload is not None or options.in_flight is not None:
            for workload in (*workloads.ALL, *workloads.KINDS):
                if workload.key in (options.workload or [workloads.ROW.key]):
                    with_peers = workload not in workloads.KINDS
                    chosen = _chosen(_systems(workload, with_peers=with_peers), options.only)
                    in_flights = options.in_flight or workload.in_flight
                    _show(compare(chosen, in_flights, options.rounds, options.seconds, workload.key))
            return
        results: dict[str, Any] = {
            "made": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(),
            "how": f"medians of {options.rounds} rounds of {options.seconds:g} s",
            "compare": [],
        }
        for workload in workloads.ALL if options.peers else [workloads.ROW]:
            systems = _systems(workload, with_peers=options.peers)
            points = compare(systems, workload.in_flight, options.rounds, options.seconds, workload.key)
            if options.peers and workload is workloads.ROW:
                points += measure_half_rate(points, systems, options.rounds, options.seconds)
            _show(points)
            results["compare"] += [asdict(point) for point in points]
            _save(results)  # the next measurements take as long, and may fail
        results["growth"] = [asdict(curve) for curve in measure_growth(options.rounds, options.seconds)]
        _save(results)
        report.update_document()
    except BenchError as error:
        sys.exit(f"error: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure other model servers and more workloads as well")
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of repetitions; the tables show medians (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="duration of each measurement (default: %(default)s)"
    )
    some = parser.add_argument_group("measure a part, and leave the document unchanged")
    some.add_argument("--only", nargs="*", metavar="KEY", help="these systems")
    some.add_argument("--workload", nargs="*", choices=_WORKLOADS, help="these workloads")
    some.add_argument("--in-flight", nargs="*", type=int, metavar="N", help="with these numbers of calls in flight")
    return parser.parse_args()


_WORKLOADS = [workload.key for workload in (*workloads.ALL, *workloads.KINDS)]


def _systems(workload: Workload, *, with_peers: bool) -> list[System]:
    is_row = workload is workloads.ROW
    systems = [*zerorpc_systems(), *echo_systems()] if is_row else [cluster_of_two(workload)]
    return [*systems, *(peer_systems(workload) if with_peers else [])]


def _chosen(systems: list[System], keys: list[str] | None) -> list[System]:
    known = {system.key: system for system in systems}
    if unknown := set(keys or ()) - set(known):
        sys.exit(f"error: --only {' '.join(sorted(unknown))}: the systems are {' '.join(known)}")
    return [known[key] for key in keys] if keys is not None else systems


def _show(points: list[Point]) -> None:
    for point in points:
        measured = point.measured
        load = f"{point.rate:,.0f}/s" if point.rate else str(point.in_flight)
        print(
            f"{point.workload:9} {point.title:32} {load:>8}  {measured.calls_a_second:9,.0f} calls/s  "
            f"p50 {measured.p50_ms:8.3f} ms  p99 {measured.p99_ms:8.3f} ms  {measured.cpu_us:7.1f} us  "
            f"(generator {measured.generator_cpu_us:5.1f} us)  {measured.memory_mib:6.0f} MiB  {measured.failed} failed"
        )


def _save(results: dict[str, Any]) -> None:
    report.RESULTS.parent.mkdir(exist_ok=True)
    report.RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
