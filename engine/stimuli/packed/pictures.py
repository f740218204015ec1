"""Pictures of a packed set, read one by one."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...preprocessing import Preprocessing
from ..images import UnfitStimulus
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

    def read(self, stimulus: int, path: Path) -> NDArray[np.uint8]:
        """Picture ``[y, x, channel]`` of a stimulus; errors name it by ``path``.

        Raises
        ------
        UnfitStimulus : its file is missing, truncated, unreadable or damaged (by its checksum)
        """
        crop = self.preprocessing.crop
        of_file = per_shard(crop, self.number)
        shard, slot = divmod(int(self.row[stimulus]), of_file)
        file = shard_path(self.folder, shard)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise UnfitStimulus(path, "is in a packed file that is not a regular file")
            with file.open("rb", buffering=0) as opened:
                content = _picture(opened, of_file, slot, crop * crop * 3)
        except OSError as error:
            raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
        if content is None:
            raise UnfitStimulus(path, "is damaged in its packed set, by its checksum")
        return np.frombuffer(content, np.uint8).reshape(crop, crop, 3)

    def as_file(self, stimulus: int, path: Path) -> bytes:
        """Picture of a stimulus as a PNM file; see :meth:`read`."""
        side = self.preprocessing.crop
        return b"P6 %d %d 255\n" % (side, side) + self.read(stimulus, path).tobytes()

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


def _picture(file: FileIO, of_file: int, slot: int, size: int) -> bytes | None:
    """Bytes of a picture; None if the file is damaged."""
    end = file.seek(0, 2) - of_file * INDEX_ENTRY - CHECKSUM
    if end < 0:
        return None
    file.seek(end)
    index = _read(file, of_file * INDEX_ENTRY)
    if index is None:
        return None
    start, length = np.frombuffer(index, "<u8", 2, slot * INDEX_ENTRY).tolist()
    if length != size + CHECKSUM or start + length > end:
        return None
    file.seek(start)
    return _read(file, size)


def _read(file: FileIO, length: int) -> bytes | None:
    """The next bytes of a file; None if their checksum does not match."""
    content = file.read(length)
    return content if content and checksum_of(content) == file.read(CHECKSUM) else None
