"""Entries of a folder, and whether a folder can be a category."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .images import SUFFIXES, natural_key, suffix_of

# Folders added by archives, file systems and programs.
_JUNK = frozenset({
    "__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found",
})  # fmt: skip
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})
_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
# Names of unfinished scans, and of stores being replaced.
_UNFINISHED = re.compile(r".\.(partial(-[0-9a-f]{8})?|old)$")


class Entries(NamedTuple):
    """Entries of a folder, without hidden ones (with a leading dot).

    ``images`` have the suffix of an image, in natural order, and are not folders; ``lost`` counts
    the broken links among them. ``links`` are other broken links, and ``others`` the rest.
    """

    images: list[str]
    folders: list[str]
    links: list[str]
    lost: int
    others: list[str]


def entries_of(directory: Path) -> Entries:
    """List the entries of a folder, following links."""
    images: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    others: list[str] = []
    lost = 0
    with os.scandir(directory) as entries:  # ten times as fast as pathlib
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_file = _is(entry.is_file)
            if not is_file and _is(entry.is_dir):
                folders.append(entry.name)
            elif suffix_of(entry.name) in SUFFIXES:
                images.append(entry.name)
                lost += not is_file and entry.is_symlink()
            elif not is_file and entry.is_symlink():
                links.append(entry.name)
            else:
                others.append(entry.name)
    images.sort(key=natural_key)
    return Entries(images, folders, links, lost, others)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a circular link, or one to an inaccessible target
        return False


def image_files(directory: Path) -> list[Path]:
    """Image files directly in a folder; see :class:`Entries`."""
    return [directory / name for name in entries_of(directory).images]


def holds_stimuli(folder: Path) -> bool:
    """Whether a folder could be a category: not a store, not junk, not empty."""
    return not why_not(folder)


def why_not(folder: Path) -> str:
    """Reason why a folder is not a category, or ""; unreadable folders could be categories."""
    if folder.name in _JUNK:
        return "junk"
    if _UNFINISHED.search(folder.name) and not entries_of(folder).images:
        return "unfinished"
    if any(os.path.isfile(f"{folder}/{name}") for name in _ZARR):  # noqa: PTH113 - raises nothing
        return "zarr"
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries)
            empty = all(name.startswith(".") or name.lower() in _JUNK_FILES for name in names)
    except OSError:
        return ""
    return "empty" if empty else ""
