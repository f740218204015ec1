"""Stimulus sets that are a folder with a folder per category.

Nothing that lies there is left out without a word: it is a stimulus, or a note names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from .bounds import FilesByName
from .columns import Texts
from .images import Entries, entries_of, natural_key
from .listing import Listing
from .shards import COMPRESSED, SHARD

# Folders that archives, file systems and programs add by themselves.
_JUNK = frozenset({
    "__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found",
})  # fmt: skip
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})
_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
# What a scan that was stopped, or a store that is replaced, is called meanwhile.
_UNDER_WAY = re.compile(r".\.(partial(-[0-9a-f]{8})?|old)$")
# How a link that leads nowhere is called, or what git-annex has it lead to, if that is a file.
_FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_ANNEXED = re.compile(r"annex[/\\]objects")


def list_folders(source: Path, named: Collection[str]) -> Listing:
    """Every category folder's images; the folders that groups have ``named`` may lie deeper."""
    top, files = entries_of(source), FilesByName(source)
    notes: list[str] = []
    asked = {files.find(name) for name in named}
    folders, gone = _categories(source, top, asked, notes)
    rows: dict[str, NDArray[np.int64]] = {}

    def names() -> Iterator[str]:
        listed = 0
        for folder in folders:
            if folder in gone:
                images = [folder]  # the link itself stands for stimuli that are not there
                yield folder
            else:
                try:
                    found = entries_of(source / folder)
                except OSError:
                    if not asked or folder in asked:
                        raise
                    continue  # no group names it
                images = found.images
                yield from (f"{folder}/{image}" for image in images)
                if not asked or folder in asked:
                    notes.extend(_of_category(source, folder, found, asked))
            rows[folder] = np.arange(listed, listed := listed + len(images))

    return Listing(Texts.of(names()), rows, tuple(notes))


def shards_in(source: Path) -> list[Path]:
    """The shards of a folder that has no folders which could be categories.

    Raises
    ------
    UserError : it has compressed archives instead
    """
    shards, compressed = shard_paths(source), _compressed(source)
    if (shards or compressed) and any(
        holds_stimuli(source / name) for name in entries_of(source).folders
    ):
        return []
    if compressed and not shards:
        refuse_compressed(source, compressed)
    return shards


def refuse_compressed(source: Path, names: Collection[str]) -> NoReturn:
    """Refuse stimuli that are nothing but compressed archives."""
    raise UserError(
        f"shards are tar files that are not compressed; {source} has {shortened(names, 3)}: "
        f"decompress to {SHARD} (gunzip, bunzip2, unxz, unzstd)"
    )


def beside_shards(source: Path) -> Iterator[str]:
    """Notes on what lies beside shards and is not shown."""
    top = entries_of(source)
    for names, what in (
        (top.images, "images"),
        (top.links, "links that lead nowhere"),
        (_compressed(source), f"compressed archives (decompress them to {SHARD})"),
    ):
        if names:
            yield f"passed over {len(names):,} {what} beside the shards: {shortened(names, 3)}"


def shard_paths(source: Path) -> list[Path]:
    """The tar files of a folder, in natural order; a link that leads nowhere is one of them."""
    paths = (path for path in source.iterdir() if path.suffix.lower() == SHARD)
    shards = [path for path in paths if not path.name.startswith(".") and not path.is_dir()]
    return sorted(shards, key=lambda path: natural_key(path.name))


def _compressed(source: Path) -> list[str]:
    names = (path.name for path in source.iterdir() if path.name.lower().endswith(COMPRESSED))
    return sorted((name for name in names if not name.startswith(".")), key=natural_key)


def archives_in(folder: Path) -> list[str]:
    """The names of shards, and of compressed ones, in a folder; none if it cannot be read."""
    try:
        return [*(path.name for path in shard_paths(folder)), *_compressed(folder)]
    except (OSError, ValueError):
        return []


def holds_stimuli(folder: Path) -> bool:
    """Whether a folder could be a category: it is no store, no junk, and not empty."""
    return not _why_not(folder)


def _why_not(folder: Path) -> str:
    """Why a folder is no category; "" if it could be one, as one could that cannot be read."""
    if folder.name in _JUNK:
        return "junk"
    if _UNDER_WAY.search(folder.name) and not entries_of(folder).images:
        return "unfinished"
    if any(os.path.isfile(folder / name) for name in _ZARR):  # noqa: PTH113 - raises nothing
        return "zarr"
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries)
            empty = all(name.startswith(".") or name.lower() in _JUNK_FILES for name in names)
    except OSError:
        return ""
    return "empty" if empty else ""


def _categories(
    source: Path, top: Entries, asked: Collection[str], notes: list[str]
) -> tuple[list[str], set[str]]:
    """Category folders, and those of them that are links to folders which are not there."""
    passed = {name: why for name in top.folders if name not in asked
              and (why := _why_not(source / name))}  # fmt: skip
    gone = {*gone_folders(source, top), *(name for name in top.links if name in asked)}
    folders = sorted(gone.union(top.folders) - set(passed), key=natural_key)
    deep = sorted(name for name in asked if "/" in name)
    folders += [name for name in deep if (source / name).is_dir()]
    lost = {name for name in deep if name not in folders and (source / name).is_symlink()}
    folders += sorted(lost)
    if not asked:
        notes += _beside(source, top, passed, set(top.links) - gone)
        notes += [f"{name}: the folder is a link that leads nowhere" for name in sorted(gone)]
    return folders, gone | lost


def gone_folders(source: Path, top: Entries) -> list[str]:
    """Links in ``source``, where ``top`` lies, to folders that are not there."""
    return sorted(name for name in top.links if not _leads_to_file(source / name))


def _leads_to_file(link: Path) -> bool:
    """Whether a link that leads nowhere was one to a file, as far as names tell."""
    try:
        target = str(link.readlink())
    except OSError:
        target = ""
    return bool(_FILE_NAME.search(link.name) or _ANNEXED.search(target))


def _beside(
    source: Path, top: Entries, passed: dict[str, str], links: Collection[str]
) -> Iterator[str]:
    """Notes on what lies beside the category folders."""
    told = [f"{name} ({why})" for name, why in passed.items() if why != "unfinished"]
    if told:
        yield f"passed over folders that are no categories: {shortened(sorted(told))}"
    if links:
        yield f"passed over links that lead nowhere: {shortened(sorted(links))}"
    for names, what in (
        (top.images, "images that lie in no category's folder"),
        ([path.name for path in shard_paths(source)], f"{SHARD} files beside the folders"),
        (_compressed(source), "compressed archives beside the folders"),
    ):
        if names:
            yield f"passed over {len(names):,} {what}: {shortened(names, 3)}"


def _of_category(
    source: Path, folder: str, found: Entries, asked: Collection[str]
) -> Iterator[str]:
    """Notes on what lies in a category's folder and is not shown, or not there."""
    if found.lost:
        yield f"{folder}: {found.lost:,} images are links that lead nowhere"
    if found.others:
        yield f"{folder}: passed over {found.others} that are no image files by name"
    if found.links:
        yield f"{folder}: passed over links that lead nowhere: {shortened(sorted(found.links))}"
    deeper: dict[str, int] = {}
    unread: list[str] = []
    real = (source / folder).resolve()
    seen = {str(place) for start in (real, source.resolve()) for place in (start, *start.parents)}
    _count(source, _inside(folder, str(real), found), asked, seen, deeper, unread)
    if deeper:
        places = shortened((f"{place} ({count:,})" for place, count in deeper.items()), 4)
        more = ",..." if len(deeper) > 1 else ""
        yield (
            f"{folder}: passed over {sum(deeper.values()):,} images in folders in it: {places}; "
            f"--group {folder}={folder},{next(iter(deeper))}{more} takes them, "
            "with a --group for each other category"
        )
    if unread:
        yield f"{folder}: folders in it cannot be read: {shortened(unread)}"


def _count(
    source: Path,
    inside: Iterator[tuple[str, str]],
    asked: Collection[str],
    seen: set[str],
    deeper: dict[str, int],
    unread: list[str],
) -> None:
    """Count the images in folders and those in them, each folder once, into ``deeper``.

    They may lie in each other deeper than functions may call themselves.
    """
    waiting = [inside]
    while waiting:
        folder, real = next(waiting[-1], ("", ""))
        if not folder:
            waiting.pop()
            continue
        place = source / folder
        real = os.path.realpath(place) if place.is_symlink() else real
        if folder in asked or real in seen:
            continue
        seen.add(real)
        try:
            if not holds_stimuli(place):
                continue
            found = entries_of(place)
        except OSError:
            unread.append(folder)
            continue
        if found.images:
            deeper[folder] = len(found.images)
        waiting.append(_inside(folder, real, found))


def _inside(folder: str, real: str, found: Entries) -> Iterator[tuple[str, str]]:
    """The folders in one, each with where it really is unless it is a link."""
    for name in sorted(found.folders, key=natural_key):
        yield f"{folder}/{name}", os.path.join(real, name)  # noqa: PTH118
