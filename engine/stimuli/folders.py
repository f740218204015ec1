"""Stimulus sets in folders: a folder per category, or tar shards.

Everything in the folder is either a stimulus or named in a note.
"""

from __future__ import annotations

import os
import posixpath
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from .arrays.named import ARRAYS
from .columns import Texts
from .entries import Entries, entries_of, holds_stimuli, why_not
from .images import natural_key
from .listing import Listing, Source, refuse_repeated, rows_by_category
from .paths import FilesByName
from .shards import COMPRESSED, SHARD, Index

# Names of broken links to files, and their targets in git-annex.
_FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_ANNEXED = re.compile(r"annex[/\\]objects")


def list_folders(given: Source) -> Listing | None:
    """Images of every category folder; folders that groups name may be nested."""
    source = given.path
    if not source.is_dir():
        return None
    top, files = entries_of(source), FilesByName(source)
    notes: list[str] = []
    in_groups = {files.find(posixpath.normpath(name)) for name in given.named}
    folders, gone = _categories(source, top, in_groups, notes)
    rows: dict[str, NDArray[np.int64]] = {}

    def names() -> Iterator[str]:
        listed = 0
        for folder in folders:
            if folder in gone:
                images = [folder]  # the broken link stands for the missing stimuli
                yield folder
            else:
                try:
                    found = entries_of(source / folder)
                except OSError:
                    if not in_groups or folder in in_groups:
                        raise
                    continue  # no group names it
                images = found.images
                yield from (f"{folder}/{image}" for image in images)
                if not in_groups or folder in in_groups:
                    notes.extend(_of_category(source, folder, found, in_groups))
            rows[folder] = np.arange(listed, listed := listed + len(images))

    return Listing(source, Texts.of(names()), rows, tuple(notes))


def shards_in(source: Path) -> list[Path]:
    """Shards of a folder; none if it has folders that could be categories.

    Raises
    ------
    UserError : the folder has compressed archives, and neither shards nor arrays
    """
    shards, compressed = shard_paths(source), _compressed(source)
    if (shards or compressed) and any(
        holds_stimuli(source / name) for name in entries_of(source).folders
    ):
        return []
    if compressed and not shards and not _arrays(source):
        _refuse_compressed(source, compressed)
    return shards


def list_shards(given: Source) -> Listing | None:
    """Images of shards in their order; categories in natural order.

    Raises
    ------
    UserError : see :class:`.shards.Index`; a shard that lists a name twice; compressed archives
    """
    source = given.path
    if source.is_dir():
        shards = shards_in(source)
        return _list_shards(source, shards, beside_shards(source)) if shards else None
    if source.name.lower().endswith(COMPRESSED) and source.is_file():
        _refuse_compressed(source.parent, [source.name])
    if source.suffix.lower() == SHARD and source.is_file():
        return _list_shards(source.parent, [source])
    return None


def _list_shards(base: Path, shards: Sequence[Path], notes: Iterable[str] = ()) -> Listing:
    index, known = Index(shards), dict[str, int]()
    numbers, marks = array("i"), array("q")

    def names() -> Iterator[str]:
        for found in index:
            numbers.append(known.setdefault(found.category, len(known)))
            marks.append(hash(found.name))
            yield found.name

    listed = Texts.of(names())
    refuse_repeated(listed, marks, "a shard holds every name once")
    rows = rows_by_category(known, np.frombuffer(numbers, np.int32))
    return Listing(
        base,
        listed,
        {category: rows[category] for category in sorted(rows, key=natural_key)},
        (*notes, *index.notes),
        images=index.members(),
    )


def _refuse_compressed(source: Path, names: Collection[str]) -> NoReturn:
    """Raise for stimuli in compressed archives."""
    raise UserError(
        f"shards are uncompressed tar files; {source} has {shortened(names, 3)}: decompress them "
        f"to {SHARD} (gunzip, bunzip2, unxz, unzstd)"
    )


def beside_shards(source: Path) -> Iterator[str]:
    """Notes on other files beside shards, which are not shown."""
    top = entries_of(source)
    for names, what in (
        (top.images, "images"),
        (top.links, "broken links"),
        (_compressed(source), f"compressed archives (decompress them to {SHARD})"),
        (_arrays(source), "files of arrays"),
    ):
        if names:
            yield f"passed over {len(names):,} {what} beside the shards: {shortened(names, 3)}"


def shard_paths(source: Path) -> list[Path]:
    """Tar files of a folder in natural order, including broken links."""
    paths = (path for path in source.iterdir() if path.suffix.lower() == SHARD)
    shards = [path for path in paths if not path.name.startswith(".") and not path.is_dir()]
    return sorted(shards, key=lambda path: natural_key(path.name))


def _compressed(source: Path) -> list[str]:
    return _with_suffix(source, COMPRESSED)


def _arrays(source: Path) -> list[str]:
    return _with_suffix(source, ARRAYS)


def _with_suffix(source: Path, suffixes: tuple[str, ...]) -> list[str]:
    names = (path.name for path in source.iterdir() if path.name.lower().endswith(suffixes))
    return sorted((name for name in names if not name.startswith(".")), key=natural_key)


def archives_in(folder: Path) -> list[str]:
    """Names of shards and compressed archives in a folder; none if it cannot be read."""
    try:
        return [*(path.name for path in shard_paths(folder)), *_compressed(folder)]
    except (OSError, ValueError):
        return []


def _categories(
    source: Path, top: Entries, in_groups: Collection[str], notes: list[str]
) -> tuple[list[str], set[str]]:
    """Category folders, and those of them that are broken links."""
    passed = {name: why for name in top.folders if name not in in_groups
              and (why := why_not(source / name))}  # fmt: skip
    gone = {*gone_folders(source, top), *(name for name in top.links if name in in_groups)}
    folders = sorted(gone.union(top.folders) - set(passed), key=natural_key)
    deep = sorted(name for name in in_groups if "/" in name)
    folders += [name for name in deep if (source / name).is_dir()]
    lost = {name for name in deep if name not in folders and (source / name).is_symlink()}
    folders += sorted(lost)
    if not in_groups:
        notes += _beside(source, top, passed, set(top.links) - gone)
        notes += [f"{name}: the folder is a broken link" for name in sorted(gone)]
    return folders, gone | lost


def gone_folders(source: Path, top: Entries) -> list[str]:
    """Broken links to folders among the entries ``top`` of ``source``."""
    return sorted(name for name in top.links if not _leads_to_file(source / name))


def _leads_to_file(link: Path) -> bool:
    """Whether a broken link was one to a file, judged by its name and target."""
    try:
        target = str(link.readlink())
    except OSError:
        target = ""
    return bool(_FILE_NAME.search(link.name) or _ANNEXED.search(target))


def _beside(
    source: Path, top: Entries, passed: dict[str, str], links: Collection[str]
) -> Iterator[str]:
    """Notes on other files and folders beside the category folders."""
    reasons = [f"{name} ({why})" for name, why in passed.items() if why != "unfinished"]
    if reasons:
        yield f"passed over folders that are not categories: {shortened(sorted(reasons))}"
    if links:
        yield f"passed over broken links: {shortened(sorted(links))}"
    for names, what in (
        (top.images, "images outside the category folders"),
        ([path.name for path in shard_paths(source)], f"{SHARD} files beside the folders"),
        (_compressed(source), "compressed archives beside the folders"),
        (_arrays(source), "files of arrays beside the folders"),
    ):
        if names:
            yield f"passed over {len(names):,} {what}: {shortened(names, 3)}"


def _of_category(
    source: Path, folder: str, found: Entries, in_groups: Collection[str]
) -> Iterator[str]:
    """Notes on entries of a category folder that are not shown or missing."""
    if found.lost:
        yield f"{folder}: {found.lost:,} images are broken links"
    if found.others:
        others = sorted(found.others, key=natural_key)
        named = shortened(others, 3)
        yield f"{folder}: passed over {len(others):,} files that are not images by name: {named}"
    if found.links:
        yield f"{folder}: passed over broken links: {shortened(sorted(found.links))}"
    if found.folders:
        yield from _deeper(source, folder, found, in_groups)


def _deeper(source: Path, folder: str, found: Entries, in_groups: Collection[str]) -> Iterator[str]:
    """Notes on images in subfolders of a category folder."""
    deeper: dict[str, int] = {}
    unread: list[str] = []
    real = (source / folder).resolve()
    seen = {str(path) for start in (real, source.resolve()) for path in (start, *start.parents)}
    _count(source, _inside(folder, str(real), found), in_groups, seen, deeper, unread)
    if deeper:
        counts = shortened((f"{path} ({count:,})" for path, count in deeper.items()), 4)
        more = ",..." if len(deeper) > 1 else ""
        yield (
            f"{folder}: passed over {sum(deeper.values()):,} images in subfolders: {counts}; "
            f"`groups` adds them ({folder}={folder},{next(iter(deeper))}{more}), and must name "
            "every other category too"
        )
    if unread:
        yield f"{folder}: subfolders cannot be read: {shortened(unread)}"


def _count(
    source: Path,
    inside: Iterator[tuple[str, str]],
    in_groups: Collection[str],
    seen: set[str],
    deeper: dict[str, int],
    unread: list[str],
) -> None:
    """Count the images of all nested folders, each folder once, into ``deeper``.

    Not recursive: folders may be nested deeper than Python's recursion limit.
    """
    waiting = [inside]
    while waiting:
        folder, real = next(waiting[-1], ("", ""))
        if not folder:
            waiting.pop()
            continue
        path = source / folder
        real = os.path.realpath(path) if path.is_symlink() else real
        if folder in in_groups or real in seen:
            continue
        seen.add(real)
        try:
            if not holds_stimuli(path):
                continue
            found = entries_of(path)
        except OSError:
            unread.append(folder)
            continue
        if found.images:
            deeper[folder] = len(found.images)
        waiting.append(_inside(folder, real, found))


def _inside(folder: str, real: str, found: Entries) -> Iterator[tuple[str, str]]:
    """Subfolders and their real paths (before links are resolved)."""
    for name in sorted(found.folders, key=natural_key):
        yield f"{folder}/{name}", os.path.join(real, name)  # noqa: PTH118
