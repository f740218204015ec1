"""Folders beside an output while it is made or replaced, and how leftovers are cleared.

Nothing there is touched unless it carries our mark; links are never followed::

    NAME.partial            a draft that outlives its run, and carries the mark
    NAME.partial-0123abcd   the scratch folder of one run, which is locked while that lives:
        .made-by-fusiform       the mark
        new                     what is made, until it is renamed to NAME
        draft                   NAME.partial, from when it is whole until it is renamed to NAME
        old                     what NAME was, until the new one is there

The next run that writes NAME clears scratch folders that are not locked: ``draft`` and ``old`` go
back if nothing has taken their places, and all else is removed, the mark last.
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

from .disk import locked, synchronised
from .errors import UserError, fault_of, told_of_the_disk

MARK = ".made-by-fusiform"
NEW = "new"
_DRAFT, _OLD, _GONE = "draft", "old", "gone"
# The names of what is moved into a folder that was there before, until all of it is.
_MOVING = "moving.json"
# Seconds after which a scratch folder is taken for a leftover where there are no locks: one that is
# filled, and one from which something is published, which takes the blink of some renames.
_FILLED, _PUBLISHED = 7 * 86400, 60


def draft_place(final: Path) -> Path:
    """Where a store that is to be a folder lies until its scan has come to its end."""
    return final.with_name(f"{final.name}.partial")


def resolved(output: Path) -> Path:
    """Where an output comes to stand: links are followed.

    Raises
    ------
    UserError : they lead to themselves, or no output can have such a name
    """
    try:
        final = Path(os.path.realpath(output))
        is_loop = final.is_symlink()
    except OSError as error:
        raise UserError(fault_of(error) or str(error)) from None
    except ValueError as error:  # a zero, or half of a surrogate pair
        raise UserError(f"no file can be called {str(output)!r} ({error}): name another") from None
    if not final.name:
        raise UserError(f"an output has a name; got {output}: name one in it")
    if is_loop:
        raise UserError(f"a path must lead somewhere; {output} is a loop of links: name another")
    return final


def is_ours(folder: Path) -> bool:
    """Whether a folder carries our mark, or is empty, as before it is marked; a link never is."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    mark = folder / MARK
    try:
        marked = mark.is_file() and not mark.is_symlink()
        return marked or not any(folder.iterdir())
    except OSError:  # not for us to read
        return False


def mark(folder: Path) -> None:
    """Say in a folder that it is ours. A kill may leave this empty: it counts all the same."""
    if not (folder / MARK).exists():
        (folder / MARK).write_bytes(_said_of(folder))


def _said_of(folder: Path) -> bytes:
    return (
        b"fusiform made this folder, %s, and removes it, or goes on with it, when what it is made "
        b"for is whole.\n" % os.fsencode(folder.name)
    )


def unmark(folder: Path) -> None:
    """Take the mark away."""
    (folder / MARK).unlink(missing_ok=True)


def is_bare(folder: Path) -> bool:
    """Whether nothing but a mark is in a folder of ours."""
    return is_ours(folder) and all(path.name == MARK for path in folder.iterdir())


def empty(folder: Path) -> None:
    """Remove what is in a folder of ours, but for its mark."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def remove(folder: Path) -> None:
    """Remove a folder of ours, its mark last: what cannot be removed stays, marked."""
    empty(folder)
    unmark(folder)
    folder.rmdir()


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """Give a new folder to fill, for :func:`publish` to rename to ``final``.

    With the permissions that the user's folders have. Without publication nothing is left of it.
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
                f"{final} is whole, but what is left of its making cannot be removed "
                f"({error.strerror or error}): remove {folder}"
            ) from error


def publish(new: Path, final: Path, replace: bool = False) -> None:
    """Rename what was made in a scratch folder to ``final``, for good.

    With ``replace`` what is there makes way: there is one or the other at all times, but for the
    blink of two renames.
    """
    old = new.with_name(_OLD)
    if os.path.lexists(final):
        if not replace:
            raise FileExistsError(errno.EEXIST, "it is there now", str(final))
        final.rename(old)
    new.rename(final)
    synchronised(final.parent)
    if old.exists():
        old.rename(new.with_name(_GONE))  # so that half of it never comes back


def publish_draft(final: Path, replace: bool = False) -> None:
    """Publish the draft that lies beside ``final``, without its mark.

    A kill before that is done leaves it where the next run finds it, and puts it back.
    """
    with scratch(final) as new:
        draft = new.with_name(_DRAFT)
        draft_place(final).rename(draft)
        unmark(draft)
        publish(draft, final, replace)


@contextmanager
def filling(output: Path, refusal: UserError) -> Iterator[Path]:
    """Give a new folder to fill; what is in it stands in ``output`` when the context ends.

    An empty folder that is there stays, with its permissions: it may be the working one, or a mount
    point. After an error nothing is left.

    Raises
    ------
    UserError : the ``refusal``, of what is not a new or empty folder; it cannot be written to
    """
    final = resolved(output)
    within = final / "set"
    with told_of_the_disk(output):
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
        # In use, cleared by another program, or not for us to remove.
        with suppress(OSError), locked(folder) as lock:
            publishing = (folder / _DRAFT).exists() or (folder / _OLD).exists()
            age = time.time() - folder.lstat().st_mtime
            if lock.held or age > (_PUBLISHED if publishing else _FILLED):
                _settle(folder, final)


def waiting(final: Path) -> tuple[Path | None, Path | None]:
    """Where the draft and the earlier output are while a publication is, or was, under way."""
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
    """Whether this is a scratch folder, and not a copy of one, or of a draft, of the user's."""
    if not is_ours(folder):
        return False
    try:
        names = {path.name for path in folder.iterdir()}
        said = (folder / MARK).read_bytes() if MARK in names else b""
    except OSError:  # another program clears it
        return False
    if names <= {MARK}:  # a kill may have torn the mark
        return _said_of(folder).startswith(said)
    return said == _said_of(folder) and names <= {MARK, NEW, _DRAFT, _OLD, _GONE, _MOVING}


def _locked_folder(final: Path, stack: ExitStack) -> Path:
    while True:
        folder = final.with_name(f"{final.name}.partial-{uuid4().hex[:8]}")
        folder.mkdir()
        try:
            stack.enter_context(locked(folder))
        except (FileNotFoundError, BlockingIOError):  # taken for a leftover before it was locked
            continue
        except OSError:
            folder.rmdir()
            raise
        return folder


def _settle(folder: Path, final: Path) -> None:
    """Move back what was not published, and remove a scratch folder."""
    draft, old, there = folder / _DRAFT, folder / _OLD, draft_place(final)
    if draft.exists():
        if os.path.lexists(there):  # never so while one program at a time fills it
            return
        mark(draft)
        draft.rename(there)
    if old.exists():
        old.rename(folder / _GONE if os.path.lexists(final) else final)
    _gather(folder)
    remove(folder)


def _spread(new: Path, final: Path) -> None:
    names = sorted(path.name for path in new.iterdir())
    new.with_name(_MOVING).write_text(json.dumps(names))
    for name in names:
        if os.path.lexists(final / name):
            raise FileExistsError(errno.EEXIST, "it is there now", str(final / name))
        (new / name).rename(final / name)
    synchronised(final)


def _gather(folder: Path) -> None:
    """Take back what was moved into a folder, unless all of it was."""
    new = folder / NEW
    try:
        names = json.loads((folder / _MOVING).read_text())
        left = {path.name for path in new.iterdir()}
    except (OSError, ValueError):  # torn: nothing was moved
        return
    for name in names if left else ():
        if name not in left and os.path.lexists(folder.with_name(name)):
            folder.with_name(name).rename(new / name)
