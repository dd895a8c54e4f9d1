"""One client process: predicts the rows of the iris data in turn, and counts the wrong answers.

    python -m tests.services.predict_many ADDRESS CALLS

It reads the expected species from standard input as JSON, in the order of the data, and prints the result as JSON.
"""

import json
import sys
from typing import Any

import gevent.pool
import zerorpc
from sklearn.datasets import load_iris

FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
CONCURRENCY = 8


def main(address: str, calls: int) -> None:
    expected = json.load(sys.stdin)
    rows = [dict(zip(FIELDS, map(float, row), strict=True)) for row in load_iris().data]
    client: Any = zerorpc.Client(address, timeout=120)
    client.get_models()

    def wrong(i: int) -> bool:
        answer = client.iris_model_predict(rows[i % len(rows)])
        return bool(answer != {"species": expected[i % len(rows)]})

    pool = gevent.pool.Pool(CONCURRENCY)
    count = sum(pool.imap_unordered(wrong, range(calls)))
    print(json.dumps({"calls": calls, "wrong": count}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
