"""The catalogue: which images are shown, in which category, in an order that is the same anywhere.

A stimulus set is a folder with one folder per category, or a CSV manifest with the columns ``path``
and ``category``. Groups join and choose folders (or manifest categories) under a new name.
"""

from __future__ import annotations

import csv
import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest, shortened
from .images import check_header, image_files, natural_key

Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Catalogue:
    """A labelled, ordered set of stimuli.

    ``names`` are paths relative to ``root`` (as the store shows them), ``labels [stimulus]`` index
    into ``categories``, and stimuli of one category stand together, in the order of ``categories``.
    ``notes`` say what was passed over.
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
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of every file's content. Reads each file once and checks that it is an image.

        Raises
        ------
        UserError : naming the first files that cannot be read or are not images
        """
        with ThreadPoolExecutor() as pool:
            return tuple(pool.map(self._hash, range(len(self))))

    def _hash(self, stimulus: int) -> str:
        path = self.path(stimulus)
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot read {path} ({reason}): restore or remove it") from None
        check_header(path, content)
        return hashlib.sha256(content).hexdigest()


def read_catalogue(source: Path | str, groups: Groups | None = None) -> Catalogue:
    """The catalogue of a stimulus set.

    Parameters
    ----------
    source : a folder that holds one folder of images per category, or a ``.csv`` manifest with the
        columns ``path`` (relative to the manifest, or absolute) and ``category``
    groups : new category -> the folders (or manifest categories) it joins; where given, only what
        it names is used, in its order

    Raises
    ------
    UserError : source missing, unreadable or of neither kind, fewer than two categories, a category
        without images, a group that names an unknown folder or one that another group has already,
        a name that is not UTF-8
    """
    source = Path(source)
    try:
        if source.is_dir():
            groups = groups and _tidied(groups)
            members, notes = _folders(source, groups)
            root = source
        elif source.suffix.lower() == ".csv" and source.is_file():
            members, notes = _manifest(source)
            root = source.parent
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
    labels = np.repeat(np.arange(len(members), dtype=np.int32), [len(v) for v in members.values()])
    shown = tuple(name for listed in members.values() for name in listed)
    _require_unicode([*members, *shown])
    return Catalogue(root, tuple(members), shown, labels, tuple(notes))


def _tidied(groups: Groups) -> Groups:
    """Each folder by the one name it is listed under: ``a/`` and ``./a`` are ``a``."""
    return {category: [posixpath.normpath(f) for f in given] for category, given in groups.items()}


def _require_unicode(names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"the store keeps names in UTF-8; {name!a} is not: rename it") from None


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
