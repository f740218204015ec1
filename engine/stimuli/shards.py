"""Tar shards in WebDataset's layout, read in place without extraction.

A member with the suffix of an image is a stimulus. Its category is in a file with the same name up
to the first dot: ``.cls`` (a class number or name), ``.json`` (``category``, ``label`` or ``cls``)
or ``.txt``. Without such a file, its folder is its category. Files of a sample must be next to each
other, as WebDataset writes them.
"""

from __future__ import annotations

import json
import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from .columns import LONGEST_TEXT
from .images import SUFFIXES, read_part, read_stimulus, suffix_of
from .listing import renumbered
from .tar_headers import files_in

SHARD = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
# In order of precedence.
_LABELS = (".cls", ".json", ".txt")
_KEYS = ("category", "label", "cls")
_LONGEST_LABEL = 2**20


@dataclass(frozen=True)
class Members:
    """Locations of stimuli in shards: ``shard``, first byte and number of bytes ``[stimulus]``.

    Those of shard -1 are files of their own.
    """

    shards: tuple[Path, ...]
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> Members:
        """Locations of the stimuli in ``order``, with their shards alone."""
        used, shard = renumbered(self.shard[order])
        shards = tuple(self.shards[number] for number in used)
        return Members(shards, shard, self.start[order], self.size[order])

    def read(self, stimulus: int, path: Path) -> bytes:
        """Content of a stimulus; see :func:`.images.read_part`."""
        shard = int(self.shard[stimulus])
        if shard < 0:
            return read_stimulus(path)
        start, size = int(self.start[stimulus]), int(self.size[stimulus])
        return read_part(self.shards[shard], start, size, path)

    def absolute(self) -> Members:
        """The same with absolute paths."""
        return replace(self, shards=tuple(path.absolute() for path in self.shards))


class Found(NamedTuple):
    """An image in a shard, with its category and location."""

    name: str
    category: str
    shard: int
    start: int
    size: int


class Index:
    """Images of shards, found in one pass over their headers.

    ``others`` counts files that are not images by name.

    Raises
    ------
    UserError : a damaged shard (see :func:`files_in`), a sample with several images or no category,
        or labels that are not next to their images
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self.others = 0
        self._kinds = Counter[str]()
        self._locations = array("q")
        self._apart = _Apart(self.shards)

    def __iter__(self) -> Iterator[Found]:
        for number, path in enumerate(self.shards):
            for key, sample in groupby(files_in(path), key=lambda one: _key(one.name)):
                for found in self._of_sample(path, number, key, list(sample)):
                    self._locations.extend(found[2:])
                    yield found
            self._apart.end_shard(path)
        self._apart.end()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the images, after iteration."""
        notes = []
        if self.others:
            notes.append(f"passed over {self.others:,} files in shards that are not images")
        if self._apart.by_label and self._apart.by_folder:
            notes.append(
                f"{self._apart.by_folder:,} samples in shards have no label file, while "
                f"{self._apart.by_label:,} have one: their folder's name is their category"
            )
        if len(self._kinds) > 1:
            counts = ", ".join(f"{self._kinds[s]:,} by {s}" for s in _LABELS if s in self._kinds)
            notes.append(f"labels are of several kinds: {counts}")
        return tuple(notes)

    def members(self) -> Members:
        """Locations of all images, in order, after iteration."""
        found = np.frombuffer(self._locations, np.int64).reshape(-1, 3)
        return Members(
            self.shards, found[:, 0].astype(np.int32), found[:, 1].copy(), found[:, 2].copy()
        )

    def _of_sample(
        self, path: Path, number: int, key: str, sample: Sequence[tarfile.TarInfo]
    ) -> Iterator[Found]:
        images = [one for one in sample if suffix_of(one.name) in SUFFIXES]
        labels = {suffix_of(one.name): one for one in sample if suffix_of(one.name) in _LABELS}
        kind, category = next((s for s in _LABELS if s in labels), ""), ""
        with nullcontext() if images else suppress(UserError):  # any text file, if no image
            category = _label(path, labels[kind]) if kind else ""
        self._apart.add(key, images=bool(images), label=bool(category))
        if not images:
            self.others += len(sample)
            return
        if category:
            self._kinds[kind] += 1
        if len(category) > LONGEST_TEXT:
            raise UserError(
                f"a category has at most {LONGEST_TEXT:,} characters; the one of {key} in {path} "
                f"has {len(category):,}: shorten it"
            )
        category = category or os.path.dirname(_tidy(images[0].name))  # noqa: PTH120
        if labels and len(images) > 1:
            raise UserError(
                f"a sample has one image; {key} in {path} has "
                f"{shortened(one.name for one in images)}: keep one"
            )
        if not category:
            raise UserError(
                f"every image in a shard has a category; {images[0].name} in {path} has none: add "
                "a .cls file beside it, or move it to a folder named after its category"
            )
        for image in images:
            name = f"{path.name}/{_tidy(image.name)}"
            yield Found(name, category, number, image.offset_data, image.size)


class _Apart:
    """Finds labels that are not next to their images; keeps a hash of eight bytes per sample."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards
        self._images, self._labels = array("q"), array("q")  # samples with only one of them
        self._whole, self._parts = array("q"), array("q")  # samples of the current shard
        self.by_folder = self.by_label = 0

    def add(self, key: str, *, images: bool, label: bool) -> None:
        """Register a sample of the current shard."""
        self.by_folder += images and not label
        self.by_label += images and label
        if images and label:
            self._whole.append(hash(key))
        elif images or label:
            self._parts.append(hash(key))
            # Without the folder: labels may have their own.
            (self._images if images else self._labels).append(hash(key.rpartition("/")[2]))

    def end_shard(self, path: Path) -> None:
        """Raise if the shard has a complete sample and another part of it elsewhere."""
        for mark in _common(self._whole, self._parts):
            self._refuse(next(key for key in _keys(path) if hash(key) == mark), path)
        self._whole, self._parts = array("q"), array("q")

    def end(self) -> None:
        """Raise if an image without label has the name of a label without image."""
        for mark in _common(self._images, self._labels):
            for path in self._shards:
                for key in _keys(path):
                    if hash(key.rpartition("/")[2]) == mark:
                        self._refuse(key, path)

    def _refuse(self, key: str, path: Path) -> NoReturn:
        raise UserError(
            f"an image and its label are next to each other in a shard; those of {key} in {path} "
            "are not: create it again, sorted by name (tar --sort=name)"
        )


def _common(some: array[int], others: array[int]) -> list[int]:
    """The first number in both, as a list; empty if there is none."""
    if not some or not others:
        return []
    both = np.intersect1d(np.frombuffer(some, np.int64), np.frombuffer(others, np.int64))
    return [int(mark) for mark in both[:1]]


def _keys(path: Path) -> Iterator[str]:
    return (_key(one.name) for one in files_in(path))


def _label(path: Path, member: tarfile.TarInfo) -> str:
    """Category in a label file; "" if a JSON file has none."""
    if member.size > _LONGEST_LABEL:
        raise UserError(f"a category is a short text; {member.name} in {path} is not: shorten it")
    with path.open("rb") as file:
        file.seek(member.offset_data)
        content = file.read(member.size)
    if len(content) < member.size:
        raise UserError(f"a shard must not change during reading; {path} is cut short: restore it")
    try:
        text = content.decode("utf-8-sig")
        if suffix_of(member.name) != ".json":
            return text.strip()
        content_json: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            f"a category is UTF-8 text or JSON; {member.name} in {path} is neither: write it again"
        ) from None
    known = content_json if isinstance(content_json, dict) else {}
    values = [known[name] for name in _KEYS if name in known]
    return next((str(v).strip() for v in values if isinstance(v, str | int)), "")


def _key(name: str) -> str:
    """Name of a member's sample: up to the first dot of its last part, as in WebDataset."""
    folder, slash, last = _tidy(name).rpartition("/")
    return folder + slash + last.partition(".")[0]


def _tidy(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
