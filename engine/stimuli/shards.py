"""Tar shards in WebDataset's layout, read in place: nothing is extracted.

A member that is an image by its suffix is a stimulus. Its category is said by a file beside it in
the shard with the same name up to the first dot: ``.cls`` (a class, by number or name), ``.json``
(its ``category``, ``label`` or ``cls``) or ``.txt``; or else by the folder that it lies in. Files
of one name stand next to each other, as WebDataset writes them.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from .images import LARGEST, SUFFIXES, UnfitStimulus, suffix_of

SHARD = ".tar"
# In the order in which they are believed.
_LABELS = (".cls", ".json", ".txt")
_KEYS = ("category", "label", "cls")
_LONGEST_LABEL = 2**20
_BLOCK = 512


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
    """What shards hold, found in one pass over their headers; ``others`` are no images by name."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self.others = 0
        self._places = array("q")

    def __iter__(self) -> Iterator[Found]:
        for number, path in enumerate(self.shards):
            for key, sample in groupby(_files(path), key=lambda one: _key(one.name)):
                for found in self._of_sample(path, number, key, list(sample)):
                    self._places.extend(found[2:])
                    yield found

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
        if not images:
            self.others += len(sample)
            return
        category = os.path.dirname(_tidy(images[0].name))  # noqa: PTH120
        for suffix in _LABELS:
            if suffix in labels:
                category = _label(path, labels[suffix]) or category
                break
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


def _files(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files in a shard, hidden ones aside, one header at a time.

    Raises
    ------
    UserError : it is no tar, is damaged or cut short, or holds links, devices or sparse files
    """
    try:
        with tarfile.open(path, "r:", errors="surrogateescape") as tar:
            while (one := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                if one.isdir() or os.path.basename(one.name).startswith("."):  # noqa: PTH119
                    continue
                if not one.isreg() or one.sparse is not None or one.size < 0:
                    raise UserError(
                        f"shards hold plain files; {one.name} in {path} is a link, a device or "
                        "sparse: leave it out"
                    )
                yield one
            _require_end(path, tar.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"shards are tar files, not compressed; {path} is none or damaged ({reason}): make it "
            "anew"
        ) from None


def _require_end(path: Path, place: int) -> None:
    """Refuse a tar that does not end in a block of zeros where its members end.

    Python's reader stops at a header that is none as if there were no more.
    """
    with path.open("rb") as file:
        file.seek(place)
        block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise tarfile.ReadError("it is cut short")
    if any(block):
        raise tarfile.ReadError(f"no header at byte {place:,}")


def _label(path: Path, member: tarfile.TarInfo) -> str:
    """The category that a file beside an image says; "" where a JSON says none."""
    if member.size > _LONGEST_LABEL:
        raise UserError(f"a category is a short text; {member.name} in {path} is none: shorten it")
    with path.open("rb") as file:
        file.seek(member.offset_data)
        content = file.read(member.size)
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
