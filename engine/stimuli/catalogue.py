"""The catalogue: which images are shown, in which category, in an order that is the same anywhere.

A stimulus set is a folder with one folder per category, or a CSV manifest with the columns ``path``
and ``category``. Groups join and choose folders (or manifest categories) under a new name.

Names may hold anything that a file system takes: they are kept as they are to open files by, and
as storable text (see :func:`storable`) to be written and shown.
"""

from __future__ import annotations

import csv
import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest, shortened
from .images import UnfitStimulus, image_files, natural_key, read_header, read_stimulus

Groups = Mapping[str, Sequence[str]]
# Stimuli that a thread reads at a time: a job for each would be a gigabyte for a million.
_AT_ONCE = 64


class Content(NamedTuple):
    """What reading a stimulus once found.

    ``sha256`` is "" where it cannot be read; ``problem`` is "" where nothing speaks against
    showing it, otherwise one short reason without the path.
    """

    sha256: str
    problem: str


@dataclass(frozen=True)
class Catalogue:
    """A labelled, ordered set of stimuli.

    ``names`` are paths relative to ``root``, ``labels [stimulus]`` index into ``categories``, and
    stimuli of one category stand together, in the order of ``categories``. ``notes`` say what was
    passed over. Categories and notes are storable text; names become so as ``shown_names``.
    """

    root: Path
    categories: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int32]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, stimulus: int) -> Path:
        """Where the image lies."""
        return self.root / self.names[stimulus]

    @cached_property
    def shown_names(self) -> tuple[str, ...]:
        """Names as the store keeps them."""
        return tuple(map(storable, self.names))

    @cached_property
    def contents(self) -> tuple[Content, ...]:
        """What every stimulus holds: each file is read once, and its header looked at."""
        starts = range(0, len(self), _AT_ONCE)
        with ThreadPoolExecutor() as pool:
            return tuple(found for part in pool.map(self._read, starts) for found in part)

    def chosen(self, stimuli: NDArray[np.int64]) -> Catalogue:
        """The catalogue of these stimuli, whose contents are known."""
        names = tuple(self.names[stimulus] for stimulus in stimuli)
        part = replace(self, names=names, labels=self.labels[stimuli], notes=())
        part.__dict__["contents"] = tuple(self.contents[stimulus] for stimulus in stimuli)
        return part

    def _read(self, start: int) -> list[Content]:
        return [_content(self.path(i)) for i in range(start, min(start + _AT_ONCE, len(self)))]


def _content(path: Path) -> Content:
    try:
        content = read_stimulus(path)
    except UnfitStimulus as unfit:
        return Content("", unfit.reason)
    digest = hashlib.sha256(content).hexdigest()
    try:
        read_header(path, content)
    except UnfitStimulus as unfit:
        return Content(digest, unfit.reason)
    return Content(digest, "")


def storable(name: str) -> str:
    r"""``name`` as text that UTF-8 can hold: bytes that are not UTF-8 become ``\xe9``."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", _escape, name)
    return name


def _escape(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    # How Python passes on a byte that is not UTF-8; the others are Windows' own.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def read_catalogue(
    source: Path | str, groups: Groups | None = None, root: Path | str | None = None
) -> Catalogue:
    """The catalogue of a stimulus set.

    Stimuli of a manifest lie in its folder. What a path (``..``, or absolute) or a link leads to
    outside of it is refused, since a list that someone else made could otherwise name any file of
    this machine; ``root`` allows it within another folder. Links in a folder are followed: to
    arrange a set out of links is common, and no text file makes them.

    Parameters
    ----------
    source : a folder that holds one folder of images per category, or a ``.csv`` manifest with the
        columns ``path`` (relative to the manifest, or absolute) and ``category``
    groups : new category -> the folders (or manifest categories) it joins; where given, only what
        it names is used, in its order
    root : a folder in which stimuli of a manifest may lie as well

    Raises
    ------
    UserError : source missing, unreadable or of neither kind, fewer than two categories, a category
        without images, a group that names an unknown folder or one that another group has already,
        a stimulus that a manifest lists outside of its folder and ``root``, a name with a NUL in it
    """
    source = Path(source)
    try:
        if source.is_dir():
            groups = groups and _tidied(groups)
            members, notes = _folders(source, groups)
            base = source
        elif source.suffix.lower() == ".csv" and source.is_file():
            members, notes = _manifest(source)
            base = source.parent
        else:
            state = "is neither" if source.exists() else "does not exist"
            raise UserError(
                f"stimuli are a folder with a folder per category, or a .csv; {source} {state}"
            )
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot read the stimuli in {error.filename or source} ({reason}): make it readable"
        ) from None
    if groups is not None:
        members = _join(members, groups, source)
    _refuse_unusable(members, source)
    labels = np.repeat(np.arange(len(members), dtype=np.int32), [len(v) for v in members.values()])
    names = tuple(name for listed in members.values() for name in listed)
    if root is not None and not Path(root).is_dir():
        raise UserError(f"stimuli lie in a folder; --root {root} is none: name another")
    if base != source:
        _refuse_outside(base, names, root)
    categories = tuple(map(storable, members))
    return Catalogue(base, categories, names, labels, tuple(map(storable, notes)))


def _refuse_unusable(members: Mapping[str, Sequence[str]], source: Path) -> None:
    if len(members) < 2:
        raise UserError(
            f"a contrast needs two or more categories; {source} has "
            f"{shortened(members) or 'none'}: make one folder per category, or name folders with "
            "--group"
        )
    for category, names in members.items():
        if not names:
            raise UserError(
                f"a category needs images; {category} in {source} has none: add some, remove it, "
                "or choose others with --group"
            )
        if any("\0" in name for name in (category, *names)):
            raise UserError(f"a name has no NUL in it; one of {category!a} has: take it out")
    alike = [name for name, count in Counter(map(storable, members)).items() if count > 1]
    if alike:
        raise UserError(
            f"categories differ in name; two of {source} are both written {alike[0]}: rename one"
        )


def _refuse_outside(base: Path, names: Sequence[str], root: Path | str | None) -> None:
    allowed = [os.path.realpath(place) for place in (base, root) if place is not None]
    outside = _outside(base, names, allowed)
    first = next(outside, None)
    if first is not None:
        more = sum(1 for _ in outside)
        raise UserError(
            f"stimuli of a manifest lie in its folder; {first} leads out of "
            f"{base if root is None else f'{base} and {root}'}, "
            f"and so do {more:,} more: copy them in, or name a folder that holds them with --root"
        )


def _outside(base: Path, names: Sequence[str], allowed: Sequence[str]) -> Iterator[str]:
    """Those of ``names`` that lead out of ``allowed``: one look per folder, one per stimulus."""

    def within(path: str) -> bool:
        real = os.path.realpath(path)
        return any(os.path.commonpath([real, place]) == place for place in allowed)

    known: dict[str, bool] = {}
    for name in names:  # by os.path: pathlib takes ten times as long
        folder, last = os.path.split(os.path.join(base, name))  # noqa: PTH118
        if folder not in known:
            known[folder] = within(folder)
        path = os.path.join(folder, last)  # noqa: PTH118
        odd = last in ("", ".", "..") or os.path.islink(path)  # noqa: PTH114
        if not (within(path) if odd else known[folder]):
            yield name


def _tidied(groups: Groups) -> Groups:
    """Each folder by the one name it is listed under: ``a/`` and ``./a`` are ``a``."""
    return {category: [posixpath.normpath(f) for f in given] for category, given in groups.items()}


def _folders(source: Path, groups: Groups | None) -> tuple[dict[str, list[str]], list[str]]:
    """Every category folder's image names; the folders that groups name may lie deeper."""
    folders = [p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith(".")]
    folders.sort(key=natural_key)
    chosen = {name for joined in groups.values() for name in joined} if groups else set(folders)
    folders += sorted(name for name in chosen if "/" in name and (source / name).is_dir())
    members, notes = {}, []
    for folder in folders:
        files = image_files(source / folder)
        members[folder] = [f"{folder}/{file.name}" for file in files]
        others = sum(not p.name.startswith(".") for p in (source / folder).iterdir()) - len(files)
        if others and folder in chosen:
            notes.append(f"{source / folder}: passed over {others} that are no image files by name")
    return members, notes


def _manifest(source: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Image names per category, both in the order in which the manifest lists them."""
    members: dict[str, list[str]] = {}
    seen: set[str] = set()
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if not {"path", "category"} <= set(rows.fieldnames or ()):
                found = shortened(rows.fieldnames or ()) or "none"
                raise UserError(
                    f"a manifest has the columns path and category; {source} has {found}"
                )
            for row in rows:
                path, category = (row["path"] or "").strip(), (row["category"] or "").strip()
                if not path or not category:
                    raise UserError(
                        f"every row of a manifest needs a path and a category; {source} line "
                        f"{rows.line_num} has {path or 'no path'}, {category or 'no category'}"
                    )
                if posixpath.normpath(path) in seen:
                    raise UserError(
                        f"a manifest lists a stimulus once; {source} line {rows.line_num} lists "
                        f"{path} again: remove it"
                    )
                seen.add(posixpath.normpath(path))
                members.setdefault(category, []).append(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"a manifest is CSV in UTF-8; {source} is not ({error})") from None
    return members, []


def _join(members: dict[str, list[str]], groups: Groups, source: Path) -> dict[str, list[str]]:
    owner: dict[str, str] = {}
    for category, folders in groups.items():
        for folder in folders:
            if folder not in members:
                raise UserError(
                    f"a group joins categories of {source}; --group {category} names {folder!r}: "
                    f"{nearest(folder, members)}"
                )
            if folder in owner:
                raise UserError(
                    f"a stimulus has one category; {folder} is in --group {owner[folder]} and in "
                    f"--group {category}: take it out of one"
                )
            owner[folder] = category
    return {
        category: [name for folder in folders for name in members[folder]]
        for category, folders in groups.items()
    }
