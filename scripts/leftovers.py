"""Processes of this cluster whose supervisord has died. They serve on, and nothing would restart or stop them."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from scripts.cluster_settings import RUN, STOP_MARGIN_S
from scripts.reaper import kill_group

_MODULES = ("broker", "worker")
_DEFAULT_DRAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that runs without its supervisord.

    Attributes:
        module: `broker` or `worker`.
        process: the process.
        drain_s: how long it may take to end, in seconds.
    """

    module: str
    process: psutil.Process
    drain_s: float

    def __str__(self) -> str:
        return f"{self.module} (pid {self.process.pid})"


def find() -> list[Leftover]:
    """Return the brokers and workers of `CLUSTER_RUN` that this user runs, the broker first."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if len(command) < 3 or command[-2] != "-m" or command[-1] not in _MODULES:
                continue
            environment = process.environ()
            if environment.get("CLUSTER_RUN") == str(RUN) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(Leftover(command[-1], process, _drain_s(command[-1], environment)))
    return sorted(found, key=lambda one: one.module)


def _drain_s(module: str, environment: dict[str, str]) -> float:
    try:
        drain_s = float(environment.get(f"{module.upper()}_DRAIN_TIMEOUT_S", _DEFAULT_DRAIN_S))
    except ValueError:
        drain_s = _DEFAULT_DRAIN_S
    return math.ceil(drain_s) + STOP_MARGIN_S


def describe(leftovers: Sequence[Leftover]) -> str:
    """Name the processes."""
    return ", ".join(map(str, leftovers))


def end(leftovers: Sequence[Leftover]) -> None:
    """Stop the broker, which ends its calls while the workers still run, and then the workers."""
    for module in _MODULES:
        ours = [one for one in leftovers if one.module == module]
        for one in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.process.terminate()
        longest_s = max((one.drain_s for one in ours), default=0.0)
        _, alive = psutil.wait_procs([one.process for one in ours], timeout=longest_s)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=STOP_MARGIN_S)
        for one in ours:
            kill_group(one.process.pid)  # what their models have left
