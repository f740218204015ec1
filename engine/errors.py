"""User errors, and system errors described in one line."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from .urls import without_credentials

# Phrases by which libraries report that memory or threads ran out, or that a GPU failed.
_NO_MEMORY = (
    *("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("Unable to allocate", "bad_alloc", "failed to map segment"),
)
_NO_THREAD = ("can't start new thread", "Resource temporarily unavailable")
_NO_DEVICE = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")
_MORE_MEMORY = "ask for less at once, or continue on a machine with more"
_MORE_THREADS = (
    "raise the limit of processes and threads (ulimit -u) or of memory (ulimit -v), or ask for "
    "fewer workers"
)
# Remedies by the names of system errors.
_REMEDIES = {
    ("ENOSPC", "EDQUOT"): "make room, or write elsewhere",
    ("EACCES", "EPERM", "EROFS"): "make it accessible, or choose another path",
    ("EMFILE", "ENFILE"): "raise the limit of open files (ulimit -n)",
    ("EAGAIN",): _MORE_THREADS,
    ("ENOMEM",): _MORE_MEMORY,
    ("EFBIG",): "raise the limit of file sizes (ulimit -f), or write elsewhere",
    ("EIO", "EUCLEAN"): "the disk or its connection is failing: see the system log",
    ("ESTALE", "ENOTCONN", "EHOSTDOWN", "ENODEV"): "its file system is gone: mount it again",
    ("ENOENT", "ENOTDIR"): "something was moved or removed: check the path, and start again",
    ("ENAMETOOLONG",): "choose a shorter name",
    ("ELOOP",): "the links form a loop: name the file or folder itself",
}
_REMEDY = {
    getattr(errno, name): remedy
    for names, remedy in _REMEDIES.items()
    for name in names
    if hasattr(errno, name)
}
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)
# Errors that non-Python libraries report as text.
_REPEATED = [
    code for name in ("ENOSPC", "EDQUOT", "EMFILE", "EIO", "ESTALE")
    if (code := getattr(errno, name, None)) is not None
]  # fmt: skip


class UserError(ValueError):
    """A request that cannot be carried out as given.

    The message is one line: the rule, what came instead, and the remedy. The command line prints it
    without a traceback and exits with code 2. Credentials are removed from URLs.

    Parameters
    ----------
    message : str
        The line.
    *below : str
        For a mistake within a text, lines that point at it.

    Attributes
    ----------
    lines : tuple of str
        The message and the lines below it.

    Examples
    --------
    >>> try:
    ...     fusiform.Design(folds=0)
    ... except fusiform.UserError as error:
    ...     print(error)
    folds and batch size are at least 1; got 0 and 32
    """

    def __init__(self, message: str, *below: str) -> None:
        self.lines = tuple(map(without_credentials, (message, *below)))
        super().__init__("\n".join(self.lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """The ``known`` names closest to ``name``, as the end of an error message."""
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {shortened(known)}"


def shortened(names: Iterable[object], limit: int = 8) -> str:
    """``names`` joined by commas, cut after ``limit`` with a count of the rest."""
    listed = [str(name) for name in names]
    rest = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def require_path(given: object) -> None:
    """Raise a ``UserError`` unless ``given`` is a string or path."""
    if not isinstance(given, str | os.PathLike) or isinstance(given, bytes):
        came = " ".join(repr(given).split())[:80]
        raise UserError(f"a location is a path or a URL; got {came}: give a string or a Path")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or its GPU has run out of memory."""
    return isinstance(error, MemoryError) or _says(error, _NO_MEMORY)


def is_device_failure(error: BaseException) -> bool:
    """Whether the GPU has failed."""
    return _says(error, _NO_DEVICE)


def is_resource_limit(error: BaseException) -> bool:
    """Whether the cause is a limit on open files, threads or processes."""
    return any(_errno_of(one) in _LIMITS or _says(one, _NO_THREAD) for one in _causes(error))


def describe_failure(error: BaseException) -> str | None:
    """Describe a failure of the machine in one line, with a remedy; None for any other error.

    Covers memory, threads, open files, the disk and the GPU, whichever library raised the error.
    """
    for one in _causes(error):
        code, reason = _errno_of(one), first_line(one)
        if is_out_of_memory(one) or code == errno.ENOMEM:
            return f"out of memory ({reason}): {_MORE_MEMORY}"
        if _says(one, _NO_THREAD):
            return f"cannot start a thread or process ({reason}): {_MORE_THREADS}"
        if is_device_failure(one):
            return f"the GPU has failed ({reason}): see its log, and use one that works"
        if isinstance(one, OSError) or code is not None:
            path = getattr(one, "filename", None)
            action = "continue" if path is None else f"read or write {os.fsdecode(path)}"
            return _cannot(action, one)
    return None


class Filled(Protocol):
    """A store or folder that is filled part by part, and knows which parts must exist."""

    def lost(self) -> str | None:
        """Error message for a part that was removed; None if all parts exist."""


@contextmanager
def explain_disk_errors(
    place: Path | str, draft: Path | str | Filled | None = None
) -> Iterator[None]:
    """Turn file system errors while ``place`` is written into one-line user errors.

    ``draft`` is the folder that is filled before it moves to ``place``. If it or a part of it was
    removed in the meantime, any kind of error may follow.

    Raises
    ------
    UserError : the disk is full, ``place`` cannot be written to, or the draft is gone
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
            if is_out_of_memory(one) or _says(one, _NO_THREAD):
                break
            if isinstance(one, OSError) or _errno_of(one) is not None:
                raise UserError(_cannot(f"write {place}", one)) from error
        raise


@contextmanager
def users_code(explain: Callable[[str, str], str]) -> Iterator[None]:
    """Run a user's code without stdin, and turn its error into one line.

    Parameters
    ----------
    explain : makes the line from the type of the error, and from its text and place

    Raises
    ------
    UserError : the code raised an error that is not the machine's fault, or exited
    """
    stdin = sys.stdin
    try:
        with Path(os.devnull).open() as sys.stdin:
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if describe_failure(error):
            raise
        *_, last = traceback.extract_tb(error.__traceback__)
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise UserError(explain(type(error).__name__, f"{first_line(error)}; {place}")) from error
    finally:
        sys.stdin = stdin


def draft_removed(draft: Path | str, part: str = "") -> str:
    """Error message for a draft that was removed, or lost a ``part``."""
    if part:
        return f"{draft} was being filled and its {part} is gone: start again"
    return f"{draft} was being filled and is gone: scan again"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters."""
    line = without_credentials(str(error).strip().partition("\n")[0])
    return line[:200] or type(error).__name__


def _lost(draft: Path | str | Filled | None) -> str | None:
    if draft is None or isinstance(draft, str):  # a URL
        return None
    if isinstance(draft, Path):
        return None if os.path.exists(draft) else draft_removed(draft)  # noqa: PTH110  raises no disk error
    return draft.lost()


def _cannot(action: str, error: BaseException) -> str:
    remedy = _REMEDY.get(_errno_of(error) or 0)
    reason = getattr(error, "strerror", None) or first_line(error)
    return f"cannot {action} ({reason})" + (f": {remedy}" if remedy else "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, the errors it groups, and those it was raised from."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*getattr(one, "exceptions", ()), *filter(None, [one.__cause__])]


def _errno_of(error: BaseException) -> int | None:
    """Number of a system error, also one that a library reports as text."""
    if isinstance(error, OSError):
        return error.errno
    if _says(error, ["Symlink loop"]):  # pathlib, before Python 3.13
        return errno.ELOOP
    return next((code for code in _REPEATED if _says(error, [os.strerror(code)])), None)


def _says(error: BaseException, phrases: Iterable[str]) -> bool:
    return any(phrase in str(error) for phrase in phrases)
