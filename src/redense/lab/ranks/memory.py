"""Memory that a training step frees: by default the C library returns large blocks to the system at once.

Every step then asks the system for the same blocks again, which clears them page by page: of the quickstart's step that
is more than a thousand page faults (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of memory that was freed, for its next step; return whether it will.

    Only where the C library is glibc; what the user has set in the environment stands. No result depends on it.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") or name == "LD_PRELOAD" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
