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
    """Pictures of stimuli in a packed set: ``row [stimulus]`` is their place in its array.

    Of ``preprocessing`` they have all but mean and standard deviation; ``number`` are packed.
    """

    folder: Path
    preprocessing: Preprocessing
    number: int
    row: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> Pictures:
        """Those of the stimuli at these places."""
        return replace(self, row=self.row[order])

    def read(self, stimulus: int, path: Path) -> NDArray[np.uint8]:
        """The picture ``[y, x, channel]`` of a stimulus, which is called ``path``.

        Raises
        ------
        UnfitStimulus : its file is missing, cut short, cannot be read, or holds something else than
            was written, by its checksum
        """
        crop = self.preprocessing.crop
        of_file = per_shard(crop, self.number)
        shard, place = divmod(int(self.row[stimulus]), of_file)
        file = shard_path(self.folder, shard)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise UnfitStimulus(path, "lies in a packed file that is none")
            with file.open("rb", buffering=0) as opened:
                content = _picture(opened, of_file, place, crop * crop * 3)
        except OSError as error:
            raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
        if content is None:
            raise UnfitStimulus(path, "is damaged in its packed set, by its checksum")
        return np.frombuffer(content, np.uint8).reshape(crop, crop, 3)

    def as_file(self, stimulus: int, path: Path) -> bytes:
        """The picture of a stimulus as the content of a PNM file; see :meth:`read`."""
        side = self.preprocessing.crop
        return b"P6 %d %d 255\n" % (side, side) + self.read(stimulus, path).tobytes()

    def lost(self) -> dict[int, str]:
        """Which stimuli lie in files that are missing or cut short, and which of both it is."""
        of_file = per_shard(self.preprocessing.crop, self.number)
        shards = self.row // of_file
        least = of_file * INDEX_ENTRY + CHECKSUM
        size = self.preprocessing.crop**2 * 3 + CHECKSUM
        found: dict[int, str] = {}
        for shard in np.unique(shards).tolist():
            file = shard_path(self.folder, shard)
            held = min(of_file, self.number - shard * of_file)
            if not file.is_file():
                reason = "lies in a packed file that is missing"
            elif file.stat().st_size < held * size + least:
                reason = "lies in a packed file that is cut short"
            else:
                continue
            found.update(dict.fromkeys(np.flatnonzero(shards == shard).tolist(), reason))
        return found

    def refuse_other(self, preprocessing: Preprocessing, network: str) -> None:
        """Refuse to show these pictures to a network that takes others.

        Raises
        ------
        UserError : ``preprocessing`` resizes or crops otherwise, or names a decoder
        """
        if preprocessing.decoder != self.preprocessing.decoder:
            raise UserError(
                f"packed pictures are decoded already, by Pillow; {self.folder} has nothing for "
                f"{preprocessing.decoder} to decode: leave out --decoder"
            )
        if prepared(preprocessing) != prepared(self.preprocessing):
            raise UserError(
                f"pictures are packed as one network takes them; {self.folder} has "
                f"{self.preprocessing.geometry}, and {network} takes {preprocessing.geometry}: "
                "pack the set again with --for, or override the network's with --resize, --crop "
                "and --interpolation"
            )


def _picture(file: FileIO, of_file: int, place: int, size: int) -> bytes | None:
    """The bytes of a picture, or None where they are not those that were written."""
    end = file.seek(0, 2) - of_file * INDEX_ENTRY - CHECKSUM
    if end < 0:
        return None
    file.seek(end)
    index = _read(file, of_file * INDEX_ENTRY)
    if index is None:
        return None
    start, length = np.frombuffer(index, "<u8", 2, place * INDEX_ENTRY).tolist()
    if length != size + CHECKSUM or start + length > end:
        return None
    file.seek(start)
    return _read(file, size)


def _read(file: FileIO, length: int) -> bytes | None:
    """What stands next in a file, unless the checksum behind it is another."""
    content = file.read(length)
    return content if content and checksum_of(content) == file.read(CHECKSUM) else None
