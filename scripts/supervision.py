"""Starts, queries and stops supervisord, for the commands of the Makefile."""

import os
import re
import subprocess
import sys
import time
import xmlrpc.client
from contextlib import suppress
from typing import Any

import psutil
from supervisor.xmlrpc import Faults

from cluster.runtime import compiled
from cluster.runtime.supervisor import supervisor_at
from scripts.cluster_settings import LOGS, REPOSITORY, SOCKET, ClusterSettings, fail

_CONFIGURATION = REPOSITORY / "deploy" / "supervisord.conf"
_GROUPS = ("broker", "worker")
_POLL_S = 0.1


def start(made: ClusterSettings) -> None:
    """Start supervisord in the background, which starts the processes."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(_CONFIGURATION)]
    if os.getuid() == 0:
        command += ["--user", "root"]  # without it, supervisord logs a CRIT line that asks for it
    result = subprocess.run(command, env=made.environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fail(f"supervisord did not start: {_without_values((result.stderr or result.stdout).strip())}")


def _without_values(text: str) -> str:
    """Cut off what supervisor prints of its environment, which may hold secrets."""
    return re.split(r"[{\[]['\"]", text, maxsplit=1)[0]


def _supervisor() -> Any:
    return supervisor_at(f"unix://{SOCKET}").supervisor


def processes() -> list[dict[str, Any]]:
    """Return supervisor's view of the broker and each worker (`getAllProcessInfo`); empty if it does not run."""
    if not SOCKET.exists():
        return []
    try:
        found: list[dict[str, Any]] = _supervisor().getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return [one for one in found if one["group"] in _GROUPS]


def is_compiled() -> bool:
    """Whether the running cluster was started with `COMPILED=1`."""
    for one in processes():
        with suppress(psutil.Error):
            if compiled.VARIABLE in psutil.Process(one["pid"]).environ():
                return True
    return False


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
    supervisor = _supervisor()
    longest_s = _stop_s(supervisor)
    supervisor.shutdown()
    deadline_s = time.monotonic() + longest_s
    while SOCKET.exists():
        if time.monotonic() > deadline_s:
            fail(f"supervisord still runs after {longest_s} s; see {LOGS}")
        time.sleep(_POLL_S)


def _stop_s(supervisor: Any) -> int:
    """How long a stop may take, in seconds: supervisor stops one group after the other, and kills what is late."""
    longest: dict[str, int] = {}
    for one in supervisor.getAllConfigInfo():
        longest[one["group"]] = max(longest.get(one["group"], 0), one["stopwaitsecs"])
    return sum(longest.values()) + 10


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
