"""Load on a ZeroRPC service: makes calls in a closed or an open loop, checks every answer, and measures latency."""

import argparse
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.calls import Calls, read_body
from cluster.runtime.curve_files import read_public, read_secret
from cluster.runtime.settings import ConfigError
from zmtp.curve import CurveClient
from zmtp.dealer import Dealer
from zmtp.errors import PeerError
from zmtp.mechanism import Mechanism, Null

try:
    from hdrh.histogram import HdrHistogram
    from tqdm import tqdm
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: make bench-tools installs it")

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

HIGHEST_US = 600_000_000
"""Longest latency that the histogram can hold, in microseconds."""

DIGITS = 3
"""Decimal digits of a latency that the histogram keeps."""

FIRST_ANSWER_S = 10.0
"""Time limit of the first call, which is made alone, in seconds."""

LAST_ANSWERS_S = 30.0
"""Time limit of the answers that are outstanding when the measurement ends, in seconds."""

STREAM_SLOTS = 100
"""Slots for the items of a stream, as a stock Python client has them."""

POLL_MS = 50


@dataclass
class Result:
    """The result of a measurement.

    Attributes:
        calls: calls that were made in the measured time.
        seconds: length of that time.
        calls_a_second: calls with the expected answer, per second.
        outcomes: calls by outcome: "OK", the name of the error, "wrong", "unanswered" or "unasked".
        latency_ms: latency in milliseconds, by percentile, with "mean" and "max".
        lateness_ms: how much later than due the calls of an open loop were sent, by percentile.
    """

    calls: int
    seconds: float
    calls_a_second: float
    outcomes: dict[str, int]
    latency_ms: dict[str, float]
    lateness_ms: dict[str, float] = field(default_factory=dict)


class RemoteCallError(Exception):
    """The service answered a call with an error; the text names it."""


class Load:
    """Makes calls and checks their answers.

    Attributes:
        latencies_s: latency of each answered call, in seconds.
        lateness_s: how much later than due each call of an open loop was sent, in seconds.
        outcomes: calls by outcome.
    """

    def __init__(
        self, address: str, connections: int, procedure: str, argument: Any, mechanism: Callable[[], Mechanism]
    ) -> None:
        """Connect; see `Calls`.

        Raises:
            ValueError: if the address is not valid.
            OSError: if its host is not known.
        """
        self._calls = Calls(address, connections, procedure, argument, mechanism)
        self._items: dict[bytes, list[Any]] = {}  # received items of the open streams
        self._right: set[bytes] = set()  # answers that have been compared and are as expected
        self._expected: Any = None
        self.latencies_s = array("d")
        self.lateness_s = array("d")
        self.outcomes: Counter[str] = Counter()

    def first_answer(self) -> Any:
        """Make one call alone, and return its result; of a stream, the list of its items.

        Raises:
            TimeoutError: if the service does not answer.
            RemoteCallError: if it answers with an error.
            PeerError: if its bytes cannot be read.
        """
        self._calls.call(self._calls.dealers[0], time.perf_counter())
        until_s = time.perf_counter() + FIRST_ANSWER_S
        while time.perf_counter() < until_s:
            for dealer, answers in self._calls.answers(POLL_MS):
                for message_id, body in answers:
                    name, arguments = read_body(body)
                    if name == "ERR":
                        raise RemoteCallError(f"{arguments[0]}: {arguments[1]}")
                    if name == "STREAM":
                        self._keep(dealer, message_id, arguments)
                    elif name in ("OK", "STREAM_DONE"):
                        self._calls.open.clear()
                        return arguments[0] if name == "OK" else self._items.pop(message_id, [])
        raise TimeoutError(f"no answer in {FIRST_ANSWER_S:g} s")

    def expect(self, result: Any) -> None:
        """Set the result that every call must have."""
        self._expected = result

    def run(self, seconds: float, in_flight: int, rate: float | None, bar: Any) -> float:
        """Make calls for some time; return how long that took, in seconds.

        Args:
            seconds: length of the measurement.
            in_flight: calls to keep open, unless `rate` is given.
            rate: calls to make per second.
            bar: progress bar, in seconds.
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
        """Wait for the outstanding answers, and reset all counts."""
        self.finish()
        self.latencies_s = array("d")
        self.lateness_s = array("d")
        self.outcomes.clear()

    def finish(self) -> None:
        """Wait for the outstanding answers."""
        until_s = time.perf_counter() + LAST_ANSWERS_S
        while self._calls.open and time.perf_counter() < until_s:
            self._receive(POLL_MS)
        if self._calls.open:
            self.outcomes["unanswered"] += len(self._calls.open)
            self._calls.open.clear()

    def _receive(self, wait_ms: int) -> list[Dealer]:
        """Take the answers that have arrived; return the connection of each."""
        answered = []
        for dealer, answers in self._calls.answers(wait_ms):
            now_s = time.perf_counter()
            for message_id, body in answers:
                outcome = self._outcome_of(dealer, message_id, body)
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
        """Keep an item of a stream, and announce slots for further ones."""
        items = self._items.setdefault(message_id, [])
        items.append(item)
        if len(items) == 1:
            self._calls.announce_slots(dealer, message_id, STREAM_SLOTS)
        elif len(items) % (STREAM_SLOTS // 2) == 0:
            self._calls.announce_slots(dealer, message_id, STREAM_SLOTS // 2)

    def _outcome_of(self, dealer: Dealer, message_id: bytes, body: bytes) -> str | None:
        """Return the outcome of a call; None if the event does not end it."""
        if body in self._right:
            return "OK"
        name, arguments = read_body(body)
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
    """Return the histogram of some times, and its percentiles in milliseconds."""
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


def _mechanism(options: argparse.Namespace) -> Callable[[], Mechanism]:
    """Return the security of each connection; wrong key files end the program."""
    if options.secret is None and options.broker_key is None:
        return Null
    try:
        if options.secret is None or options.broker_key is None:
            raise ConfigError("--secret and --broker-key belong together")
        keys, broker_key = read_secret("--secret", options.secret), read_public("--broker-key", options.broker_key)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    return partial(CurveClient, keys, broker_key)


def measure(options: argparse.Namespace) -> tuple[Result, HdrHistogram]:
    """Run the load that the options describe; end the program if the service cannot be called."""
    try:
        load = Load(options.address, options.connections, options.procedure, options.data, _mechanism(options))
        answer = load.first_answer()
    except TimeoutError as error:
        sys.exit(f"error: {options.address}: {error}; is the cluster running? Start it with make up")
    except (ValueError, OSError, PeerError) as error:
        sys.exit(f"error: cannot connect to {options.address!r}: {error}")
    except RemoteCallError as error:
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
