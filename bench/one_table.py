"""A comparison whose results are one table of a document: its command line, its file of results, its document."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report
from bench.machine import describe_machine
from bench.running import BenchError


def pair_table(points: list[dict[str, Any]], first: str, second: str) -> str:
    """Return the table of two systems: figures, and in brackets the ratios of the second to the first.

    Args:
        points: the results (`bench.compare.Point`).
        first: the key of a system, which is its name in the table.
        second: likewise, of the system that is compared with it.
    """
    by_load = {(one["system"], one["in_flight"]): one["measured"] for one in points}
    columns = [
        f"{column}, {key}" for column in ("calls/s", "server CPU, µs per call", "p99, ms") for key in (first, second)
    ]
    lines = [f"| calls in flight | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for in_flight in dict.fromkeys(one["in_flight"] for one in points):
        one, other = by_load[first, in_flight], by_load[second, in_flight]
        cells = [str(in_flight)]
        for name, form in (("calls_a_second", ",.0f"), ("cpu_us", ".1f"), ("p99_ms", ".2f")):
            cells += [f"{one[name]:{form}}", f"{other[name]:{form}} ({other[name] / one[name]:.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(
    about: str | None,
    part: str,
    document: Path,
    results_file: Path,
    measure: Callable[[int, float], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """Measure, print the table, and write results and document.

    Args:
        about: what the command line says of itself.
        part: name of the part of the document that has the table; the part `part-machine` has the machine.
        document: the page.
        results_file: the results as JSON.
        measure: takes rounds, and the seconds of each; returns results. It may raise `BenchError`.
        table: makes the table of the results.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of repetitions (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="only print the table; leave the document unchanged")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "made": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "how": f"medians of {options.rounds} rounds of {options.seconds:g} s",
    }
    try:
        results |= measure(options.rounds, options.seconds)
    except BenchError as error:
        sys.exit(f"error: {error}")
    print(table(results))
    if not options.keep:
        results_file.write_text(json.dumps(results, indent=1) + "\n")
        text = report.replace_part(document.read_text(), f"{part}-machine", report.origin(results))
        document.write_text(report.replace_part(text, part, table(results)))
