"""Arrays of images, whatever file they are in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ..images import LARGEST, as_pnm, read_stimulus
from ..listing import renumbered

# Names of an array of labels, and its most bytes.
LABELS = ("labels", "label", "categories", "category")
MOST_LABELS = 2**28


class Array(Protocol):
    """An array in a file."""

    def read(self, row: int, path: Path) -> bytes:
        """Bytes of one row; errors name it by ``path``.

        Raises
        ------
        UnfitStimulus : it cannot be read
        """

    def values(self) -> list[Any]:
        """All values, flat: labels, not images.

        Raises
        ------
        UserError : it cannot be read, or holds Python objects
        """

    def absolute(self) -> Self:
        """The same with an absolute path."""


class Entry(NamedTuple):
    """An array of a file, with its ``name`` for messages and stimuli: ``FILE:ARRAY``.

    ``unfit`` says why its images cannot be read in place, and what to do; "" if they can be.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    array: Array
    unfit: str = ""
    note: str = ""

    @property
    def form(self) -> str:
        """Type and shape, for messages."""
        return f"{self.dtype}, {' x '.join(map(str, self.shape)) or 'a single value'}"


class Found(NamedTuple):
    """Arrays of a file by name, and notes on other content.

    If one was asked for, it is ``chosen``, and the others are those with the names of labels.
    """

    entries: Mapping[str, Entry]
    chosen: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """Images of an array: ``size`` is their height, width and number of channels (1 or 3)."""

    array: Array
    size: tuple[int, int, int]

    def read(self, row: int, path: Path) -> bytes:
        """An image as a PNM file; see :meth:`Array.read`."""
        return as_pnm(self.array.read(row, path), *self.size)


@dataclass(frozen=True)
class ArrayImages:
    """Images of a set in arrays: ``array [stimulus]`` and ``row [stimulus]`` in it.

    Those of array -1 are files of their own.
    """

    arrays: tuple[Pixels, ...]
    array: NDArray[np.int32]
    row: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> ArrayImages:
        """Images of the stimuli in ``order``, with their arrays alone."""
        used, array = renumbered(self.array[order])
        return ArrayImages(tuple(self.arrays[number] for number in used), array, self.row[order])

    def read(self, stimulus: int, path: Path) -> bytes:
        """Image of a stimulus as a PNM file; see :meth:`Array.read`."""
        array = int(self.array[stimulus])
        return (
            self.arrays[array].read(int(self.row[stimulus]), path)
            if array >= 0
            else read_stimulus(path)
        )

    def absolute(self) -> ArrayImages:
        """The same with absolute paths."""
        arrays = (replace(own, array=own.array.absolute()) for own in self.arrays)
        return replace(self, arrays=tuple(arrays))


def pixels_of(entry: Entry) -> Pixels:
    """Images of an array.

    Raises
    ------
    UserError : it does not hold images, or not in a form that can be read in place
    """
    size = _size(entry.shape)
    if entry.dtype != "uint8" or size is None:
        raise UserError(
            "an array of images is uint8, image x height x width x 3 (grey: image x height x "
            f"width); {entry.name} is {entry.form}: {_remedy(entry, size)}"
        )
    if entry.unfit:
        raise UserError(f"images of an array are read in place; {entry.name} {entry.unfit}")
    if math.prod(size) > LARGEST:
        raise UserError(
            f"an image has at most {LARGEST:,} bytes; those of {entry.name} have "
            f"{math.prod(size):,}: make them smaller"
        )
    return Pixels(entry.array, size)


def _size(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Height, width and channels of the images; None if ``shape`` is not that of images."""
    if len(shape) == 4 and shape[3] in (1, 3) and min(shape[1:]) > 0:
        return shape[1], shape[2], shape[3]
    # A single colour image is not one grey image per row.
    if len(shape) == 3 and shape[2] not in (1, 3, 4) and min(shape[1:]) > 0:
        return shape[1], shape[2], 1
    return None


def _remedy(entry: Entry, size: tuple[int, int, int] | None) -> str:
    if size is None and len(entry.shape) == 4 and entry.shape[1] in (1, 3):
        return "put the channels last (numpy.moveaxis(images, 1, 3))"
    if size is None and len(entry.shape) == 4 and entry.shape[3] == 4:
        return "leave out the fourth channel (images[..., :3])"
    if size is None:
        return "give it the shape of images"
    return "scale it to 0 to 255 and save it with astype('uint8')"
