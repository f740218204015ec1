"""Faults at the k-th write of a program, by Python's audit events: no library is changed.

Seen are files that are opened to be written, renamed, linked, cut and removed, and folders that are
created and removed. What goes into an open file is not, nor what is opened by other languages. A
hook cannot be taken out again: arm it in a forked child, which has nothing else to do.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# kill: the program is gone before the write. full: no space is left, from then on. once: the same,
# and the next write finds some. What is there can be removed.
WAYS = ("kill", "full", "once")

_REMOVALS = ("os.remove", "os.rmdir")
_CHANGES = ("os.rename", "os.link", "os.symlink", "os.truncate", "os.mkdir", *_REMOVALS)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Where an event says to which open folder its path is relative.
_FOLDERS = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2}


def arm(under: Path, seen: Callable[[], int], at: int | None = None, how: str = "kill") -> None:
    """Have ``seen`` count this program's writes under a folder; the ``at``-th comes to ``how``."""
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
