"""One process of bare clients under load: a number of calls in flight (closed loop) or a rate (open loop).

    python -m tests.services.load ADDRESS PROCEDURE --argument 0.01 --in-flight 16 --connections 4 --seconds 10

It stops after `--calls` or `--seconds`, or when standard input is closed. Then it waits for the answers and prints the
outcomes as JSON. A latency counts from when the call should have been sent, so a stall shows in every call it delays.
"""

import argparse
import json
import select
import sys
import time
from collections import defaultdict
from typing import Any

from bench.calls import Calls, read_body
from zmtp.dealer import Dealer

POLL_MS = 1
LAST = ("OK", "ERR", "STREAM_DONE")


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.calls = Calls(options.address, options.connections, options.procedure, json.loads(options.argument))
        self.latencies_s: dict[str, list[float]] = defaultdict(list)
        self.value_latencies_s: dict[str, list[float]] = defaultdict(list)
        self.lateness_s: list[float] = []  # how much later than planned each call was sent
        self.unasked = 0  # last events of calls that are not open: second answers

    def send(self, dealer: Dealer, due_s: float) -> None:
        self.lateness_s.append(time.monotonic() - due_s)
        self.calls.call(dealer, due_s)

    def receive(self, wait_ms: int) -> list[Dealer]:
        """Take the answers that have arrived, and return the connection of each."""
        answered = []
        for dealer, answers in self.calls.answers(wait_ms):
            for message_id, body in answers:
                name, args = read_body(body)
                if name not in LAST:
                    continue
                due_s = self.calls.open.pop(message_id, None)
                if due_s is None:
                    self.unasked += 1
                    continue
                latency_s = time.monotonic() - due_s
                outcome = name if name != "ERR" else args[0]
                self.latencies_s[outcome].append(latency_s)
                if name == "OK" and isinstance(args[0], int):
                    self.value_latencies_s[str(args[0])].append(latency_s)
                answered.append(dealer)
        return answered

    def run(self, options: argparse.Namespace) -> None:
        started_s = time.monotonic()

        def is_over() -> bool:
            if options.calls is not None:
                return bool(self.calls.made >= options.calls)
            if options.seconds is not None:
                return bool(time.monotonic() - started_s >= options.seconds)
            return bool(select.select([sys.stdin], [], [], 0)[0])

        for i in range(min(options.in_flight, options.calls or options.in_flight)):
            self.send(self.calls.dealers[i % len(self.calls.dealers)], time.monotonic())
        while not is_over():
            for dealer in self.receive(POLL_MS):
                if options.rate is None and not is_over():
                    self.send(dealer, time.monotonic())
            if options.rate is not None:
                while (due_s := started_s + self.calls.made / options.rate) <= time.monotonic() and not is_over():
                    self.send(self.calls.dealers[self.calls.made % len(self.calls.dealers)], due_s)
        self.took_s = time.monotonic() - started_s
        self.receive(0)  # sends what is still buffered
        patience_s = time.monotonic() + options.patience
        while self.calls.open and time.monotonic() < patience_s:
            self.receive(100)


def _summary(latencies_s: list[float]) -> dict[str, float]:
    ordered = sorted(latencies_s)
    return {
        "count": len(ordered),
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
        "max_ms": 1000 * ordered[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("procedure")
    parser.add_argument("--argument", default="null")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--calls", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--patience", type=float, default=60)
    options = parser.parse_args()
    load = Load(options)
    load.run(options)
    result: dict[str, Any] = {
        "sent": load.calls.made,
        "unanswered": len(load.calls.open),
        "unasked": load.unasked,
        "took_s": load.took_s,
        "lateness": _summary(load.lateness_s),
        "outcomes": {outcome: _summary(latencies) for outcome, latencies in load.latencies_s.items()},
        "by_value": {value: _summary(latencies) for value, latencies in load.value_latencies_s.items()},
    }
    print(json.dumps(result), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
