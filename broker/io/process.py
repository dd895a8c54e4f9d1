"""The broker's own process: its limit of descriptors, its scheduling policy, its allocator."""

import ctypes
import os
import resource
import sys
from contextlib import suppress

MOST_DESCRIPTORS = 65_536
"""Descriptors that the broker asks the system for; each connection takes one."""

KEPT_BYTES = 64 * 1024 * 1024
"""Free memory that the allocator may keep, in bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_HIGHEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors: each client takes one, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may have a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def use_batch_scheduling() -> None:
    """Select SCHED_BATCH, so that the broker does not preempt the running process when it wakes.

    The first message of a burst wakes the broker. If it preempted the peer that is still sending, it would find only
    that message and send it on alone; if it runs after the peer, it finds the whole burst (docs/performance.md).
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:  # another policy was chosen on purpose
        with suppress(OSError):  # it only improves speed, and a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def tune_malloc() -> None:
    """Have the allocator keep the memory of a large message for the next one.

    Otherwise the allocator returns the memory to the kernel, and to get it back page by page takes longer than all
    other work that the broker does for the message (docs/performance.md).
    """
    with suppress(OSError, AttributeError):  # it only improves speed, and only glibc has it
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD)
        allocator.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
