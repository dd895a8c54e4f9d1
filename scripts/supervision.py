"""Starts, queries and stops supervisord, for the commands of the Makefile."""

import os
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from supervisor.xmlrpc import Faults, SupervisorTransport

from broker.settings import BrokerSettings
from cluster.runtime import logs
from cluster.runtime.settings import ConfigError, connect_address, load_settings, split_host_port
from worker.models.configuration import configured_entries
from worker.models.manager import ModelManager
from worker.settings import WorkerSettings

REPOSITORY = Path(__file__).resolve().parent.parent
RUN = Path(os.environ.get("CLUSTER_RUN") or REPOSITORY / "run").absolute()
"""The folder of the running cluster: sockets, pid file, logs."""

SOCKET = RUN / "supervisor.sock"
LOGS = RUN / "logs"
DEFAULT_WORKERS = 2
STOP_TIMEOUT_S = 60.0
_CONFIGURATION = REPOSITORY / "deploy" / "supervisord.conf"
_MOST_WORKERS = 1000
_LONGEST_SOCKET_PATH = 90  # systems allow 103 or 107 characters; supervisor adds some when it binds
_POLL_S = 0.1


def fail(sentence: str) -> NoReturn:
    """End the command with one sentence and exit code 1."""
    sys.exit(f"error: {sentence}")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The settings of the cluster that `make up` starts."""

    broker: BrokerSettings
    worker: WorkerSettings
    workers: int

    def environment(self) -> dict[str, str]:
        """Return the environment of supervisord, which every process inherits."""
        host, _, port = self.worker.http.rpartition(":")  # an IPv6 address keeps its brackets
        return {
            "BROKER_ADMIN": f"ipc://{RUN}/broker-admin.sock",
            "BROKER_STATE": f"{RUN}/broker-state.json",
            "WORKER_LOADABLE": "*",  # only the user who owns all these processes can reach BROKER_ADMIN
            **os.environ,
            "CLUSTER_RUN": str(RUN),
            "CLUSTER_PYTHON": sys.executable,
            "CLUSTER_WORKER_HOST": host,
            "CLUSTER_WORKER_PORT": port,
            "WORKER_BROKER": self.worker.broker,
            "WORKERS": str(self.workers),
        }


def cluster_settings() -> ClusterSettings:
    """Read and check every setting before anything starts; a wrong one ends the command."""
    # On one machine, the broker's own address gives the workers' address of the broker.
    if "WORKER_BROKER" not in os.environ and "BROKER_BACKEND" in os.environ:
        os.environ["WORKER_BROKER"] = connect_address(os.environ["BROKER_BACKEND"])
    try:
        logs.formatter_from_environment()
        made = ClusterSettings(load_settings(BrokerSettings), load_settings(WorkerSettings), _workers())
        ModelManager(configured_entries(), made.worker.hosted_models())
    except ConfigError as error:
        fail(str(error))
    _, http_port = split_host_port(made.broker.http)
    _, worker_port = split_host_port(made.worker.http)
    if worker_port <= http_port < worker_port + made.workers:
        fail(
            f"WORKER_HTTP={made.worker.http!r} is wrong: the {made.workers} workers take the ports from there on, "
            "and BROKER_HTTP's is among them"
        )
    if len(str(SOCKET)) > _LONGEST_SOCKET_PATH:
        fail(f"CLUSTER_RUN={str(RUN)!r} is too long for a socket in it: choose a shorter path, such as /tmp/cluster")
    return made


def _workers() -> int:
    value = os.environ.get("WORKERS") or str(DEFAULT_WORKERS)
    if not value.isdecimal() or not 1 <= int(value) <= _MOST_WORKERS:
        fail(f"WORKERS={value!r} is wrong: it should be a whole number from 1 to {_MOST_WORKERS}")
    return int(value)


def start(made: ClusterSettings) -> None:
    """Start supervisord in the background, which starts the processes."""
    LOGS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(_CONFIGURATION)]
    result = subprocess.run(command, env=made.environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fail(f"supervisord did not start: {(result.stderr or result.stdout).strip()}")


def _supervisor() -> Any:
    transport = SupervisorTransport(serverurl=f"unix://{SOCKET}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor


def processes() -> list[dict[str, Any]]:
    """Return supervisor's view of each process (`getAllProcessInfo`); empty if it does not run."""
    if not SOCKET.exists():
        return []
    try:
        found: list[dict[str, Any]] = _supervisor().getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return found


def restart(name: str) -> None:
    """Stop one process, which drains first, and start it again; return when it has been started."""
    supervisor = _supervisor()
    try:
        supervisor.stopProcess(name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:  # it has already ended
            raise
    supervisor.startProcess(name, False)


def stop() -> None:
    """Have supervisord stop everything, and wait until it has ended."""
    _supervisor().shutdown()
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while SOCKET.exists():
        if time.monotonic() > deadline_s:
            fail(f"supervisord still runs after {STOP_TIMEOUT_S:g} s; see {LOGS}")
        time.sleep(_POLL_S)


class LogMark:
    """The ends of the logs at one moment: separates later lines from earlier ones."""

    def __init__(self) -> None:
        self._sizes = {path: path.stat().st_size for path in LOGS.glob("*.log")}

    def since(self, names: list[str], lines: int) -> str:
        """Return the last lines that these processes have written since then."""
        parts = []
        for path in (LOGS / f"{name}.log" for name in names):
            if path.exists():
                with path.open(errors="replace") as log:
                    log.seek(self._sizes.get(path, 0))
                    parts.append("\n".join([f"==> {path} <==", *log.read().splitlines()[-lines:]]))
        return "\n\n".join(parts)
