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
from scripts.supervision import ClusterSettings, LogMark

READY_TIMEOUT_S = 60.0
_POLL_S = 0.2
_LOG_LINES = 15
_FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def main() -> None:
    """Start, wait, predict, print."""
    settings = supervision.cluster_settings()
    mark = LogMark()
    running = sum(process["group"] == "worker" for process in supervision.processes())
    if running:
        if "WORKERS" in os.environ and running != settings.workers:
            supervision.fail(
                f"the cluster runs already, with {running} worker(s), not {settings.workers}: run make down first"
            )
        print("the cluster is running already; to change a setting, run make down first")
    else:
        print(f"starting the broker and {settings.workers} worker(s)", flush=True)
        supervision.start(settings)
    _wait_until_ready(settings, mark, started_here=not running)
    _show(settings)


def _wait_until_ready(settings: ClusterSettings, mark: LogMark, *, started_here: bool) -> None:
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
        waiting_for = _missing(settings.broker.http)
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


def _missing(http: str) -> str:
    """Return what is not ready yet, in words; empty if everything is ready."""
    ours = supervision.processes()
    # By pid, because another cluster's broker may listen on the same port.
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


def _show(settings: ClusterSettings) -> None:
    address = connect_address(settings.broker.frontend)
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
    print(f"workers:    {settings.broker.backend}")
    print(f"metrics:    http://{settings.broker.http}/metrics, workers at http://{settings.broker.http}/workers")


if __name__ == "__main__":
    main()
