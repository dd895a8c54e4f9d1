"""`make up`: starts the cluster, waits until every process is ready, and makes one prediction through the broker."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import zerorpc

from cluster.runtime.settings import connect_address
from scripts import supervision
from scripts.supervision import LogMark, Plan

READY_TIMEOUT_S = 60.0
_POLL_S = 0.2
_LOG_LINES = 15
_FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def main() -> None:
    """Start, wait, predict, print."""
    plan = supervision.plan()
    mark = LogMark()
    running = sum(process["group"] == "worker" for process in supervision.processes())
    if running:
        if "WORKERS" in os.environ and running != plan.workers:
            supervision.fail(
                f"the cluster runs already, with {running} worker(s), not {plan.workers}: run make down first"
            )
        print("the cluster is running already; to change a setting, run make down first")
    else:
        print(f"starting the broker and {plan.workers} worker(s)", flush=True)
        supervision.start(plan)
    _wait_until_ready(plan, mark, started_here=not running)
    _show(plan)


def _wait_until_ready(plan: Plan, mark: LogMark, *, started_here: bool) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    said = ""
    while True:
        ended = [one["name"] for one in supervision.processes() if one["statename"] in ("EXITED", "FATAL", "STOPPED")]
        if ended:
            if started_here:
                supervision.stop()
            print(mark.since(ended, _LOG_LINES))
            way_out = "everything was stopped again" if started_here else "run make down, then make up"
            supervision.fail(f"{', '.join(ended)} ended; the log is above; {way_out}")
        waiting_for = _what_is_missing(plan.broker.http)
        if not waiting_for:
            return
        if waiting_for != said:
            said = waiting_for
            print(f"waiting: {said}", flush=True)
        if time.monotonic() > deadline_s:
            print(mark.since([one["name"] for one in supervision.processes()], _LOG_LINES))
            supervision.fail(
                f"not ready after {READY_TIMEOUT_S:g} s: {waiting_for}; the logs are above. "
                "It goes on trying: make status shows how far it is, make down stops it"
            )
        time.sleep(_POLL_S)


def _what_is_missing(http: str) -> str:
    """What is not ready yet, in words; empty if all is."""
    ours = supervision.processes()
    # By their pids, lest another cluster's broker on the same port be taken for this one's.
    workers = {one["pid"] for one in ours if one["group"] == "worker"}
    if not ours or not all(one["pid"] for one in ours):
        return "the processes start"
    try:
        ready = {one["pid"] for one in json.loads(_get(http, "/workers")) if one["state"] == "ready"}
        if not workers <= ready:
            return f"{len(workers & ready)} of {len(workers)} worker(s) ready"
        _get(http, "/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode().strip()
    except OSError as error:
        if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
            return "the processes start"
        return f"the broker does not answer at http://{http} ({getattr(error, 'reason', error)})"
    return ""


def _get(http: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{http}{path}", timeout=5) as response:
        body: bytes = response.read()
    return body


def _show(plan: Plan) -> None:
    address = connect_address(plan.broker.frontend)
    client = zerorpc.Client(address)
    try:
        names = [model["qualified_name"] for model in client.get_models()]
        print(f"models:     {', '.join(names)}")
        if "iris_model" in names:
            print(f"prediction: iris_model_predict({json.dumps(_FLOWER)})")
            print(client.iris_model_predict(_FLOWER))
    except (zerorpc.RemoteError, zerorpc.TimeoutExpired, zerorpc.LostRemote) as error:
        supervision.fail(f"the cluster runs, and a call to {address} failed: {error}")
    finally:
        client.close()
    command = Path(os.path.relpath(sys.prefix)) / "bin" / "zerorpc"
    print(f"\nclients:    {address}   (try: {command} {address})")
    print(f"workers:    {plan.broker.backend}")
    print(f"metrics:    http://{plan.broker.http}/metrics, workers at http://{plan.broker.http}/workers")


if __name__ == "__main__":
    main()
