"""Inject faults at a command's k-th write through Python's audit events, patching no library.

The hook sees files opened for writing, renamed, linked, truncated and removed, and folders created
and removed. It sees neither writes to an open file nor files opened by other languages. A hook
cannot be removed: arm it in a forked child that does nothing else.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fusiform import cli

# kill: the process dies before the write. full: no space is left from then on. once: the same,
# but the next write succeeds. Removing files always works.
WAYS = ("kill", "full", "once")

_REMOVALS = ("os.remove", "os.rmdir")
_CHANGES = ("os.rename", "os.link", "os.symlink", "os.truncate", "os.mkdir", *_REMOVALS)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Position of the folder descriptor in an event's arguments.
_FOLDERS = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2}


class Ended(NamedTuple):
    """End of a process: exit code (negative for a signal), output, writes."""

    code: int
    said: str
    writes: int
    seconds: float


def arm(under: Path, seen: Callable[[], int], at: int | None = None, how: str = "kill") -> None:
    """Call ``seen`` at every write under a folder; the ``at``-th fails as ``how``."""
    root = under.resolve()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & _WRITING:
                return
        elif event not in _CHANGES:
            return
        path = _path(event, args)
        if path is None or not path.is_relative_to(root):
            return
        number = seen()
        if at is None or number < at or (number > at and how != "full"):
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif event not in _REMOVALS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(hook)


def _path(event: str, args: tuple[Any, ...]) -> Path | None:
    if not isinstance(args[0], str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(args[0]))
    place = _FOLDERS.get(event)
    if place is not None and place < len(args) and args[place] not in (None, -1):
        path = Path(f"/proc/self/fd/{args[place]}") / path
    return path.parent.resolve() / path.name


def run(
    arguments: list[str], under: Path | None, at: int | None = None, how: str = "kill",
    delay: float | None = None,
) -> Ended:  # fmt: skip
    """Fork a command with a fault (see :func:`arm`), or kill it after ``delay`` seconds."""
    began, count = time.perf_counter(), mmap.mmap(-1, 8)

    def seen() -> int:
        (number,) = struct.unpack("q", count[:])
        count[:] = struct.pack("q", number + 1)
        return int(number) + 1

    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            _be_the_command(arguments, said.fileno(), under, seen, at, how)
        status = None
        while delay is not None and time.perf_counter() - began < delay and status is None:
            time.sleep(0.001)
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
        if status is None:
            if delay is not None:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    seconds = time.perf_counter() - began
    return Ended(os.waitstatus_to_exitcode(status), text, *struct.unpack("q", count[:]), seconds)


def _be_the_command(
    arguments: list[str], said: int, under: Path | None, seen: Callable[[], int], at: int | None,
    how: str,
) -> NoReturn:  # fmt: skip
    code: Any = 1
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["fusiform", *arguments]
        if under is not None:
            arm(under, seen, at, how)
        cli.main()
    except SystemExit as left:
        code = left.code or 0
    except BaseException as error:
        print(f"Traceback of {type(error).__name__}: {error}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
