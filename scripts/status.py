"""`make status`: what each process does, as supervisor and the broker see it."""

import sys
import urllib.error
from typing import Any

from cluster.runtime.local_http import read_page
from scripts import interrupts, leftovers, supervision, waiting
from scripts.cluster_settings import ClusterSettings, cluster_settings, fail

_RUNS = ("RUNNING", "STARTING")
_HEAD = ("process", "pid", "state", "models", "in flight", "up for")


def main() -> None:
    """Print a line for each process; the exit code is 1 if one has ended or keeps ending."""
    interrupts.explain(lambda: "nothing was changed")
    processes = supervision.processes()
    if not processes:
        if left := leftovers.find():
            fail(
                f"supervisord has died, and {leftovers.describe(left)} still serve: nothing restarts them; make down "
                "stops them, after their calls have ended, and make up starts anew"
            )
        fail("the cluster is not running; start it with make up")
    settings = cluster_settings()
    registered = _registered(settings.broker.http)
    by_pid = {one["pid"]: one for one in registered if one["pid"]}
    lines = [_HEAD, *(_line(settings, process, by_pid) for process in processes)]
    lines += [_server_line(one) for one in registered if one["kind"] == "server"]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    sys.exit(any(process["statename"] not in _RUNS for process in processes))


def _registered(http: str) -> list[dict[str, Any]]:
    """The broker's rows of workers and stock servers; none if it does not answer."""
    try:
        return waiting.broker_workers(http)
    except OSError:
        return []


def _server_line(row: dict[str, Any]) -> tuple[str, ...]:
    """The line of a stock server, which is no process of the cluster."""
    up_for = _duration(int(row["uptime_s"]))
    return row["id"], "", f"{row['state']}, a server at {row['host']}", row["service"], str(row["in_flight"]), up_for


def _line(settings: ClusterSettings, process: dict[str, Any], registered: dict[int, dict[str, Any]]) -> tuple[str, ...]:
    name, pid = process["name"], process["pid"]
    if process["statename"] not in _RUNS or not pid:
        return name, str(pid or ""), process["statename"].lower(), "", "", process["description"]
    up_for = _duration(process["now"] - process["start"])
    if process["group"] == "broker":
        return name, str(pid), _page(settings.broker.http), "", "", up_for
    row = registered.get(pid)
    if row is None:
        return name, str(pid), _page(settings.worker_address(name)).removeprefix("this worker is "), "", "", up_for
    state = f"loading {', '.join(row['loading'])}" if row["loading"] else row["state"]
    return name, str(pid), state, ", ".join(row["models"]), str(row["in_flight"]), up_for


def _page(address: str) -> str:
    """What a process says of itself at `/readyz`."""
    try:
        return read_page(address, "/readyz").decode().strip()
    except urllib.error.HTTPError as error:
        return error.read().decode().strip()
    except OSError:
        return "starting"


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


if __name__ == "__main__":
    main()
