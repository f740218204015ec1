"""Process memory: reuse of freed blocks, and how much is used."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..machine import resident_memory

# From glibc's malloc.h: the parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_RECYCLED = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # return nothing to the system, map nothing
# glibc's default, and the thresholds it reaches by itself in a program that frees large blocks.
# After a threshold was set, glibc does not adapt them any more.
_ORDINARY = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20, _MMAP_MAX: 65_536}

# Variable with the number of heaps. Threads other than the main one get their own heaps by default,
# which return free memory whatever was set. A worker runs its network in such a thread, and should
# have one heap.
ARENAS = "MALLOC_ARENA_MAX"

_users = 0
_lock = threading.Lock()


@contextmanager
def recycled() -> Iterator[None]:
    """Keep freed memory for the next allocation, and return it to the system at the end.

    glibc maps large blocks one by one and unmaps them when freed. In a forward pass on the CPU,
    every activation then causes page faults, which can cost more than the layer. Memory that is
    free when the last such context ends is returned. Does nothing with another C library, or if the
    environment configures glibc (``GLIBC_TUNABLES`` or ``MALLOC_...``, except the number of heaps).
    """
    global _users
    libc = _glibc()
    with _lock:
        _users += 1
        if libc and _users == 1:
            _set(libc, _RECYCLED)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if libc and not _users:
                _set(libc, _ORDINARY)
                libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        libc.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    others = os.environ.keys() - {ARENAS}
    configured = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in others)
    if configured or not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def peak_memory() -> int:
    """Peak resident memory of this process in bytes; 0 if unknown."""
    # On Linux not from getrusage, which starts with the parent's memory.
    if peak := resident_memory("self").get("VmHWM"):
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
