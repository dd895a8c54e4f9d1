"""`make restart`: restarts the workers one at a time, each ready before the next goes, so that no call is lost."""

import json
import time
import urllib.request

from scripts import supervision

READY_TIMEOUT_S = 60.0
_POLL_S = 0.2


def main() -> None:
    """Restart every worker."""
    settings = supervision.cluster_settings()
    names = [one["name"] for one in supervision.processes() if one["group"] == "worker"]
    if not names:
        supervision.fail("the cluster is not running; start it with make up")
    if len(names) == 1:
        print("there is one worker only: calls wait until it is back, at most BROKER_NO_WORKER_GRACE_S")
    for position, name in enumerate(names, start=1):
        print(f"restarting {name} ({position} of {len(names)})", flush=True)
        supervision.restart(f"worker:{name}")
        _wait_until_ready(settings.broker.http, name)
    print("all workers were restarted")


def _wait_until_ready(http: str, name: str) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        (process,) = [one for one in supervision.processes() if one["name"] == name]
        if process["pid"] and process["pid"] in _ready_pids(http):
            return
        if process["statename"] in ("EXITED", "FATAL", "STOPPED"):
            supervision.fail(f"{name} ended; see {supervision.LOGS / name}.log. The other workers still run")
        if time.monotonic() > deadline_s:
            supervision.fail(f"{name} is not ready after {READY_TIMEOUT_S:g} s. The other workers still run")
        time.sleep(_POLL_S)


def _ready_pids(http: str) -> set[int]:
    try:
        with urllib.request.urlopen(f"http://{http}/workers", timeout=5) as response:
            return {one["pid"] for one in json.load(response) if one["state"] == "ready" and not one["loading"]}
    except OSError as error:
        supervision.fail(f"the broker does not answer at http://{http}: {error}")


if __name__ == "__main__":
    main()
