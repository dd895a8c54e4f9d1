"""One client process: predicts the rows of the iris data in turn, and counts the wrong answers.

    python -m tests.services.predict_many ADDRESS CALLS

It reads pairs of a row and its species from standard input as JSON, and prints the result as JSON.
"""

import json
import sys
from typing import Any

import gevent.pool
import zerorpc

CONCURRENCY = 8


def main(address: str, calls: int) -> None:
    expected = json.load(sys.stdin)
    client: Any = zerorpc.Client(address, timeout=120)
    client.get_models()

    def wrong(i: int) -> bool:
        row, species = expected[i % len(expected)]
        return bool(client.iris_model_predict(row) != {"species": species})

    pool = gevent.pool.Pool(CONCURRENCY)
    count = sum(pool.imap_unordered(wrong, range(calls)))
    print(json.dumps({"calls": calls, "wrong": count}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
