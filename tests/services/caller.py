"""One process with a stock client: calls `sleeper_predict` with each number that it reads from standard input.

    python -m tests.services.caller ADDRESS HEARTBEAT_S

It prints a line for each call: "OK", or the name of the exception.
"""

import sys

import zerorpc


def main(address: str, heartbeat_s: float) -> None:
    client = zerorpc.Client(address, timeout=300, heartbeat=heartbeat_s)
    for line in sys.stdin:
        try:
            client.sleeper_predict(float(line))
            outcome = "OK"
        except Exception as error:
            outcome = type(error).__name__
        print(outcome, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
