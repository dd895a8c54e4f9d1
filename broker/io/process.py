"""What the broker asks of the system for its own process."""

import ctypes
import os
import resource
import sys
from contextlib import suppress

MOST_DESCRIPTORS = 65_536
"""Open connections and files that the broker asks the system for, if it may have so many."""

KEPT_BYTES = 64 * 1024 * 1024
"""How much memory that is free may stay with the broker."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_HIGHEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def raise_descriptor_limit() -> None:
    """Each client takes a descriptor, and the usual soft limit is for small programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may have a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def use_batch_scheduling() -> None:
    """Have the system let others go on while they run, instead of us in their place the moment that we wake.

    The first message of a burst wakes the broker. In the place of the peer that is still sending the rest it would find
    that one message, and send it on alone; after it, it finds them all (docs/performance.md).
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:  # or somebody has decided otherwise
        with suppress(OSError):  # it is for speed alone, and a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def tune_malloc() -> None:
    """Have the allocator keep what a large message took for the next one, instead of giving it back each time.

    To get it again page by page takes longer than all that the broker does with the message (docs/performance.md).
    """
    with suppress(OSError, AttributeError):  # it is for speed alone, and glibc's own
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD)
        allocator.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
