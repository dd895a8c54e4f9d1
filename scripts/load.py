"""Puts load on a ZeroRPC service, and tells how fast it answers. Every answer is checked.

    python scripts/load.py                                        16 calls in flight, for 10 s
    python scripts/load.py --in-flight 64 --connections 8         a closed loop: a call as soon as one is answered
    python scripts/load.py --rate 500 --seconds 60                an open loop: so many calls a second, come what may

A procedure may answer with a stream, which is read as fast as it comes, and counts as one call that ends with its end.

In a closed loop a latency counts from when the call was sent. In an open loop it counts from when it should have been
sent, so a stall is seen by all the calls that it delays.
"""

import argparse
import json
import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from calling import DEFAULT_ADDRESS, FLOWER

sys.path.append(str(Path(__file__).resolve().parents[1]))  # it is run by its path

from bench.calls import Calls, read
from zmtp.dealer import Dealer
from zmtp.errors import PeerError

try:
    from hdrh.histogram import HdrHistogram
    from tqdm import tqdm
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: make bench-tools installs it")

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

HIGHEST_US = 600_000_000
"""Longest latency that the histogram can hold, in microseconds."""

DIGITS = 3
"""Decimal digits to which the histogram keeps a latency."""

FIRST_ANSWER_S = 10.0
"""How long the first call, which is made alone, may take, in seconds."""

LAST_ANSWERS_S = 30.0
"""How long the answers may take that are still to come when the time is over, in seconds."""

STREAM_SLOTS = 100
"""For how many items of a stream there is room, as in a stock Python client."""

POLL_MS = 50


@dataclass
class Result:
    """What became of the calls.

    Attributes:
        calls: how many were made in the measured time.
        seconds: how long that was.
        calls_a_second: how many were answered rightly in each of these seconds.
        outcomes: how many ended how: "OK", or the name of the error, or "wrong", "unanswered", "unasked".
        latency_ms: by percentile, with "mean" and "max".
        lateness_ms: how much later than it should a call was sent, by percentile; of an open loop.
    """

    calls: int
    seconds: float
    calls_a_second: float
    outcomes: dict[str, int]
    latency_ms: dict[str, float]
    lateness_ms: dict[str, float] = field(default_factory=dict)


class CallError(Exception):
    """A call was answered with an error, which the text is."""


class Load:
    """What a load does, and what has become of its calls so far."""

    def __init__(self, address: str, connections: int, procedure: str, argument: Any) -> None:
        """Connect.

        Raises:
            ValueError: if the address is none.
            OSError: if its host is not known.
        """
        self._calls = Calls(address, connections, procedure, argument)
        self._items: dict[bytes, list[Any]] = {}  # of the open streams, so far
        self._right: set[bytes] = set()  # bytes of answers that were compared and found right
        self._expected: Any = None
        self.latencies_s = array("d")
        self.lateness_s = array("d")
        self.outcomes: Counter[str] = Counter()

    def first_answer(self) -> Any:
        """Make one call alone, and return its result, which all others must have; of a stream the list of its items.

        Raises:
            TimeoutError: if there is no answer.
            CallError: if it is an error.
            PeerError: if it cannot be read.
        """
        self._calls.call(self._calls.dealers[0], time.perf_counter())
        until_s = time.perf_counter() + FIRST_ANSWER_S
        while time.perf_counter() < until_s:
            for dealer, answers in self._calls.answers(POLL_MS):
                for message_id, body in answers:
                    name, arguments = read(body)
                    if name == "ERR":
                        raise CallError(f"{arguments[0]}: {arguments[1]}")
                    if name == "STREAM":
                        self._keep(dealer, message_id, arguments)
                    elif name in ("OK", "STREAM_DONE"):
                        self._calls.open.clear()
                        return arguments[0] if name == "OK" else self._items.pop(message_id, [])
        raise TimeoutError(f"no answer in {FIRST_ANSWER_S:g} s")

    def expect(self, result: Any) -> None:
        """What every call must be answered."""
        self._expected = result

    def run(self, seconds: float, in_flight: int, rate: float | None, bar: Any) -> float:
        """Call for so many seconds; return how many it were in the end.

        Args:
            seconds: how long.
            in_flight: how many calls to keep open, unless `rate` is given.
            rate: how many to make a second.
            bar: is told now and then how many seconds have passed.
        """
        started_s = shown_s = now_s = time.perf_counter()
        until_s = started_s + seconds
        made = 0
        call, dealers = self._calls.call, self._calls.dealers
        if rate is None:
            for i in range(in_flight):
                call(dealers[i % len(dealers)], now_s)
        while now_s < until_s:
            answered = self._receive(POLL_MS if rate is None else 1)
            now_s = time.perf_counter()
            if rate is None:
                for dealer in answered:
                    call(dealer, now_s)
            else:
                while (due_s := started_s + made / rate) <= now_s and due_s < until_s:
                    self.lateness_s.append(now_s - due_s)
                    call(dealers[made % len(dealers)], due_s)
                    made += 1
            if now_s - shown_s >= 0.5:
                bar.set_postfix_str(f"{self.outcomes['OK'] / (now_s - started_s):,.0f} calls/s", refresh=False)
                bar.update(now_s - shown_s)
                shown_s = now_s
        took_s = now_s - started_s
        bar.update(now_s - shown_s)
        return took_s

    def forget(self) -> None:
        """Wait for the answers that are still to come, and count anew from here on."""
        self.finish()
        self.latencies_s = array("d")
        self.lateness_s = array("d")
        self.outcomes.clear()

    def finish(self) -> None:
        """Wait for the answers that are still to come."""
        until_s = time.perf_counter() + LAST_ANSWERS_S
        while self._calls.open and time.perf_counter() < until_s:
            self._receive(POLL_MS)
        if self._calls.open:
            self.outcomes["unanswered"] += len(self._calls.open)
            self._calls.open.clear()

    def _receive(self, wait_ms: int) -> list[Dealer]:
        """Take the answers that have come; a connection is named once for each."""
        answered = []
        for dealer, answers in self._calls.answers(wait_ms):
            now_s = time.perf_counter()
            for message_id, body in answers:
                outcome = self._judge(dealer, message_id, body)
                if outcome is None:
                    continue
                due_s = self._calls.open.pop(message_id, None)
                if due_s is None:
                    self.outcomes["unasked"] += 1
                    continue
                self.outcomes[outcome] += 1
                self.latencies_s.append(now_s - due_s)
                answered.append(dealer)
        return answered

    def _keep(self, dealer: Dealer, message_id: bytes, item: Any) -> None:
        """An item of a stream: there is room for another."""
        items = self._items.setdefault(message_id, [])
        items.append(item)
        if len(items) == 1:
            self._calls.more(dealer, message_id, STREAM_SLOTS)
        elif len(items) % (STREAM_SLOTS // 2) == 0:
            self._calls.more(dealer, message_id, STREAM_SLOTS // 2)

    def _judge(self, dealer: Dealer, message_id: bytes, body: bytes) -> str | None:
        """How the call ended; None for what is not its end."""
        if body in self._right:
            return "OK"
        name, arguments = read(body)
        if name == "STREAM":
            self._keep(dealer, message_id, arguments)
            return None
        if name == "_zpc_hb":
            return None
        if name == "STREAM_DONE":
            return "OK" if self._items.pop(message_id, []) == self._expected else "wrong"
        if name != "OK":
            return str(arguments[0]) if name == "ERR" else str(name)
        if arguments[0] != self._expected:
            return "wrong"
        if len(self._right) < 1000 and len(body) < 100_000:
            self._right.add(body)
        return "OK"


def percentiles_ms(values_s: "array[float]") -> tuple[HdrHistogram, dict[str, float]]:
    """The histogram of those times, and what is shown of it."""
    histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
    for value_s in values_s:
        histogram.record_value(min(max(round(value_s * 1e6), 1), HIGHEST_US))
    shown = {f"p{percentile:g}": histogram.get_value_at_percentile(percentile) / 1000 for percentile in PERCENTILES}
    return histogram, {**shown, "mean": histogram.get_mean_value() / 1000, "max": histogram.get_max_value() / 1000}


def plot(histogram: HdrHistogram, title: str, path: Path) -> None:
    """Draw the latency by percentile."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    percentiles = [100 - 10 ** (2 - nines / 20) for nines in range(81)]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(
        [1 / (1 - percentile / 100) for percentile in percentiles],
        [histogram.get_value_at_percentile(percentile) / 1000 for percentile in percentiles],
    )
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 10, 100, 1000, 10_000], ["0", "50", "90", "99", "99.9", "99.99"])
    axes.set(xlabel="percentile of calls", ylabel="latency (ms)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.savefig(path)
    plt.close(figure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="of the service (default: %(default)s)")
    parser.add_argument("--procedure", default="iris_model_predict", help="what to call (default: %(default)s)")
    parser.add_argument("--data", default=FLOWER, metavar="JSON", help="its argument (default: %(default)s)")
    parser.add_argument("--data-bytes", type=int, metavar="N", help="its argument: so many bytes")
    parser.add_argument("--expect", metavar="JSON", help="what each call must return (default: what the first does)")
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="calls kept open (default: %(default)s)")
    parser.add_argument("--rate", type=float, metavar="R", help="calls a second, instead of --in-flight")
    parser.add_argument("--connections", type=int, metavar="C", help="default: 8, or as many as --in-flight if less")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=1.0, metavar="S", help="before that (default: %(default)s)")
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


def measure(options: argparse.Namespace) -> tuple[Result, HdrHistogram]:
    """Put load on the service as the options say; ends the program where it cannot be reached."""
    try:
        load = Load(options.address, options.connections, options.procedure, options.data)
        answer = load.first_answer()
    except TimeoutError as error:
        sys.exit(f"error: {options.address}: {error}; is the cluster running? Start it with make up")
    except (ValueError, OSError, PeerError) as error:
        sys.exit(f"error: cannot connect to {options.address!r}: {error}")
    except CallError as error:
        sys.exit(f"error: {options.procedure} answered {error}")
    load.expect(answer if options.expect is None else options.expect)
    what = f"{options.rate:g} calls/s" if options.rate is not None else f"{options.in_flight} in flight"
    total_s = options.warm_up + options.seconds
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
    with tqdm(total=total_s, desc=what, bar_format=form, disable=None, leave=False) as bar:
        if options.warm_up > 0:
            load.run(options.warm_up, options.in_flight, options.rate, bar)
            load.forget()
        took_s = load.run(options.seconds, options.in_flight, options.rate, bar)
        answered = load.outcomes["OK"]
        load.finish()
    histogram, latency_ms = percentiles_ms(load.latencies_s)
    _, lateness_ms = percentiles_ms(load.lateness_s)
    result = Result(
        load.outcomes.total(),
        took_s,
        answered / took_s,
        dict(load.outcomes),
        latency_ms,
        lateness_ms if options.rate is not None else {},
    )
    return result, histogram


def main() -> None:
    """Put load on a service; the exit code is 1 if a call was not answered rightly."""
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
