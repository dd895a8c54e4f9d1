"""`make restart`: restarts the workers one at a time, each ready before the next goes, so that no call is lost."""

import time

from scripts import interrupts, supervision, waiting
from scripts.cluster_settings import LOGS, ClusterSettings, cluster_settings, fail


def main() -> None:
    """Restart every worker."""
    interrupts.explain(lambda: "the worker that was being restarted comes back by itself; the others run on")
    settings = cluster_settings()
    names = [one["name"] for one in supervision.processes() if one["group"] == "worker"]
    if not names:
        fail("the cluster is not running; start it with make up")
    if len(names) == 1:
        print("there is one worker only: calls wait until it is back, at most BROKER_NO_WORKER_GRACE_S")
    for position, name in enumerate(names, start=1):
        print(f"restarting {name} ({position} of {len(names)})", flush=True)
        supervision.restart(f"worker:{name}")
        _wait_until_ready(settings, name)
    print("all workers were restarted")


def _wait_until_ready(settings: ClusterSettings, name: str) -> None:
    patience = waiting.Patience(settings.loading_timeout_s)
    said = False
    while True:
        (process,) = [one for one in supervision.processes() if one["name"] == name]
        if process["statename"] in ("EXITED", "FATAL", "STOPPED"):
            fail(f"{name} ended; see {LOGS / name}.log. The other workers still run")
        is_ready, is_loading = _state(settings.broker.http, process["pid"])
        if is_ready:
            return
        is_loading = is_loading or waiting.is_loading(settings, name)
        if is_loading and not said:
            said = True
            print(f"waiting: {name} is loading its models", flush=True)
        if patience.is_over(is_loading=is_loading):
            fail(
                f"{name} is not ready after {patience.waited_s:.0f} s; see {LOGS / name}.log. "
                "The other workers still run"
            )
        time.sleep(waiting.POLL_S)


def _state(http: str, pid: int) -> tuple[bool, bool]:
    """Whether the worker with that pid is ready, and whether the broker has it load models."""
    try:
        ours = [one for one in waiting.broker_workers(http) if one["pid"] == pid]
    except OSError as error:
        fail(f"the broker does not answer at http://{http}: {error}")
    is_loading = any(one["loading"] for one in ours)
    return any(one["state"] == "ready" for one in ours) and not is_loading, is_loading


if __name__ == "__main__":
    main()
