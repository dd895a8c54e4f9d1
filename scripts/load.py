"""Puts load on a ZeroRPC service and shows how fast it answers. Every answer is checked.

    python scripts/load.py                                        16 calls in flight, for 10 s
    python scripts/load.py --in-flight 64 --connections 8         a closed loop: each answer starts the next call
    python scripts/load.py --rate 500 --seconds 60                an open loop: 500 calls a second, whatever happens

A procedure may answer with a stream. The stream is read as fast as it arrives, and counts as one call.

In a closed loop, latency is measured from the time at which the call was sent. In an open loop, it is measured from the
time at which the call was due, so that a stall shows in all calls that it delays.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.load import measure, plot
from scripts.calling import DEFAULT_ADDRESS, FLOWER


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="of the service (default: %(default)s)")
    parser.add_argument("--procedure", default="iris_model_predict", help="what to call (default: %(default)s)")
    parser.add_argument("--data", default=FLOWER, metavar="JSON", help="its argument (default: %(default)s)")
    parser.add_argument("--data-bytes", type=int, metavar="N", help="its argument: N zero bytes")
    parser.add_argument(
        "--expect", metavar="JSON", help="the result that each call must have (default: that of the first call)"
    )
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="calls kept open (default: %(default)s)")
    parser.add_argument("--rate", type=float, metavar="R", help="calls a second, instead of --in-flight")
    parser.add_argument("--connections", type=int, metavar="C", help="default: 8, or as many as --in-flight if less")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="length of the measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--warm-up",
        type=float,
        default=1.0,
        metavar="S",
        help="load before it that is not measured (default: %(default)s)",
    )
    parser.add_argument("--secret", metavar="FILE", help="the client's secret key, if the service requires one")
    parser.add_argument("--broker-key", metavar="FILE", help="the service's public key, likewise")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency by percentile (.png, .svg, .pdf)")
    options = parser.parse_args()
    for name in ("data", "expect"):
        try:
            setattr(options, name, json.loads(text) if (text := getattr(options, name)) is not None else None)
        except ValueError as error:
            parser.error(f"--{name} {text!r} is not JSON: {error}")
    if options.data_bytes is not None:
        options.data = bytes(options.data_bytes)
    if options.connections is None:
        options.connections = 8 if options.rate is not None else min(8, options.in_flight)
    for name in ("in_flight", "connections", "seconds", "rate"):
        if (value := getattr(options, name)) is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} {value:g} should be more than 0")
    return options


def main() -> None:
    """Put load on a service; the exit code is 1 if a call did not get the expected answer."""
    options = _options()
    result, histogram = measure(options)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(f"{result.calls_a_second:,.0f} calls/s: {result.calls:,} calls in {result.seconds:.1f} s")
        print("outcomes:", ", ".join(f"{count:,} {outcome}" for outcome, count in result.outcomes.items()))
        print("latency:", ", ".join(f"{name} {value:.3f} ms" for name, value in result.latency_ms.items()))
        if result.lateness_ms:
            print(f"sent late by: p50 {result.lateness_ms['p50']:.3f} ms, p99 {result.lateness_ms['p99']:.3f} ms")
    if options.plot is not None:
        plot(histogram, f"{options.procedure}: {result.calls_a_second:,.0f} calls/s", options.plot)
    if set(result.outcomes) != {"OK"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
