"""An honest client: a stock zerorpc client in a process of its own, with 8 greenlets that call the iris model.

    python -m tests.faults.attacks.honest ADDRESS [CLIENT.key_secret BROKER.key]

It calls until standard input is closed. Then it prints, as JSON, how many calls succeeded, the longest of them in
seconds, and the failures by name.
"""

import json
import sys
import time
from collections import Counter

import gevent
import zerorpc
from gevent.fileobject import FileObject

from scripts.zerorpc_curve import CurveContext

GREENLETS = 8
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def main(address: str, *keys: str) -> None:
    client = zerorpc.Client(address, timeout=60, context=CurveContext(*keys) if keys else None)
    latencies_s: list[float] = []
    failures: Counter[str] = Counter()
    is_over = False

    def call_until_over() -> None:
        while not is_over:
            started_s = time.monotonic()
            try:
                client.iris_model_predict(FLOWER)
            except Exception as error:
                failures[getattr(error, "name", type(error).__name__)] += 1
            else:
                latencies_s.append(time.monotonic() - started_s)

    client.iris_model_predict(FLOWER)
    callers = [gevent.spawn(call_until_over) for _ in range(GREENLETS)]
    print("calling", flush=True)  # noqa: T201
    FileObject(sys.stdin.fileno()).read()
    is_over = True
    gevent.joinall(callers)
    result = {"calls": len(latencies_s), "longest_s": max(latencies_s, default=0.0), "failures": failures}
    print(json.dumps(result), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
