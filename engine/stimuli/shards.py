"""Tar shards in WebDataset's layout, read in place: nothing is extracted.

A member that is an image by its suffix is a stimulus. Its category is said by a file beside it in
the shard with the same name up to the first dot: ``.cls`` (a class, by number or name), ``.json``
(its ``category``, ``label`` or ``cls``) or ``.txt``; or else by the folder that it lies in. Files
of one name stand next to each other, as WebDataset writes them; where they do not, a set is
refused. Archives that were joined into one file are read to its end.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from .archives import files_in
from .columns import LONGEST_TEXT
from .images import LARGEST, SUFFIXES, UnfitStimulus, suffix_of

SHARD = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
# In the order in which they are believed.
_LABELS = (".cls", ".json", ".txt")
_KEYS = ("category", "label", "cls")
_LONGEST_LABEL = 2**20


@dataclass(frozen=True)
class Members:
    """Where stimuli lie in shards: ``shard``, first byte and number of bytes ``[stimulus]``."""

    shards: tuple[Path, ...]
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> Members:
        """Those of the stimuli at these places."""
        return Members(self.shards, self.shard[order], self.start[order], self.size[order])

    def read(self, stimulus: int, path: Path) -> bytes:
        """The content of a stimulus, which is called ``path``.

        Raises
        ------
        UnfitStimulus : it is empty, larger than 1 GiB, or its shard cannot be read or is cut short
        """
        start, size = int(self.start[stimulus]), int(self.size[stimulus])
        if size > LARGEST:
            raise UnfitStimulus(path, f"has {size:,} bytes; at most {LARGEST:,} are read")
        if not size:
            raise UnfitStimulus(path, "is empty")
        try:
            with self.shards[self.shard[stimulus]].open("rb", buffering=0) as shard:
                if not stat.S_ISREG(os.fstat(shard.fileno()).st_mode):
                    raise UnfitStimulus(path, "lies in a shard that is no file any more")
                shard.seek(start)
                content = shard.read(size)
        except OSError as error:
            raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
        if len(content or b"") < size:
            raise UnfitStimulus(path, "lies in a shard that is cut short")
        return bytes(content)


class Found(NamedTuple):
    """An image in a shard, with its category and place."""

    name: str
    category: str
    shard: int
    start: int
    size: int


class Index:
    """The contents of shards, found in one pass over their headers.

    ``others`` counts files whose names are not those of images.

    Raises
    ------
    UserError : a shard is damaged (see :func:`files_in`); a sample has several images or no
        category; labels lie apart from their images
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self.others = 0
        self._kinds = Counter[str]()
        self._places = array("q")
        self._apart = _Apart(self.shards)

    def __iter__(self) -> Iterator[Found]:
        for number, path in enumerate(self.shards):
            for key, sample in groupby(files_in(path), key=lambda one: _key(one.name)):
                for found in self._of_sample(path, number, key, list(sample)):
                    self._places.extend(found[2:])
                    yield found
            self._apart.end_shard(path)
        self._apart.end()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the images, once all were found."""
        said = []
        if self.others:
            said.append(f"passed over {self.others:,} files in shards that are no images")
        if self._apart.by_label and self._apart.by_folder:
            said.append(
                f"{self._apart.by_folder:,} samples in shards have no label beside them, as "
                f"{self._apart.by_label:,} others have: their category is their folder's name"
            )
        if len(self._kinds) > 1:
            counts = ", ".join(f"{self._kinds[s]:,} by {s}" for s in _LABELS if s in self._kinds)
            said.append(f"labels are of several kinds: {counts}")
        return tuple(said)

    def members(self) -> Members:
        """Where all that were found lie, in their order."""
        places = np.frombuffer(self._places, np.int64).reshape(-1, 3)
        return Members(
            self.shards, places[:, 0].astype(np.int32), places[:, 1].copy(), places[:, 2].copy()
        )

    def _of_sample(
        self, path: Path, number: int, key: str, sample: Sequence[tarfile.TarInfo]
    ) -> Iterator[Found]:
        images = [one for one in sample if suffix_of(one.name) in SUFFIXES]
        labels = {suffix_of(one.name): one for one in sample if suffix_of(one.name) in _LABELS}
        kind, category = next((s for s in _LABELS if s in labels), ""), ""
        with nullcontext() if images else suppress(UserError):  # without one, it may be any text
            category = _label(path, labels[kind]) if kind else ""
        self._apart.add(key, images=bool(images), label=bool(category))
        if not images:
            self.others += len(sample)
            return
        if category:
            self._kinds[kind] += 1
        if len(category) > LONGEST_TEXT:
            raise UserError(
                f"a category has at most {LONGEST_TEXT:,} characters; that of {key} in {path} has "
                f"{len(category):,}: shorten it"
            )
        category = category or os.path.dirname(_tidy(images[0].name))  # noqa: PTH120
        if labels and len(images) > 1:
            raise UserError(
                f"a sample has one image; {key} in {path} has "
                f"{shortened(one.name for one in images)}: leave one"
            )
        if not category:
            raise UserError(
                f"every image in a shard has a category; {images[0].name} in {path} has none: put "
                f"a .cls beside it, or both into a folder of the category's name"
            )
        for image in images:
            name = f"{path.name}/{_tidy(image.name)}"
            yield Found(name, category, number, image.offset_data, image.size)


class _Apart:
    """Finds labels that lie apart from their images, by eight bytes of a sample."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards
        self._images, self._labels = array("q"), array("q")  # of samples that have nothing else
        self._whole, self._parts = array("q"), array("q")  # of one shard
        self.by_folder = self.by_label = 0

    def add(self, key: str, *, images: bool, label: bool) -> None:
        """Take note of a sample in the shard that is read."""
        self.by_folder += images and not label
        self.by_label += images and label
        if images and label:
            self._whole.append(hash(key))
        elif images or label:
            self._parts.append(hash(key))
            # Labels may have a folder of their own.
            (self._images if images else self._labels).append(hash(key.rpartition("/")[2]))

    def end_shard(self, path: Path) -> None:
        """Refuse a shard that has a whole sample, and more of it in another place."""
        for mark in _common(self._whole, self._parts):
            self._refuse(next(key for key in _keys(path) if hash(key) == mark), path)
        self._whole, self._parts = array("q"), array("q")

    def end(self) -> None:
        """Refuse images without labels where labels of the same name are without images."""
        for mark in _common(self._images, self._labels):
            for path in self._shards:
                for key in _keys(path):
                    if hash(key.rpartition("/")[2]) == mark:
                        self._refuse(key, path)

    def _refuse(self, key: str, path: Path) -> NoReturn:
        raise UserError(
            f"an image and its label lie next to each other in a shard; those of {key} in {path} "
            "lie apart: make it anew, sorted by name (tar --sort=name)"
        )


def _common(some: array[int], others: array[int]) -> list[int]:
    """The first number that is in both, if there is one."""
    if not some or not others:
        return []
    both = np.intersect1d(np.frombuffer(some, np.int64), np.frombuffer(others, np.int64))
    return [int(mark) for mark in both[:1]]


def _keys(path: Path) -> Iterator[str]:
    return (_key(one.name) for one in files_in(path))


def _label(path: Path, member: tarfile.TarInfo) -> str:
    """The category that a file beside an image says; "" where a JSON says none."""
    if member.size > _LONGEST_LABEL:
        raise UserError(f"a category is a short text; {member.name} in {path} is none: shorten it")
    with path.open("rb") as file:
        file.seek(member.offset_data)
        content = file.read(member.size)
    if len(content) < member.size:
        raise UserError(f"a shard stays as it is while it is read; {path} is cut short: restore it")
    try:
        text = content.decode("utf-8-sig")
        if suffix_of(member.name) != ".json":
            return text.strip()
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            f"a category is UTF-8, or in JSON; {member.name} in {path} is neither: write it anew"
        ) from None
    known = said if isinstance(said, dict) else {}
    values = [known[name] for name in _KEYS if name in known]
    return next((str(v).strip() for v in values if isinstance(v, str | int)), "")


def _key(name: str) -> str:
    """The name up to the first dot of its last part: that of the sample, as WebDataset has it."""
    folder, slash, last = _tidy(name).rpartition("/")
    return folder + slash + last.partition(".")[0]


def _tidy(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
