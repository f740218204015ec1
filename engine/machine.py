"""Cores and memory that the program may use, within CPU affinity and control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 stores "no limit" as a number of about this size.
_NO_LIMIT = 2**60


class Limits(NamedTuple):
    """Limits set by control groups: cores (possibly fractional) and bytes; None means no limit.

    ``memory_used`` is the current use of the group that limits memory.
    """

    cores: float | None
    memory: int | None
    memory_used: int


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: installed, available to the program, and its control group's limit."""

    total: int
    available: int
    limit: int | None


def control_group_limits(mount: Path = _CONTROL_GROUPS, membership: str | None = None) -> Limits:
    """The tightest limits of this program's control groups (version 1 or 2).

    Parameters
    ----------
    mount : where control groups are mounted
    membership : the content of ``/proc/self/cgroup``, by default this program's
    """
    if membership is None:
        membership = _text(_MEMBERSHIP)
    cores: list[float] = []
    memory: list[tuple[int, int]] = []  # (left, limit)
    for folder in _groups(mount, membership):
        cores += _cores(folder)
        memory += [(limit - used, limit) for limit, used in _memory(folder)]
    left, limit = min(memory, default=(0, None))
    return Limits(min(cores, default=None), limit, 0 if limit is None else limit - left)


def _groups(mount: Path, membership: str) -> Iterator[Path]:
    """Folders of the program's groups and of their parents, which limit it too."""
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = [controllers, *controllers.split(",")] if controllers else [""]
        own = PurePosixPath(path.lstrip("/"))
        if ".." in own.parts:  # the group lies outside this mount
            own = PurePosixPath()
        for name in dict.fromkeys(names):
            for group in (own, *own.parents):
                yield mount / name / group


def _cores(folder: Path) -> list[float]:
    """Quota over period; version 2 has both in ``cpu.max``, version 1 has a file for each."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us")
        period = _text(folder / "cpu.cfs_period_us")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return []
    return [cores] if cores > 0 else []


def _memory(folder: Path) -> list[tuple[int, int]]:
    """Limit and use of a group in bytes; reclaimable file cache is not counted as used."""
    names = ("memory.max", "memory.current", "inactive_file")
    if not (folder / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        limit, used = int(_text(folder / names[0])), int(_text(folder / names[1]))
    except ValueError:
        return []
    lines = (line.partition(" ") for line in _text(folder / "memory.stat").splitlines())
    droppable = sum(int(value) for name, _, value in lines if name == names[2])
    return [(limit, max(0, used - droppable))] if limit < _NO_LIMIT else []


def usable_cores(limits: Limits) -> float:
    """Cores that affinity and quota let the program use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, limits.cores or cores)


def memory(limits: Limits, information: str | None = None) -> Memory | None:
    """Total and available memory; None where the system does not report it.

    ``information`` is the content of ``/proc/meminfo``, by default this machine's.
    """
    if information is None:
        information = _text(Path("/proc/meminfo"))
    fields = (line.split() for line in information.splitlines() if line.endswith(" kB"))
    kib = {name.rstrip(":"): int(value) for name, value, _ in fields}
    if not {"MemTotal", "MemAvailable"} <= kib.keys():
        return None
    total, available = kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    if limits.memory is not None:
        available = min(available, max(0, limits.memory - limits.memory_used))
    return Memory(total, available, limits.memory)


def resident_memory(process: int | str) -> dict[str, int]:
    """Memory of a process in bytes, by Linux's names; empty on other systems.

    ``VmHWM`` is the peak resident memory, ``RssAnon`` the current one without mapped files.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # not Linux, or the process has ended
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in sizes}


def processor(information: str | None = None) -> str:
    """Name of the processor. ``information`` is the content of ``/proc/cpuinfo``."""
    import platform

    if information is None:
        information = _text(Path("/proc/cpuinfo"))
    for line in information.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine() or "unnamed"


def file_system(folder: Path, mounts: str | None = None) -> str | None:
    """File system type (``ext4``, ``nfs4``) of a folder; None if unknown.

    ``mounts`` is the content of ``/proc/mounts``, by default this machine's.
    """
    if mounts is None:
        mounts = _text(Path("/proc/self/mounts"))
    place = PurePosixPath(folder)
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = PurePosixPath(_unescaped(fields[1]))
        # A later mount at the same point hides an earlier one.
        if place.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2])
    return best[1] if best else None


def _unescaped(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _text(path: Path) -> str:
    """Content of a small file; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
