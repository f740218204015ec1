"""Flushing and locking files and folders, on file systems that may support neither."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Errors by which file systems (SMB, FUSE) say that they do not support an operation.
CANNOT = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM", "EACCES")
    if hasattr(errno, name)
}
_NO_LOCKS = CANNOT | {errno.ENOLCK, errno.EBADF}
# Open a folder, and no link to one, where these flags exist.
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# File systems that flush and report everything; FUSE and overlays do not pass it on.
_JOURNALLED = ("ext4", "xfs")
# Release of Linux from which syncfs reports failed writes.
_SYNCFS_FROM = (5, 8)
# SYNC_FILE_RANGE_WRITE, from Linux's fs.h.
_WRITE = 2
# Threads that flush, and how many paths are too few for them.
_FLUSHED_AT_ONCE, _FEW = 8, 3
_limitations: set[str] = set()
# Seconds before a wait for a lock is reported, and between two attempts to lock.
_SAY_AFTER, _ASK_EVERY = 1.0, 0.05


def flush_path(path: Path) -> bool:
    """Flush a file or folder to the disk; False if it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # removed or replaced since
        return False
    except OSError as error:  # Windows cannot open folders
        _raise_unless_unsupported(error, path)
        return True
    try:
        flush_descriptor(descriptor, path)
    finally:
        os.close(descriptor)
    return True


def flush_paths(folder: Path, names: Collection[str]) -> list[str]:
    """Flush files or folders in a folder to the disk; the names of those that exist.

    Several at a time: the file system's journal then takes them together.
    """

    def flush(name: str) -> bool:
        return flush_path(folder / name)

    names = list(names)
    try:
        if len(names) <= _FEW:
            flushed = list(map(flush, names))
        else:
            with ThreadPoolExecutor(_FLUSHED_AT_ONCE, thread_name_prefix="flush") as pool:
                flushed = list(pool.map(flush, names))
    except RuntimeError:  # threads are refused
        flushed = list(map(flush, names))
    return [name for name, exists in zip(names, flushed, strict=True) if exists]


def flush_file_system(descriptor: int, folders: Iterable[Path]) -> bool:
    """Flush the file system of an open folder in one call, if all ``folders`` are on it.

    It takes far less time than thousands of small files one by one. False if they must
    be flushed one by one: the system cannot, hides errors, or found one, which may be of others.

    Parameters
    ----------
    descriptor : of a folder that was opened before the files were written, or errors would be lost
    """
    function = _syncfs()
    if function is None:
        return False
    device = os.fstat(descriptor).st_dev
    if _file_system(device) not in _JOURNALLED:
        return False
    try:
        if any(os.stat(folder).st_dev != device for folder in folders):  # noqa: PTH116
            return False
    except FileNotFoundError:  # removed since
        return False
    return function(descriptor) == 0


def flush_descriptor(descriptor: int, path: Path) -> None:
    """Flush an open file to the disk, if its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _raise_unless_unsupported(error, path)


def start_flushing(descriptor: int, path: Path) -> None:
    """Have the disk begin with a written file, and do not wait: flushing it later then takes less.

    Only a hint, for systems that take it (Linux); errors show when the file is flushed.
    """
    del path
    if function := _sync_file_range():
        function(descriptor, 0, 0, _WRITE)


@cache
def _file_system(device: int) -> str:
    """The type of a mounted file system, by its device; empty if it is not known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return ""


@cache
def _syncfs() -> Callable[[int], int] | None:
    """Linux's ``syncfs``, which reports failed writes since 5.8."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release) if hasattr(os, "uname") else None
    if not sys.platform.startswith("linux") or release is None:
        return None
    if tuple(map(int, release.groups())) < _SYNCFS_FROM:
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if found is not None:
        found.argtypes = (ctypes.c_int,)
    return found


@cache
def _sync_file_range() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


@dataclass(frozen=True)
class Lock:
    """A locked folder; ``held`` is False where the system or file system has no locks."""

    folder: Path
    descriptor: int | None = None
    held: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the path still leads to the locked folder."""
        try:
            current = self.folder.lstat()
        except FileNotFoundError:
            return False
        return self.descriptor is None or os.path.samestat(os.fstat(self.descriptor), current)


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold the lock of a folder. Links are not followed.

    Raises
    ------
    BlockingIOError : another program holds it
    FileNotFoundError : the folder was renamed or removed before it was locked
    """
    lock = _lock(folder)
    try:
        if not lock.in_place:
            raise FileNotFoundError(errno.ENOENT, "moved before it was locked", str(folder))
        yield lock
    finally:
        if lock.descriptor is not None:
            os.close(lock.descriptor)


@contextmanager
def wait_for_lock(folder: Path, note: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the lock of the finished store at ``folder``, after waiting for other programs.

    ``note`` is called if it has to wait. The store may have been replaced in the meantime.

    Raises
    ------
    FileNotFoundError : no store exists there
    """
    place, told = Path(os.path.realpath(folder)), False
    started = last_seen = time.monotonic()
    with ExitStack() as stack:
        while True:
            now = time.monotonic()
            try:
                stack.enter_context(locked(place))
                break
            except FileNotFoundError:  # it may be between two renames
                if now - last_seen > _SAY_AFTER:
                    raise
            except BlockingIOError:
                last_seen = now
                if not told and now - started > _SAY_AFTER:
                    told = True
                    note(f"waiting for another program that is writing {folder}")
            time.sleep(_ASK_EVERY)
        yield


def take_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False if the system or file system has no locks.

    Raises
    ------
    BlockingIOError : another program has locked it
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _lock(folder: Path) -> Lock:
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # Windows cannot open folders
            return Lock(folder)
        raise
    try:
        return Lock(folder, descriptor, held=take_lock(descriptor))
    except OSError as error:
        os.close(descriptor)
        error.filename = str(folder)
        raise


@contextmanager
def note_limitations(note: Callable[[str], None], place: Path | str) -> Iterator[None]:
    """Note at the end, once each, the operations that the file system of ``place`` lacks."""
    _limitations.clear()
    try:
        yield
    finally:
        for what in sorted(_limitations):
            note(f"the file system of {place} cannot {what}")


def add_limitation(what: str) -> None:
    """Have :func:`note_limitations` note that the file system cannot do this."""
    _limitations.add(what)


def _raise_unless_unsupported(error: OSError, path: Path) -> None:
    if error.errno not in CANNOT:
        error.filename = str(path)
        raise error
    kind = "folders" if path.is_dir() else "files"
    add_limitation(f"synchronise {kind}: a power failure may lose the latest writes")
