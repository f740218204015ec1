"""Places: memory, the folder that a store goes to, and the folder of compiled code."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..disk import synchronise, synchronised, telling
from ..machine import Limits, Memory, file_system, memory
from .finding import Finding, found, size

_NETWORK = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb2", "smb3", "smbfs", "wekafs",
)  # fmt: skip
_WRITTEN = 64 * 2**20
_PIECE = 8 * 2**20
_LONGEST = 5.0
# Bytes per second below which writing is slow even for a hard disk.
_SLOW = 50e6
_FEW_FILES = 1024
_SMALL_DISK = 2**30
_LITTLE_MEMORY = 2 * 2**30


def check_memory(limits: Limits) -> Iterator[Finding]:
    """Memory, and whether blocks of it are used again."""
    yield judge_memory(memory(limits))
    yield judge_allocator(os.environ)


def judge_memory(known: Memory | None) -> Finding:
    """Memory, free and in all, and whether a scan fits at all."""
    if known is None:
        return Finding("memory", "this system does not say", severity="unknown")
    limit = f", limited to {size(known.limit)}" if known.limit is not None else ""
    text = f"{size(known.available)} free of {size(known.total)}{limit}"
    short = known.available < _LITTLE_MEMORY
    return found("memory", text, "little is free: lower `batch_size`" if short else "")


def judge_allocator(environment: Mapping[str, str]) -> Finding:
    """Variables that set up glibc's allocator: then a scan leaves it as it is."""
    marks = ("MALLOC_", "GLIBC_TUNABLES")
    listed = sorted(name for name in environment if name.startswith(marks))
    if not listed:
        return Finding("allocator", "as the system has it, blocks are used again")
    return found(
        "allocator",
        f"{', '.join(listed)} set",
        f"freed memory is not used again, and a pass on the CPU takes longer: unset {listed[0]}",
    )


def check_output(output: str) -> Iterator[Finding]:
    """The folder that a store goes to: writable, how fast, how much is free, what kind it is."""
    if "://" in output and not output.startswith("file://"):
        yield Finding("output", f"{output}: an object store, not tried", severity="unknown")
        return
    folder = folder_for(Path(output.removeprefix("file://")))
    lacking: list[str] = []
    try:
        with telling(lacking.append, folder):
            speed = write_speed(folder)
            synchronised(folder)
    except OSError as error:
        yield Finding(
            "output",
            f"{folder} cannot be written to ({error.strerror or error})",
            "give `output` a folder that can be, with some GiB free",
            "fault",
        )
        return
    yield judge_output(folder, speed, shutil.disk_usage(folder).free)
    yield judge_file_system(file_system(folder))
    for one in lacking:
        yield found("file system", "cannot do everything", one)


def folder_for(output: Path) -> Path:
    """The folder that is there and in which ``output``, a store or a folder of stores, will be."""
    place = output.expanduser().resolve()
    if (place / "zarr.json").exists() or place.suffix == ".zarr":
        place = place.parent
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def write_speed(folder: Path) -> float:
    """Bytes per second of a file without a name, written and synced; nothing of it is left."""
    content, written = os.urandom(_PIECE), 0  # nothing that a file system could compress
    with tempfile.TemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        while written < _WRITTEN and time.perf_counter() - started < _LONGEST:
            file.write(content)
            file.flush()
            synchronise(file.fileno(), folder)
            written += len(content)
        return written / (time.perf_counter() - started)


def judge_output(folder: Path, speed: float, free: int) -> Finding:
    """A folder, the speed of writing to it in bytes per second, and the bytes free in it."""
    kinds = ((500e6, "as an SSD"), (_SLOW, "as a hard disk or an ordinary network"), (0, "slow"))
    kind = next(name for least, name in kinds if speed >= least)
    text = f"{folder}: {size(free)} free, written at {speed / 1e6:,.0f} MB/s ({kind})"
    if free < _SMALL_DISK:
        return found("output", text, "a store takes from some MiB to some GiB: make room")
    slow = "moments are written at this speed: let `output` be on a local disk, and copy the store"
    return found("output", text, slow if speed < _SLOW else "")


def judge_file_system(kind: str | None) -> Finding:
    """The type of the output's file system."""
    topic = "file system"
    if kind is None:
        return Finding(topic, "this system does not say which", severity="unknown")
    if kind in _NETWORK:
        return found(
            topic,
            f"{kind}, over a network",
            "locks and renames may be late for other machines: let one at a time write a store",
        )
    if kind in ("tmpfs", "ramfs"):
        return found(topic, f"{kind}, in memory", "what is written here takes memory, and is lost")
    return Finding(topic, f"{kind}, local")


def check_files() -> Iterator[Finding]:
    """The limit of open files."""
    try:
        import resource
    except ImportError:  # Windows
        yield Finding("open files", "this system has no such limit", severity="unknown")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_files(soft, hard, resource.RLIM_INFINITY)


def judge_files(soft: int, hard: int, infinity: int) -> Finding:
    """Limits of open files; ``infinity`` is the number that stands for none."""
    text = "no limit" if soft == infinity else f"{soft:,} at once"
    few = soft != infinity and soft < _FEW_FILES
    more = _FEW_FILES if hard == infinity else min(hard, _FEW_FILES)
    return found("open files", text, f"raise the limit: ulimit -n {more}" if few else "")


def check_cache() -> Iterator[Finding]:
    """The folder in which numba keeps compiled kernels."""
    from ...kernels import jit

    try:
        folder = jit.cache_folder()
    except OSError as error:
        yield found(
            "compiled kernels",
            f"{error.filename} cannot be written to ({error.strerror or error})",
            "every start compiles for seconds: set NUMBA_CACHE_DIR to a folder that can be",
        )
    else:
        yield Finding("compiled kernels", f"kept in {folder}")
