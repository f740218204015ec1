"""Pictures of a packed set, read into memory of the caller."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...preprocessing import Preprocessing
from ..images import UnfitStimulus, as_pnm
from .layout import CHECKSUM, INDEX_ENTRY, checksum_of, per_shard, prepared, shard_path


@dataclass(frozen=True)
class Pictures:
    """Pictures of stimuli in a packed set; ``row [stimulus]`` is their row in its array.

    They are preprocessed except for mean and standard deviation. ``number`` is that of all pictures
    in the set.
    """

    folder: Path
    preprocessing: Preprocessing
    number: int
    row: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> Pictures:
        """Pictures of the stimuli in ``order``."""
        return replace(self, row=self.row[order])

    def fill(
        self, pictures: NDArray[np.uint8], stimuli: NDArray[np.int64]
    ) -> Iterator[tuple[int, str]]:
        """Read the pictures of ``stimuli`` into ``pictures [stimulus, y, x, channel]``.

        Yields the positions of those that cannot be shown, and why: missing, truncated, unreadable
        or damaged (by its checksum). A file of several is opened once.
        """
        of_file = per_shard(self.preprocessing.crop, self.number)
        shards, slots = np.divmod(self.row[stimuli], of_file)
        for shard in np.unique(shards).tolist():
            own = np.flatnonzero(shards == shard).tolist()
            path = shard_path(self.folder, shard)
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    yield from ((i, "is in a packed file that is not a regular file") for i in own)
                    continue
                file = path.open("rb", buffering=0)
            except OSError as error:
                yield from ((i, _unreadable(error)) for i in own)
                continue
            with file:
                read = _Reader(file, of_file)
                for i in own:
                    try:
                        if not read(pictures[i], int(slots[i])):
                            yield i, "is damaged in its packed set, by its checksum"
                    except OSError as error:
                        yield i, _unreadable(error)

    def picture(self, stimulus: int, path: Path) -> NDArray[np.uint8]:
        """Picture ``[y, x, channel]`` of a stimulus; errors name it by ``path``.

        Raises
        ------
        UnfitStimulus : see :meth:`fill`
        """
        side = self.preprocessing.crop
        picture = np.empty((side, side, 3), np.uint8)
        for _, reason in self.fill(picture[None], np.array([stimulus])):
            raise UnfitStimulus(path, reason)
        return picture

    def read(self, stimulus: int, path: Path) -> bytes:
        """Picture of a stimulus as a PNM file; see :meth:`picture`."""
        picture = self.picture(stimulus, path)
        return as_pnm(picture.tobytes(), *picture.shape)

    def absolute(self) -> Pictures:
        """The same with an absolute path."""
        return replace(self, folder=self.folder.absolute())

    def lost(self) -> dict[int, str]:
        """Stimuli whose files are missing or truncated, and which of the two."""
        of_file = per_shard(self.preprocessing.crop, self.number)
        shards = self.row // of_file
        least = of_file * INDEX_ENTRY + CHECKSUM
        size = self.preprocessing.crop**2 * 3 + CHECKSUM
        found: dict[int, str] = {}
        for shard in np.unique(shards).tolist():
            file = shard_path(self.folder, shard)
            held = min(of_file, self.number - shard * of_file)
            if not file.is_file():
                reason = "is in a packed file that is missing"
            elif file.stat().st_size < held * size + least:
                reason = "is in a packed file that is cut short"
            else:
                continue
            found.update(dict.fromkeys(np.flatnonzero(shards == shard).tolist(), reason))
        return found

    def refuse_other(self, preprocessing: Preprocessing, network: str) -> None:
        """Raise if the network needs other pictures.

        Raises
        ------
        UserError : ``preprocessing`` resizes or crops differently, or names a decoder
        """
        if preprocessing.decoder != self.preprocessing.decoder:
            raise UserError(
                f"packed pictures are already decoded, by Pillow; {self.folder} has nothing for "
                f"{preprocessing.decoder} to decode: leave out `decoder`"
            )
        if prepared(preprocessing) != prepared(self.preprocessing):
            raise UserError(
                f"packed pictures must have the network's preprocessing; {self.folder} has "
                f"{self.preprocessing.geometry}, and {network} takes {preprocessing.geometry}: "
                "pack the set again for this network, or override the network's with `resize`, "
                "`crop` and `interpolation`"
            )


class _Reader:
    """Reads pictures of a file whose index says where they are."""

    def __init__(self, file: FileIO, of_file: int) -> None:
        self._file = file.fileno()
        self._index: NDArray[np.uint8] | None = np.empty(of_file * INDEX_ENTRY, np.uint8)
        self._end = file.seek(0, 2) - of_file * INDEX_ENTRY - CHECKSUM
        if self._end < 0 or not self._chunk(self._index, self._end):
            self._index = None

    def __call__(self, picture: NDArray[np.uint8], slot: int) -> bool:
        """Read the picture in a slot; whether it is whole."""
        if self._index is None:
            return False
        start, length = np.frombuffer(self._index, "<u8", 2, slot * INDEX_ENTRY).tolist()
        if length != picture.size + CHECKSUM or start + length > self._end:
            return False
        return self._chunk(picture, start)

    def _chunk(self, content: NDArray[np.uint8], start: int) -> bool:
        """Read bytes and their checksum; whether they match."""
        expected = bytearray(CHECKSUM)
        read = os.preadv(self._file, [content.data, expected], start)
        return read == content.size + CHECKSUM and checksum_of(content) == expected


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"
