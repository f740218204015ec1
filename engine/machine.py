"""What a program may use of its machine: cores and memory, by affinity and by control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 says "no limit" by a number of about this size.
_NO_LIMIT = 2**60


class Limits(NamedTuple):
    """What control groups allow: cores (2.5, say) and bytes; None where they set no limit.

    ``memory_used`` is what the group that sets the limit of memory uses of it now.
    """

    cores: float | None
    memory: int | None
    memory_used: int


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: of the machine, free for a program, and the limit of its control group."""

    total: int
    available: int
    limit: int | None


def control_group_limits(mount: Path = _CONTROL_GROUPS, membership: str | None = None) -> Limits:
    """The tightest limits of the groups that this program is in, of version 1 or 2.

    Parameters
    ----------
    mount : where control groups are mounted
    membership : the content of ``/proc/self/cgroup``, by default this program's
    """
    if membership is None:
        membership = _text(_MEMBERSHIP)
    cores: list[float] = []
    memory: list[tuple[int, int]] = []  # what is left, and the limit
    for folder in _groups(mount, membership):
        cores += _cores(folder)
        memory += [(limit - used, limit) for limit, used in _memory(folder)]
    left, limit = min(memory, default=(0, None))
    return Limits(min(cores, default=None), limit, 0 if limit is None else limit - left)


def _groups(mount: Path, membership: str) -> Iterator[Path]:
    """Folders of the program's groups and of those around them, which limit it, too."""
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = [controllers, *controllers.split(",")] if controllers else [""]
        own = PurePosixPath(path.lstrip("/"))
        if ".." in own.parts:  # of a group outside of what is mounted here
            own = PurePosixPath()
        for name in dict.fromkeys(names):
            for group in (own, *own.parents):
                yield mount / name / group


def _cores(folder: Path) -> list[float]:
    """``cpu.max`` is "quota period" or "max period"; version 1 has a file for each, -1 for none."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us")
        period = _text(folder / "cpu.cfs_period_us")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # max, or there is no such file
        return []
    return [cores] if cores > 0 else []


def _memory(folder: Path) -> list[tuple[int, int]]:
    """Limit and use of a group, in bytes; use without files that can be dropped at once."""
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
    """Cores that the program may use: those it may run on, and no more than its quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, limits.cores or cores)


def memory(limits: Limits, information: str | None = None) -> Memory | None:
    """Memory of the machine and what is free; None where the system does not say.

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


def processor(information: str | None = None) -> str:
    """The processor's name, where the system tells it. ``information`` is ``/proc/cpuinfo``."""
    import platform

    if information is None:
        information = _text(Path("/proc/cpuinfo"))
    for line in information.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine() or "unnamed"


def file_system(folder: Path, mounts: str | None = None) -> str | None:
    """The type of file system (``ext4``, ``nfs4``) of a folder; None where it is not known.

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
        # Of two at one place the later one hides the earlier.
        if place.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2])
    return best[1] if best else None


def _unescaped(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _text(path: Path) -> str:
    """A small file's content; nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
