"""Busy polling: a process whose last wait was short polls for a while before it sleeps.

To wake a sleeping process takes some 25 µs on a virtual machine, and it finds cold caches: what it does then takes
twice as long and more (docs/performance.md). An idle process only sleeps.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

Ready = TypeVar("Ready")

DEFAULT_US = 300
"""Longest time for which a process polls, in microseconds."""

MAX_US = 100_000
"""Largest setting for it."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


class BusyPoll(Generic[Ready]):
    """Waits for what a selector reports."""

    def __init__(
        self, poll: Callable[[float], list[Ready]], limit_us: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Build.

        Args:
            poll: waits at most that many seconds, and returns what is ready.
            limit_us: longest time to poll, in microseconds; 0 to sleep at once.
            clock: tells monotonic seconds.
        """
        self._poll = poll
        self._limit_s = limit_us / 1e6
        self._clock = clock
        self._was_short = False

    def wait(self, timeout_s: float, *, may_poll: bool = True) -> list[Ready]:
        """Return what is ready, as soon as something is.

        Args:
            timeout_s: longest wait, in seconds.
            may_poll: whether nothing else in this process has work, which polling would disturb.
        """
        if not timeout_s or not self._limit_s:
            return self._poll(timeout_s)
        started_s = self._clock()
        if self._was_short and may_poll:
            until_s = started_s + min(self._limit_s, timeout_s)
            while True:
                ready = self._poll(0)
                if ready:
                    return ready
                if self._clock() >= until_s:
                    break
                _let_others_run()
        ready = self._poll(timeout_s)
        self._was_short = self._clock() - started_s < self._limit_s
        return ready


def limit_us(setting: int) -> int:
    """Return for how long this process should poll, in microseconds.

    Args:
        setting: what the settings say. The result is 0 if the process may use only one CPU, because other processes
            need that, or if it has a quota of CPU time, because polling would use that up.
    """
    return setting if _cpus() > 1 and not _has_quota() else 0


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_quota() -> bool:
    """Whether this process's control group, or one around it, has a quota (cgroups(7), version 2 and 1)."""
    files = [_CGROUPS / "cpu.max", _CGROUPS / "cpu" / "cpu.cfs_quota_us"]
    with suppress(OSError):
        for line in _OWN_CGROUP.read_text().splitlines():
            number, _, path = line.split(":", 2)
            own = _CGROUPS / path.lstrip("/")
            if number == "0":
                files += [group / "cpu.max" for group in (own, *own.parents) if group.is_relative_to(_CGROUPS)]
    for file in files:
        with suppress(OSError):
            if file.read_text().split()[0] not in ("max", "-1"):
                return True
    return False


_let_others_run: Callable[[], None] = getattr(os, "sched_yield", lambda: None)  # not on every system
