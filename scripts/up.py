"""`make up`: starts the cluster, waits until every process is ready, and makes one prediction through the broker."""

import json
import sys
import time
import urllib.error
import urllib.request

import zerorpc

from scripts import supervision

READY_TIMEOUT_S = 60.0
_POLL_S = 0.2
_FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def main() -> None:
    """Start, wait, predict, print."""
    broker, worker, workers = supervision.settings()
    if supervision.is_running():
        print("the cluster is running already; to change WORKERS or a setting, run make down first")
    else:
        print(f"starting the broker and {workers} worker(s)", flush=True)
        supervision.start(worker, workers)
    _wait_until_ready(broker.http, workers)

    address = broker.frontend.replace("0.0.0.0", "127.0.0.1")
    client = zerorpc.Client(address)
    names = [model["qualified_name"] for model in client.get_models()]
    print(f"models:     {', '.join(names)}")
    if "iris_model" in names:
        print(f"prediction: iris_model_predict({json.dumps(_FLOWER)})")
        print(client.iris_model_predict(_FLOWER))
    client.close()
    print(f"\nclients:    {address}   (try: {sys.prefix}/bin/zerorpc {address})")
    print(f"workers:    {broker.backend}")
    print(f"metrics:    http://{broker.http}/metrics, workers at http://{broker.http}/workers")


def _wait_until_ready(http: str, workers: int) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    said = ""
    while True:
        waiting_for = _what_is_missing(http, workers)
        if not waiting_for:
            return
        if waiting_for != said:
            said = waiting_for
            print(f"waiting: {said}", flush=True)
        ended = _ended()
        if ended or time.monotonic() > deadline_s:
            print(supervision.last_log_lines(15))
            supervision.fail(ended or f"not ready after {READY_TIMEOUT_S:g} s: {waiting_for}; the logs are above")
        time.sleep(_POLL_S)


def _what_is_missing(http: str, workers: int) -> str:
    try:
        ready = sum(one["state"] == "ready" for one in json.loads(_get(http, "/workers")))
        if ready < workers:
            return f"{ready} of {workers} worker(s) ready"
        _get(http, "/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode().strip()
    except OSError as error:
        return f"the broker does not answer at http://{http} ({getattr(error, 'reason', error)})"
    return ""


def _get(http: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{http}{path}", timeout=5) as response:
        body: bytes = response.read()
    return body


def _ended() -> str:
    """Which processes supervisor has given up, in a sentence; empty if none."""
    lines = [line.split() for line in supervision.control("status").stdout.splitlines()]
    names = [fields[0] for fields in lines if len(fields) > 1 and fields[1] in ("EXITED", "FATAL")]
    return f"{', '.join(names)} ended and will not be started again; the logs are above" if names else ""


if __name__ == "__main__":
    main()
