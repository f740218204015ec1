"""Writing to a file system: flushing, locks, what it cannot do, and its errors in one line."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# What file systems answer that cannot do something (SMB, FUSE), and not that writing has failed.
CANNOT = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM", "EACCES")
    if hasattr(errno, name)
}
# And to being asked for a lock.
_NO_LOCKS = CANNOT | {errno.ENOLCK, errno.EBADF}
# How a folder is opened, where these exist: not through a link.
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_lacking: set[str] = set()
# Seconds after which a wait for a lock is said, and between two tries to have it.
_SAY_AFTER, _ASK_EVERY = 1.0, 0.05


def synchronised(path: Path) -> bool:
    """Have the system write a file or folder to the disk; whether it was there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # removed or replaced since
        return False
    except OSError as error:  # where a folder cannot be opened, as on Windows
        _let_pass(error, path)
        return True
    try:
        synchronise(descriptor, path)
    finally:
        os.close(descriptor)
    return True


def synchronise(descriptor: int, path: Path) -> None:
    """Have the system write an open file to the disk, if its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _let_pass(error, path)


@dataclass(frozen=True)
class Lock:
    """A folder that is locked; ``held`` is False where the system or file system has no locks."""

    folder: Path
    descriptor: int | None = None
    held: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the folder that was locked is the one that lies there."""
        try:
            there = self.folder.lstat()
        except FileNotFoundError:
            return False
        return self.descriptor is None or os.path.samestat(os.fstat(self.descriptor), there)


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Keep other programs that ask for the lock of a folder from it. Links are not followed.

    Raises
    ------
    BlockingIOError : another program has it
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
def turn(folder: Path, note: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Keep other programs that ask from changing the finished store at ``folder``; wait for them.

    ``note`` hears of a wait. What stands there when the turn has come may be another store.

    Raises
    ------
    FileNotFoundError : nothing is there
    """
    place, told = Path(os.path.realpath(folder)), False
    started = there = time.monotonic()
    with ExitStack() as stack:
        while True:
            now = time.monotonic()
            try:
                stack.enter_context(locked(place))
                break
            except FileNotFoundError:  # or between two renames
                if now - there > _SAY_AFTER:
                    raise
            except BlockingIOError:
                there = now
                if not told and now - started > _SAY_AFTER:
                    told = True
                    note(f"waits for another program that writes {folder}")
            time.sleep(_ASK_EVERY)
        yield


def take_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False if the system or its file system has no locks.

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
        if error.errno in _NO_LOCKS:  # on Windows no folder can be opened
            return Lock(folder)
        raise
    try:
        return Lock(folder, descriptor, held=take_lock(descriptor))
    except OSError as error:
        os.close(descriptor)
        error.filename = str(folder)
        raise


@contextmanager
def telling(note: Callable[[str], None], place: Path | str) -> Iterator[None]:
    """Say at the end, each once, what the file system of ``place`` cannot do."""
    _lacking.clear()
    try:
        yield
    finally:
        for what in sorted(_lacking):
            note(f"the file system of {place} cannot {what}")


def lacking(what: str) -> None:
    """Have :func:`telling` say that the file system cannot do this."""
    _lacking.add(what)


def _let_pass(error: OSError, path: Path) -> None:
    if error.errno not in CANNOT:
        error.filename = str(path)
        raise error
    kind = "folders" if path.is_dir() else "files"
    lacking(f"synchronise {kind}: a power failure may cost what was just written")
