"""What fusiform says when a user's request cannot be carried out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from .urls import without_credentials

# How libraries say that there is no memory, that no thread can be started, and that a GPU failed.
_NO_MEMORY = (
    *("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("Unable to allocate", "bad_alloc", "failed to map segment"),
)
_NO_THREAD = ("can't start new thread", "Resource temporarily unavailable")
_NO_DEVICE = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")
_MORE_MEMORY = "ask for less at once, or go on where there is more"
_MORE_THREADS = (
    "raise the limit of processes and threads (ulimit -u) or of memory (ulimit -v), or ask for "
    "fewer workers"
)
# What helps where the system refuses something, by the names of its errors.
_REMEDIES = {
    ("ENOSPC", "EDQUOT"): "make room, or write elsewhere",
    ("EACCES", "EPERM", "EROFS"): "make it accessible, or name another place",
    ("EMFILE", "ENFILE"): "raise the limit of open files (ulimit -n)",
    ("EAGAIN",): _MORE_THREADS,
    ("ENOMEM",): _MORE_MEMORY,
    ("EFBIG",): "raise the limit of file sizes (ulimit -f), or write elsewhere",
    ("EIO", "EUCLEAN"): "the disk or its connection fails: look at the system's log",
    ("ESTALE", "ENOTCONN", "EHOSTDOWN", "ENODEV"): "its file system is gone: mount it again",
    ("ENOENT", "ENOTDIR"): "something was moved or removed: look at the place, and begin again",
    ("ENAMETOOLONG",): "choose a shorter name",
    ("ELOOP",): "links lead in a circle: name the place itself",
}
_REMEDY = {
    getattr(errno, name): remedy
    for names, remedy in _REMEDIES.items()
    for name in names
    if hasattr(errno, name)
}
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)
# Errors that libraries of other languages repeat in words.
_REPEATED = [
    code for name in ("ENOSPC", "EDQUOT", "EMFILE", "EIO", "ESTALE")
    if (code := getattr(errno, name, None)) is not None
]  # fmt: skip


class UserError(ValueError):
    """A request that cannot be carried out as it was made.

    The message is one line that says the rule, what came instead, and the remedy. The command
    line prints it without a traceback and leaves with exit code 2. Where the mistake is at a place
    in a text, ``below`` are further lines that show it. No URL in it has credentials.
    """

    def __init__(self, message: str, *below: str) -> None:
        self.lines = tuple(map(without_credentials, (message, *below)))
        super().__init__("\n".join(self.lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """``known`` names most like ``name``, ready to stand at the end of an error message."""
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {shortened(known)}"


def shortened(names: Iterable[object], limit: int = 8) -> str:
    """``names`` joined by commas, cut after ``limit`` with a count of the rest."""
    listed = [str(name) for name in names]
    rest = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def refuse_no_path(given: object) -> None:
    """Refuse what is neither a path nor a text.

    Raises
    ------
    UserError : it is neither
    """
    if not isinstance(given, str | os.PathLike) or isinstance(given, bytes):
        raise UserError(f"a place is a path, or a URL; got {given!r}: give a text or a Path")


def is_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of the machine or of its GPU."""
    return isinstance(error, MemoryError) or _says(error, _NO_MEMORY)


def is_of_the_device(error: BaseException) -> bool:
    """Whether the GPU has failed."""
    return _says(error, _NO_DEVICE)


def is_of_limits(error: BaseException) -> bool:
    """Whether a limit on open files, threads or processes is the cause, and not what was read."""
    return any(_errno_of(one) in _LIMITS or _says(one, _NO_THREAD) for one in _causes(error))


def fault_of(error: BaseException) -> str | None:
    """Describe an error of the machine in one line, with a remedy; None for any other error.

    Memory, threads, open files, the disk and the GPU count, whichever library raised the error.
    """
    for one in _causes(error):
        code, said = _errno_of(one), first_line(one)
        if is_of_memory(one) or code == errno.ENOMEM:
            return f"out of memory ({said}): {_MORE_MEMORY}"
        if _says(one, _NO_THREAD):
            return f"no thread or process can be started ({said}): {_MORE_THREADS}"
        if is_of_the_device(one):
            return f"the GPU has failed ({said}): look at its log, and use one that works"
        if isinstance(one, OSError) or code is not None:
            place = getattr(one, "filename", None)
            doing = "go on" if place is None else f"read or write {os.fsdecode(place)}"
            return _refused(doing, one)
    return None


class Filled(Protocol):
    """A store or folder that is filled part by part, and knows which parts have to exist."""

    def lost(self) -> str | None:
        """Say which part was removed, as an error message; None if all of them exist."""


@contextmanager
def told_of_the_disk(place: Path | str, draft: Path | str | Filled | None = None) -> Iterator[None]:
    """Say in one line what the file system raises where something is written to ``place``.

    ``draft`` is the folder that is filled until it is moved to ``place``. Where it, or a part of
    it, was removed in the meantime, any kind of error may come of that.

    Raises
    ------
    UserError : the disk is full, the place cannot be written to, or what was written is gone
    """
    try:
        yield
    except Exception as error:
        lost = _lost(draft)
        if lost and lost not in str(error):
            raise UserError(lost) from error
        if isinstance(error, UserError):
            raise
        for one in _causes(error):
            if is_of_memory(one) or _says(one, _NO_THREAD):
                break
            if isinstance(one, OSError) or _errno_of(one) is not None:
                raise UserError(_refused(f"write {place}", one)) from error
        raise


def gone(draft: Path | str, part: str = "") -> str:
    """The message for a draft that was removed, or lost a ``part``."""
    if part:
        return f"{draft} was being filled and {part} of it is gone: begin anew"
    return f"{draft} was being filled and is gone: scan again"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters of it."""
    said = without_credentials(str(error).strip().partition("\n")[0])  # before it is cut
    return said[:200] or type(error).__name__


def _lost(draft: Path | str | Filled | None) -> str | None:
    if draft is None or isinstance(draft, str):  # behind a URL
        return None
    if isinstance(draft, Path):
        return None if os.path.exists(draft) else gone(draft)  # noqa: PTH110  no error of the disk
    return draft.lost()


def _refused(doing: str, error: BaseException) -> str:
    remedy = _REMEDY.get(_errno_of(error) or 0)
    said = getattr(error, "strerror", None) or first_line(error)
    return f"cannot {doing} ({said})" + (f": {remedy}" if remedy else "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, those that it stands for, and those that it was raised from."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*getattr(one, "exceptions", ()), *filter(None, [one.__cause__])]


def _errno_of(error: BaseException) -> int | None:
    """The number of a system's error, also where a library has put it into words."""
    if isinstance(error, OSError):
        return error.errno
    if _says(error, ["Symlink loop"]):  # of pathlib, before Python 3.13
        return errno.ELOOP
    return next((code for code in _REPEATED if _says(error, [os.strerror(code)])), None)


def _says(error: BaseException, signs: Iterable[str]) -> bool:
    return any(sign in str(error) for sign in signs)
