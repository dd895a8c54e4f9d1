"""The broker's own process: its limit of descriptors, and its scheduling policy."""

import os
import resource
import sys
from contextlib import suppress

MOST_DESCRIPTORS = 65_536
"""Descriptors that the broker asks the system for; each connection takes one."""


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
