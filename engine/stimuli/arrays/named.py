"""Arrays by name, ``FILE:ARRAY``, and their images, ``FILE:ARRAY/INDEX``."""

from __future__ import annotations

import os
import posixpath
import re
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import UserError, nearest
from ..columns import Texts
from ..listing import FILES, Images
from ..paths import FilesByName, refuse_outside
from .entry import ArrayImages, Found, Pixels, pixels_of
from .hdf5 import HDF5, hdf5_file
from .numpy_files import NPY, npy_file, npz_file

# Suffix of a file -> its reader, from the file and the name of an array or group in it.
_READERS: dict[str, Callable[[Path, str], Found]] = {
    **dict.fromkeys(HDF5, hdf5_file),
    NPY: npy_file,
    ".npz": npz_file,
}
ARRAYS = tuple(_READERS)
_NAME = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, ARRAYS))}))(?::(.+))?", re.I | re.S)
_RULE = "FILE:ARRAY/INDEX, counted from 0"
_INDEX = re.compile(r"[0-9]{1,18}")


def split(name: str) -> tuple[Path, str] | None:
    """File and array of ``FILE:ARRAY`` or ``FILE``; None if the file's suffix is another."""
    found = _NAME.fullmatch(name)
    return (Path(found[1]), found[2] or "") if found else None


def arrays_of(file: Path, name: str = "") -> Found:
    """Arrays of a file; see the readers."""
    return _READERS[file.suffix.lower()](file, name)


class NamedImages:
    """Images in arrays that a manifest names, beside those that are files.

    Files of arrays are opened only in the manifest's folder or ``root``.
    """

    def __init__(self, base: Path, root: Path | None, files: FilesByName) -> None:
        self._base, self._root, self._files = base, root, files
        self._arrays: list[Pixels] = []
        self._lengths: list[int] = []
        # As listed -> its number, and its name in the catalogue.
        self._known: dict[str, tuple[int, str]] = {}
        self._array, self._row = array("i"), array("q")

    def add(self, listed: str, where: str) -> str:
        """Name of the next stimulus, which a manifest lists; errors say ``where``.

        Raises
        ------
        UserError : the array cannot be read, is outside, or has no such image
        """
        name, _, index = listed.rpartition("/")
        found = split(name) if _INDEX.fullmatch(index) else None
        if found is None:
            self._refuse_misnamed(listed, where)
            self._array.append(-1)
            self._row.append(0)
            return self._files.find(listed)
        if name not in self._known:
            self._known[name] = len(self._arrays), self._open(*found, where)
        (number, known), row = self._known[name], int(index)
        if row >= self._lengths[number]:
            raise UserError(
                f"images of an array are numbered from 0; {where} names {listed}, and {name} has "
                f"{self._lengths[number]:,}: correct it"
            )
        self._array.append(number)
        self._row.append(row)
        return f"{known}/{row}"

    def images(self) -> Images:
        """The images of all stimuli."""
        if not self._arrays:
            return FILES
        numbers, rows = np.frombuffer(self._array, np.int32), np.frombuffer(self._row, np.int64)
        return ArrayImages(tuple(self._arrays), numbers.copy(), rows.copy())

    def _open(self, file: Path, own: str, where: str) -> str:
        path = self._files.find(str(file))
        refuse_outside(self._base, Texts.of([path]), self._root)
        if not (self._base / path).is_file():
            raise UserError(
                f"an image of an array is {_RULE}; {where} names the file {file}, which is not in "
                f"{self._base}: correct it"
            )
        found = arrays_of(self._base / path, own)
        if not found.chosen:
            raise UserError(
                f"an image of an array is {_RULE}; {where} names {file} without its array: "
                f"{nearest(own, found.entries)}"
            )
        entry = found.entries[found.chosen]
        self._arrays.append(pixels_of(entry))
        self._lengths.append(entry.shape[0])
        return posixpath.join(posixpath.dirname(path), entry.name)

    def _refuse_misnamed(self, listed: str, where: str) -> None:
        """Raise for an image of an array without a whole number, unless a file has its name."""
        named = split(listed) if ":" in listed else None
        if named and named[1] and not os.path.lexists(self._base / listed):
            raise UserError(f"an image of an array is {_RULE}; {where} names {listed}: correct it")
