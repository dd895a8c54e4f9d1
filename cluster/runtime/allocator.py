"""The allocator of a process (glibc's malloc)."""

import ctypes
from contextlib import suppress

KEPT_BYTES = 64 * 1024 * 1024
"""Free memory that the allocator may keep, in bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_HIGHEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def keep_memory() -> None:
    """Have the allocator keep the memory of a large message for the next one.

    Otherwise the allocator returns the memory to the kernel, and to get it back page by page takes longer than all
    other work that the process does for the message (docs/performance.md).
    """
    with suppress(OSError, AttributeError):  # it only improves speed, and only glibc has it
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD)
        allocator.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
