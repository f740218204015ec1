"""What a scan asks of the system's memory: blocks that are used again; and how much it took."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# From glibc's malloc.h: the parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_RECYCLED = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # never return anything, map nothing
# What glibc starts with, and the thresholds at which it arrives by itself in a program that frees
# large blocks: once a threshold was set, it does not move them any more.
_ORDINARY = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20, _MMAP_MAX: 65_536}

# The variable that says how many heaps there are. By default threads get others than that of the
# main thread, which return what is free whatever was set: where a network runs in another thread,
# as in a worker, there had better be one.
ARENAS = "MALLOC_ARENA_MAX"

_users = 0
_lock = threading.Lock()


@contextmanager
def recycled() -> Iterator[None]:
    """Keep freed memory for the next allocation, and give it back to the system at the end.

    glibc maps large blocks one by one and unmaps them when they are freed. A forward pass on the
    CPU then meets every activation as fresh pages, one fault each, and spends more on those than on
    many a layer. What is to be given back has to be free when the last such context ends. Where the
    C library is another one, or the environment sets it up (``GLIBC_TUNABLES``, ``MALLOC_...`` but
    for the number of heaps), nothing changes.
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
    set_up = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in others)
    if set_up or not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def peak_memory() -> int:
    """Largest resident memory of this program so far, in bytes; 0 where the system does not say."""
    # Not getrusage, where Linux says it itself: that begins with what the parent process had.
    if peak := resident_memory("self").get("VmHWM"):
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory(process: int | str) -> dict[str, int]:
    """What Linux says of a process's memory, in bytes by its names; nothing elsewhere.

    ``VmHWM`` is the largest resident memory so far, ``RssAnon`` that of now without mapped files.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # another system, or the process is gone
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in sizes}
