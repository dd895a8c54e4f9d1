"""`make up`: starts the cluster, waits until every process is ready, and makes one prediction through the broker."""

import json
import os
import sys
import time
import urllib.error
from collections import defaultdict
from pathlib import Path

import zerorpc

from cluster.runtime import compiled
from cluster.runtime.local_http import read_page
from cluster.runtime.settings import connect_address
from scripts import compile_core, interrupts, leftovers, ports, secure, supervision, waiting
from scripts.calling import new_client
from scripts.cluster_settings import ClusterSettings, check_open_files, cluster_settings, fail, make_folder
from scripts.supervision import LogMark
from scripts.zerorpc_curve import SECRET_VARIABLE, SERVER_VARIABLE

_LOG_LINES = 15
_TRACEBACK_LINES = 200
_FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def main() -> None:
    """Start, wait, predict, print."""
    interrupts.explain(_what_runs)
    if _is_wanted("SECURE") or secure.is_in_use():
        secure.use_keys()
    settings = cluster_settings()
    mark = LogMark()
    running = sum(process["group"] == "worker" for process in supervision.processes())
    if running:
        is_compiled = supervision.is_compiled()
        if "COMPILED" in os.environ and _is_wanted("COMPILED") != is_compiled:
            how = "with" if is_compiled else "without"
            fail(f"the cluster runs already, {how} the compiled core: run make down first")
        if "WORKERS" in os.environ and running != settings.workers:
            fail(f"the cluster runs already, with {running} worker(s), not {settings.workers}: run make down first")
        print("the cluster is running already; to change a setting, run make down first")
    else:
        if _is_wanted("COMPILED"):
            os.environ[compiled.VARIABLE] = str(compile_core.compile_core())
        if left := leftovers.find():
            fail(f"supervisord has died, and {leftovers.describe(left)} still serve: run make down first")
        check_open_files(settings)
        if "WORKER_HTTP" not in os.environ:
            settings = ports.with_free_worker_ports(settings)
        ports.check_free(settings)
        make_folder()
        print(f"starting the broker and {settings.workers} worker(s)", flush=True)
        supervision.start(settings)
    _wait_until_ready(settings, mark, started_here=not running)
    _, _, remark = read_page(settings.broker.http, "/readyz").decode().strip().partition("; ")
    if remark:
        print(f"note:       {remark} (scripts/models.py list says how to bring it back)")
    _show(settings)


def _is_wanted(variable: str) -> bool:
    return os.environ.get(variable) not in (None, "", "0")


def _what_runs() -> str:
    ours = supervision.processes()
    if not ours:
        return "nothing was started"
    return (
        f"the cluster goes on starting, with {len(ours)} processes; make status shows how far it is, make up waits "
        "for it, make down stops it"
    )


def _wait_until_ready(settings: ClusterSettings, mark: LogMark, *, started_here: bool) -> None:
    patience = waiting.Patience(settings.loading_timeout_s)
    said = ""
    pids: defaultdict[str, set[int]] = defaultdict(set)  # of each worker; one that has failed has had several, or is 0
    while True:
        ours = supervision.processes()
        for one in ours:
            if one["group"] == "worker" and one["statename"] != "STOPPED":
                pids[one["name"]].add(one["pid"])
        if started_here and pids and all(len(had) > 1 for had in pids.values()):
            first = min(pids)
            print(mark.since([first], _TRACEBACK_LINES))
            supervision.stop()
            fail(f"no worker could load its models; the log of {first} is above; everything was stopped again")
        ended = [one["name"] for one in ours if one["statename"] in ("EXITED", "FATAL", "STOPPED")]
        if ended:
            if started_here:
                supervision.stop()
            print(mark.since(ended, _LOG_LINES))
            way_out = "everything was stopped again" if started_here else "run make down, then make up"
            fail(f"{', '.join(ended)} ended; the log is above; {way_out}")
        waiting_for = _missing(settings.broker.http)
        if not waiting_for:
            return
        loading = sum(one["group"] == "worker" and waiting.is_loading(settings, one["name"]) for one in ours)
        if loading:
            waiting_for = f"{waiting_for}, {loading} loading"
        if waiting_for != said:
            said = waiting_for
            print(f"waiting: {said}", flush=True)
        if patience.is_over(is_loading=loading > 0):
            print(mark.since([one["name"] for one in ours], _LOG_LINES))
            fail(
                f"not ready after {patience.waited_s:.0f} s: {waiting_for}; the logs are above. "
                "It goes on trying: make status shows how far it is, make down stops it"
            )
        time.sleep(waiting.POLL_S)


def _missing(http: str) -> str:
    """Return what is not ready yet, in words; empty if everything is ready."""
    ours = supervision.processes()
    # By pid, because another cluster's broker may listen on the same port.
    workers = {one["pid"] for one in ours if one["group"] == "worker"}
    if not ours or not all(one["pid"] for one in ours):
        return "the processes start"
    try:
        ready = {one["pid"] for one in waiting.broker_workers(http) if one["state"] == "ready"}
        if not workers <= ready:
            return f"{len(workers & ready)} of {len(workers)} worker(s) ready"
        read_page(http, "/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode().strip()
    except OSError as error:
        if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
            return "the processes start"
        return f"the broker does not answer at http://{http} ({getattr(error, 'reason', error)})"
    return ""


def _show(settings: ClusterSettings) -> None:
    address = connect_address(settings.broker.frontend)
    client = new_client(address)
    try:
        names = [model["qualified_name"] for model in client.get_models()]
        print(f"models:     {', '.join(names)}")
        if "iris_model" in names:
            print(f"prediction: iris_model_predict({json.dumps(_FLOWER)})")
            print(client.iris_model_predict(_FLOWER))
    except (zerorpc.RemoteError, zerorpc.TimeoutExpired, zerorpc.LostRemote) as error:
        fail(f"the cluster runs, and a call to {address} failed: {error}")
    finally:
        client.close()
    command = str(Path(os.path.relpath(sys.prefix)) / "bin" / "zerorpc")
    if SECRET_VARIABLE in os.environ:
        keys = " ".join(os.path.relpath(os.environ[name]) for name in (SECRET_VARIABLE, SERVER_VARIABLE))
        command = f"{os.path.relpath(sys.executable)} scripts/zerorpc_curve.py {keys}"
    print(f"\nclients:    {address}   (try: {command} {address})")
    print(f"workers:    {settings.broker.backend}")
    print(f"metrics:    http://{settings.broker.http}/metrics, workers at http://{settings.broker.http}/workers")


if __name__ == "__main__":
    main()
