"""Temporary folders beside an output, and clearing those that killed runs left.

Only folders that carry the mark are touched, and links are never followed::

    NAME.partial            the draft, which outlives its run; marked
    NAME.partial-0123abcd   the scratch folder of one run, locked while the run lives:
        .made-by-fusiform       the mark
        new                     the new output, until it is renamed to NAME
        draft                   the complete NAME.partial, until it is renamed to NAME
        old                     the previous NAME, until the new one is in place

The next run that writes NAME clears scratch folders that are not locked: ``draft`` and ``old`` move
back unless something has taken their places; the rest is removed, the mark last.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .disk import flush_path, locked
from .errors import UserError, describe_failure, explain_disk_errors

MARK = ".made-by-fusiform"
NEW = "new"
_DRAFT, _OLD, _GONE = "draft", "old", "gone"
# Lists the files that are being moved into an existing folder.
_MOVING = "moving.json"
# Without locks, a scratch folder counts as a leftover after this many seconds: while it is filled,
# and while it is published, which takes a few renames.
_FILLED, _PUBLISHED = 7 * 86400, 60


def draft_path(final: Path) -> Path:
    """Path of the draft of a store in a folder."""
    return final.with_name(f"{final.name}.partial")


def resolve_output(output: Path) -> Path:
    """Path of an output with its links followed.

    Raises
    ------
    UserError : the links form a loop, or the name is not valid
    """
    try:
        final = Path(os.path.realpath(output))
        is_loop = final.is_symlink()
    except OSError as error:
        raise UserError(describe_failure(error) or str(error)) from None
    except ValueError as error:  # a zero, or half of a surrogate pair
        raise UserError(
            f"{str(output)!r} is not a valid file name ({error}): choose another"
        ) from None
    if not final.name:
        raise UserError(f"an output has a name; got {output}: name one in it")
    if is_loop:
        raise UserError(f"links must lead to a path; {output} is a loop of links: name another")
    return final


def is_ours(folder: Path) -> bool:
    """Whether a folder is marked, or empty and not yet marked; False for links."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    mark = folder / MARK
    try:
        marked = mark.is_file() and not mark.is_symlink()
        return marked or not any(folder.iterdir())
    except OSError:  # unreadable
        return False


def mark(folder: Path) -> None:
    """Mark a folder as made by fusiform. A kill may leave an empty mark, which counts too."""
    if not (folder / MARK).exists():
        text = _mark_opening(folder) + b" removes or resumes it once its output is complete.\n"
        (folder / MARK).write_bytes(text)


def _mark_opening(folder: Path) -> bytes:
    return b"fusiform made this folder, %s, and" % os.fsencode(folder.name)


def unmark(folder: Path) -> None:
    """Remove the mark."""
    (folder / MARK).unlink(missing_ok=True)


def is_bare(folder: Path) -> bool:
    """Whether a marked folder holds only its mark."""
    return is_ours(folder) and all(path.name == MARK for path in folder.iterdir())


def empty(folder: Path) -> None:
    """Remove everything in a marked folder except the mark."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def remove(folder: Path) -> None:
    """Remove a marked folder, its mark last: if something cannot be removed, the mark stays."""
    empty(folder)
    unmark(folder)
    folder.rmdir()


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which :func:`publish` renames to ``final``.

    It has the user's default permissions, and is removed unless it is published.
    """
    with ExitStack() as stack:
        folder = _locked_folder(final, stack)
        try:
            mark(folder)
            new = folder / NEW
            new.mkdir()
            yield new
        except BaseException:
            with suppress(OSError):
                _settle(folder, final)
            raise
        try:
            _settle(folder, final)
        except OSError as error:
            raise UserError(
                f"{final} is complete, but its temporary folder cannot be removed "
                f"({error.strerror or error}): remove {folder}"
            ) from error


def publish(new: Path, final: Path, replace: bool = False) -> None:
    """Rename the new output in a scratch folder to ``final``.

    With ``replace`` an existing output makes way: except between two renames, one of them is always
    in place.
    """
    old = new.with_name(_OLD)
    if os.path.lexists(final):
        if not replace:
            raise FileExistsError(errno.EEXIST, "it exists now", str(final))
        final.rename(old)
    new.rename(final)
    flush_path(final.parent)
    if old.exists():
        old.rename(new.with_name(_GONE))  # a half-removed output must not move back


def publish_draft(final: Path, replace: bool = False) -> None:
    """Publish the draft beside ``final``, without its mark.

    If it is killed, the next run finds the draft and moves it back.
    """
    with scratch(final) as new:
        draft = new.with_name(_DRAFT)
        draft_path(final).rename(draft)
        unmark(draft)
        publish(draft, final, replace)


@contextmanager
def fill_folder(output: Path, refusal: UserError) -> Iterator[Path]:
    """Yield a new folder to fill; its contents move to ``output`` when the context ends.

    An empty ``output`` folder is kept with its permissions: it may be the working folder or a mount
    point. After an error nothing is left.

    Raises
    ------
    UserError : ``refusal``, if ``output`` is not a new or empty folder; it cannot be written to
    """
    final = resolve_output(output)
    within = final / "set"
    with explain_disk_errors(output):
        tidy(final)
        if final.is_dir():
            tidy(within)
        if os.path.lexists(final) and (not final.is_dir() or any(final.iterdir())):
            raise refusal
        made = [folder for folder in final.parents if not folder.exists()]
        if made:
            final.parent.mkdir(parents=True)
        try:
            if final.is_dir():
                with scratch(within) as new:
                    yield new
                    _spread(new, final)
            else:
                with scratch(final) as new:
                    yield new
                    publish(new, final)
        except BaseException:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            raise


def tidy(final: Path) -> None:
    """Clear the leftovers of killed runs that wrote ``final``."""
    for folder in _scratch_folders(final):
        # The folder may be in use, already cleared by another program, or not ours to remove.
        with suppress(OSError), locked(folder) as lock:
            publishing = (folder / _DRAFT).exists() or (folder / _OLD).exists()
            age = time.time() - folder.lstat().st_mtime
            if lock.held or age > (_PUBLISHED if publishing else _FILLED):
                _settle(folder, final)


def pending_publication(final: Path) -> tuple[Path | None, Path | None]:
    """Paths of the draft and the earlier output during, or after, an interrupted publication."""
    draft = old = None
    for folder in _scratch_folders(final):
        draft = folder / _DRAFT if (folder / _DRAFT).exists() else draft
        old = folder / _OLD if (folder / _OLD).exists() else old
    return draft, old


def _scratch_folders(final: Path) -> list[Path]:
    ours = re.compile(re.escape(final.name) + r"\.partial-[0-9a-f]{8}")
    try:
        named = [path for path in final.parent.iterdir() if ours.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(filter(_is_scratch, named))


def _is_scratch(folder: Path) -> bool:
    """Whether this is a scratch folder, not a user's copy of one or of a draft."""
    if not is_ours(folder):
        return False
    try:
        names = {path.name for path in folder.iterdir()}
        text = (folder / MARK).read_bytes() if MARK in names else b""
    except OSError:  # another program is clearing it
        return False
    opening = _mark_opening(folder)
    if names <= {MARK} and opening.startswith(text):  # a kill may have cut the mark short
        return True
    return text.startswith(opening) and names <= {MARK, NEW, _DRAFT, _OLD, _GONE, _MOVING}


def _locked_folder(final: Path, stack: ExitStack) -> Path:
    while True:
        folder = final.with_name(f"{final.name}.partial-{uuid4().hex[:8]}")
        folder.mkdir()
        try:
            stack.enter_context(locked(folder))
        except (FileNotFoundError, BlockingIOError):  # another program cleared it before the lock
            continue
        except OSError:
            folder.rmdir()
            raise
        return folder


def _settle(folder: Path, final: Path) -> None:
    """Move back an unpublished draft or output, and remove a scratch folder."""
    draft, old, target = folder / _DRAFT, folder / _OLD, draft_path(final)
    if draft.exists():
        if os.path.lexists(target):  # cannot happen while one program at a time fills it
            return
        mark(draft)
        draft.rename(target)
    if old.exists():
        old.rename(folder / _GONE if os.path.lexists(final) else final)
    _gather(folder)
    remove(folder)


def _spread(new: Path, final: Path) -> None:
    names = sorted(path.name for path in new.iterdir())
    new.with_name(_MOVING).write_text(json.dumps(names))
    for name in names:
        if os.path.lexists(final / name):
            raise FileExistsError(errno.EEXIST, "it exists now", str(final / name))
        (new / name).rename(final / name)
    flush_path(final)


def _gather(folder: Path) -> None:
    """Undo an interrupted move into a folder; a complete one stays."""
    new = folder / NEW
    try:
        names = json.loads((folder / _MOVING).read_text())
        left = {path.name for path in new.iterdir()}
    except (OSError, ValueError):  # the list is incomplete: nothing was moved yet
        return
    for name in names if left else ():
        if name not in left and os.path.lexists(folder.with_name(name)):
            folder.with_name(name).rename(new / name)
