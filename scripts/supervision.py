"""How the commands of the Makefile reach supervisor: where it runs, and how it is started and asked."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from broker.settings import BrokerSettings
from cluster.settings import WrongSettingError, load, split_host_port
from worker.settings import WorkerSettings

REPOSITORY = Path(__file__).resolve().parent.parent
RUN = Path(os.environ.get("CLUSTER_RUN") or REPOSITORY / "run").absolute()
"""Where the running cluster keeps its socket, pid file and logs."""

SOCKET = RUN / "supervisor.sock"
LOGS = RUN / "logs"
_CONFIGURATION = REPOSITORY / "deploy" / "supervisord.conf"
_MOST_WORKERS = 1000


def fail(sentence: str) -> NoReturn:
    """End the command with one sentence."""
    sys.exit(f"error: {sentence}")


def settings() -> tuple[BrokerSettings, WorkerSettings, int]:
    """The settings that the processes will see, and how many workers there are to be; a wrong one ends the command."""
    try:
        broker, worker = load(BrokerSettings), load(WorkerSettings)
    except WrongSettingError as error:
        fail(str(error))
    workers = os.environ.get("WORKERS", "2")
    if not workers.isdecimal() or not 1 <= int(workers) <= _MOST_WORKERS:
        fail(f"WORKERS={workers!r} is wrong: it should be a whole number from 1 to {_MOST_WORKERS}")
    return broker, worker, int(workers)


def control(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run supervisorctl."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-s", f"unix://{SOCKET}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_running() -> bool:
    """Whether supervisord runs."""
    return SOCKET.exists() and control("pid").stdout.strip().isdecimal()


def start(worker: WorkerSettings, workers: int) -> None:
    """Start supervisord in the background; it starts the processes."""
    LOGS.mkdir(parents=True, exist_ok=True)
    host, port = split_host_port(worker.http)
    environment = {
        **os.environ,
        "CLUSTER_RUN": str(RUN),
        "CLUSTER_PYTHON": sys.executable,
        "CLUSTER_WORKER_HOST": host,
        "CLUSTER_WORKER_PORT": str(port),
        "WORKERS": str(workers),
    }
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(_CONFIGURATION)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fail(f"supervisord did not start: {(result.stderr or result.stdout).strip()}")


def last_log_lines(lines: int) -> str:
    """The ends of all logs, each under its name."""
    parts = []
    for path in sorted(LOGS.glob("*.log")):
        end = path.read_text(errors="replace").splitlines()[-lines:]
        parts.append("\n".join([f"==> {path} <==", *end]))
    return "\n\n".join(parts)
