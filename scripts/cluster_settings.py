"""The settings of the cluster that `make up` starts: read, checked, and turned into supervisord's environment."""

import math
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from broker.settings import BrokerSettings
from cluster.runtime import logs
from cluster.runtime.settings import ConfigError, connect_address, load_settings, split_host_port
from scripts.app_folder import use_app_folder
from scripts.loading_timeout import loading_timeout_s
from worker.models.configuration import configured_entries
from worker.models.manager import ModelManager
from worker.settings import WorkerSettings

REPOSITORY = Path(__file__).resolve().parent.parent
RUN = Path(os.environ.get("CLUSTER_RUN") or REPOSITORY / "run").absolute()
"""The folder of the running cluster: sockets, pid file, logs."""

SOCKET = RUN / "supervisor.sock"
LOGS = RUN / "logs"
DEFAULT_WORKERS = 2

STOP_MARGIN_S = 5
"""How much longer than its drain a process may take to end, in seconds, before supervisord kills it."""

_MOST_WORKERS = 1000
_LONGEST_SOCKET_PATH = 90  # systems allow 103 or 107 characters; supervisor adds some when it binds
_DESCRIPTORS_OF_A_PROCESS = 4  # of supervisord: two pipes, the log, and one while it starts
_OTHER_DESCRIPTORS = 64


def fail(sentence: str) -> NoReturn:
    """End the command with one sentence and exit code 1."""
    sys.exit(f"error: {sentence}")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The settings of the cluster that `make up` starts."""

    broker: BrokerSettings
    worker: WorkerSettings
    workers: int
    loading_timeout_s: float

    @property
    def descriptors(self) -> int:
        """How many open files supervisord needs."""
        return _DESCRIPTORS_OF_A_PROCESS * (self.workers + 2) + _OTHER_DESCRIPTORS

    def worker_address(self, process: str) -> str:
        """The HTTP address of a worker, from the name of its process."""
        host, _, _ = self.worker.http.rpartition(":")
        return f"{host}:{process.rpartition('-')[2]}"

    def environment(self) -> dict[str, str]:
        """Return the environment of supervisord, which every process inherits."""
        host, _, port = self.worker.http.rpartition(":")  # an IPv6 address keeps its brackets
        return {
            "BROKER_ADMIN": f"ipc://{RUN}/broker-admin.sock",
            "BROKER_STATE": f"{RUN}/broker-state.json",
            "WORKER_LOADABLE": "*",  # only the user who owns all these processes can reach BROKER_ADMIN
            **os.environ,
            "CLUSTER_RUN": str(RUN),
            "CLUSTER_LOGS": str(LOGS).replace("%", "%%"),  # supervisor expands the names of logs twice
            "CLUSTER_PYTHON": sys.executable,
            "CLUSTER_DESCRIPTORS": str(self.descriptors),
            "CLUSTER_BROKER_STOP_S": str(math.ceil(self.broker.drain_timeout_s) + STOP_MARGIN_S),
            "CLUSTER_WORKER_STOP_S": str(math.ceil(self.worker.drain_timeout_s) + STOP_MARGIN_S),
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
        use_app_folder()
        logs.formatter_from_environment()
        broker, worker = load_settings(BrokerSettings), load_settings(WorkerSettings)
        made = ClusterSettings(broker, worker, worker_count(), loading_timeout_s())
        ModelManager(configured_entries(), made.worker.hosted_models())
    except ConfigError as error:
        fail(str(error))
    _check_ports(made)
    if len(str(SOCKET)) > _LONGEST_SOCKET_PATH:
        fail(f"CLUSTER_RUN={str(RUN)!r} is too long for a socket in it: choose a shorter path, such as /tmp/cluster")
    return made


def worker_count() -> int:
    """Return how many workers `WORKERS` asks for; a wrong value ends the command."""
    value = os.environ.get("WORKERS") or str(DEFAULT_WORKERS)
    if not (value.isascii() and value.isdecimal()) or not 1 <= int(value) <= _MOST_WORKERS:
        fail(f"WORKERS={value!r} is wrong: it should be a whole number from 1 to {_MOST_WORKERS}")
    return int(value)


def _check_ports(made: ClusterSettings) -> None:
    _, http_port = split_host_port(made.broker.http)
    _, worker_port = split_host_port(made.worker.http)
    last = worker_port + made.workers - 1
    if last > 65535:
        fail(
            f"WORKER_HTTP={made.worker.http!r} is wrong: the {made.workers} workers take the ports from there on, up "
            f"to {last}, and 65535 is the last: choose {65536 - made.workers} or less"
        )
    if worker_port <= http_port <= last:
        fail(
            f"WORKER_HTTP={made.worker.http!r} is wrong: the {made.workers} workers take the ports from there on, "
            "and BROKER_HTTP's is among them"
        )


def check_open_files(made: ClusterSettings) -> None:
    """Check that supervisord may open as many files as it needs; it raises its own limit. A lack ends the command."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and made.descriptors > hard:
        most = (hard - _OTHER_DESCRIPTORS) // _DESCRIPTORS_OF_A_PROCESS - 2
        fail(
            f"WORKERS={made.workers} is too many: supervisord needs {made.descriptors} open files for them, and this "
            f"process may have {hard} (ulimit -Hn): raise that limit, or start at most {most} workers"
        )


def make_folder() -> None:
    """Make the folder of the cluster; if it cannot be written, that ends the command."""
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        probe = RUN / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        fail(f"CLUSTER_RUN={str(RUN)!r} cannot be written ({error.strerror}): choose another folder")
