"""Files that commands write: each is completed beside its output, then renamed."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import IO, Any
from uuid import uuid4
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from .disk import flush_descriptor, flush_path, take_lock
from .errors import UserError, explain_disk_errors

_LONGEST_NAME = 255  # bytes
# Without locks, a temporary file counts as abandoned after this many seconds.
_OLD = 3600


@contextmanager
def new_file(output: Path, what: str, text: bool = False) -> Iterator[IO[Any]]:
    """Yield a file to write; it replaces ``output`` when the context ends without an error.

    Until then it is called ``.NAME.fusiform-...``, beside ``output``, and an earlier output is
    untouched; after an error the new file is removed. Leftovers of killed programs are removed too.
    The owner and permissions of an earlier output are kept.

    Parameters
    ----------
    what : the kind of output for error messages, such as "a table"
    text : write UTF-8 text instead of bytes

    Raises
    ------
    UserError : see :func:`output_path`; the file system refuses to write
    """
    final = output_path(output, what)
    with explain_disk_errors(output):
        _sweep(final)
        raw, path, locked = _create(final, output)
    binary = io.BufferedWriter(raw)
    file = io.TextIOWrapper(binary, encoding="utf-8", newline="") if text else binary
    try:
        with explain_disk_errors(output):
            _keep_permissions(final, path)
        yield file
        with explain_disk_errors(output):
            file.flush()
            flush_descriptor(raw.fileno(), path)
            if not locked:
                file.close()  # Windows cannot rename an open file
            path.replace(final)
            flush_path(final.parent)
        file.close()
    except BaseException:
        with suppress(OSError, UserError):  # closing may raise the same error again
            file.close()
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def write_arrays(file: IO[bytes], arrays: Iterable[tuple[str, Any]]) -> None:
    """Write named arrays of numbers and fixed-length strings as ``.npz``, one by one.

    ``np.savez`` is not used: array names clash with its own arguments, and on a full disk it leaves
    an open archive that raises later.
    """
    with ZipFile(file, "w", ZIP_STORED) as whole:
        for name, values in arrays:
            with whole.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


@contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; after an error the new ones are removed again.

    Raises
    ------
    UserError : they cannot be created
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):  # it holds another program's file
                path.rmdir()
        raise


def output_path(output: Path, what: str, remedy: str = "name a file") -> Path:
    """Path of an output file with its links followed.

    Raises
    ------
    UserError : its folder does not exist; it is a folder, a device, a pipe or a read-only file
    """
    with explain_disk_errors(output):
        final = Path(os.path.realpath(output))
        mode = _mode(final)
        if mode is not None and S_ISDIR(mode):
            raise UserError(f"{what} is written to a file; {output} is a folder: name a file in it")
        if (mode is not None and not S_ISREG(mode)) or _is_descriptor(output):
            raise UserError(f"{what} is written to a file; {output} is a device or pipe: {remedy}")
        if not final.parent.is_dir():
            raise UserError(
                f"{what} is written into an existing folder; {final.parent} is none: make it"
            )
        if mode is not None and not os.access(final, os.W_OK):
            raise UserError(f"cannot write {output} (it is read-only): name another file")
        return final


def _mode(path: Path) -> int | None:
    """The mode of the file at a path; None if it does not exist."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_descriptor(output: Path) -> bool:
    """Whether a path names an open file, such as /dev/stdout."""
    folder = os.path.realpath(output.parent)
    return output.is_symlink() and (folder == "/dev" or folder.startswith("/proc/"))


class _File(io.FileIO):
    """A new file whose write errors are one-line ``UserError``s."""

    def __init__(self, path: Path, output: Path) -> None:
        super().__init__(path, "x")
        self._output = output

    def write(self, content: Any, /) -> Any:
        with explain_disk_errors(self._output):
            return super().write(content)


def _create(final: Path, output: Path) -> tuple[_File, Path, bool]:
    """A new file beside ``final``, its path, and whether it is locked."""
    while True:
        path = final.with_name(f"{_prefix(final)}{uuid4().hex[:16]}")
        file = _File(path, output)
        locked = _lock(file)
        # Another program may have removed it as a leftover before it was locked.
        if locked is not False and path.exists():
            return file, path, bool(locked)
        file.close()


def _sweep(final: Path) -> None:
    """Remove the leftovers of killed programs that wrote ``final``."""
    prefix = _prefix(final)
    with suppress(OSError):  # the folder may be writable but not listable
        for path in final.parent.iterdir():
            name = path.name.removeprefix(prefix)
            if name != path.name and re.fullmatch("[0-9a-f]{16}", name):
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    with suppress(OSError):  # not ours to remove, or already removed
        if not S_ISREG(path.lstat().st_mode):
            return
        with path.open("r+b") as file:
            locked = _lock(file)
            if locked:
                path.unlink()
        if locked is None and time.time() - path.stat().st_mtime > _OLD:
            path.unlink()


def _prefix(final: Path) -> str:
    """Prefix of the temporary names of ``final``; 16 digits follow."""
    name, rest = final.name, ".fusiform-"
    while len(os.fsencode(name)) > _LONGEST_NAME - len(f".{rest}") - 16:
        name = name[:-1]
    return f".{name}{rest}"


def _lock(file: IO[bytes] | io.FileIO) -> bool | None:
    """Lock a file; False if another program holds the lock, None if the system has no locks."""
    try:
        return take_lock(file.fileno()) or None
    except BlockingIOError:
        return False


def _keep_permissions(final: Path, path: Path) -> None:
    """Copy permissions and, where possible, the owner of the file to be replaced."""
    try:
        earlier = final.stat()
    except FileNotFoundError:
        return
    with suppress(OSError, AttributeError):
        if (earlier.st_uid, earlier.st_gid) != (path.stat().st_uid, path.stat().st_gid):
            os.chown(path, earlier.st_uid, earlier.st_gid)
    with suppress(OSError):
        path.chmod(earlier.st_mode & 0o777)
