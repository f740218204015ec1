"""How a layer is cut: into slabs, which are worked on one by one, and into files of several.

A slab is a run of units in the order of the flat layer: whole along its last dimensions, one place
long along its first, cut along the one between. It is a chunk of every variable of its layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from ..layer import Layer

# Units per slab. Smaller ones cost time; larger ones gain little, and take memory to read.
_CHUNK_UNITS = 262_144
# Means of a slab, of all categories and folds: what is worked on takes some 60 bytes for each. With
# more than 12 categories and folds (the product) slabs have fewer units.
_CHUNK_VALUES = 12 * 262_144
# Values of a variable in a file, of all categories: held until its last slab is there.
_FILE_VALUES = 2**22

Shape = tuple[int, ...]
Slab = tuple[slice, ...]


def chunk_shape(layer: Layer, groups: int) -> Shape:
    """The shape of a slab of a layer, where there are so many categories times folds.

    Even parts, or the last is filled up.
    """
    most = max(1, min(_CHUNK_UNITS, _CHUNK_VALUES // groups))
    chunk = list(layer.shape)
    for axis, size in enumerate(layer.shape):
        inner = math.prod(layer.shape[axis + 1 :])
        if inner <= most:
            chunk[axis] = even(size, most // inner)
            break
        chunk[axis] = 1
    return tuple(chunk)


def file_shape(layer: Layer, chunk: Shape, rows: int) -> Shape:
    """The shape of a file of a variable, of ``rows`` for every unit: as many slabs as may be."""
    file = list(chunk)
    for axis in range(len(chunk) - 1, -1, -1):
        blocks = math.ceil(layer.shape[axis] / chunk[axis])
        fit = max(1, _FILE_VALUES // (rows * math.prod(file)))
        file[axis] *= even(blocks, fit)
        if fit < blocks:
            break
    return tuple(file)


def least_of_a_file() -> int:
    """The values in a file that is not of a whole layer: parts are even, which may halve twice."""
    return _FILE_VALUES // 4


def whole_file(layer: Layer, chunk: Shape) -> Shape:
    """The shape of a file of all slabs of a layer."""
    sizes = zip(layer.shape, chunk, strict=True)
    return tuple(length * math.ceil(size / length) for size, length in sizes)


def slabs(shape: Shape, chunk: Shape) -> Iterator[tuple[Slab, slice]]:
    """All slabs of a layer, in order, and the slice of the flat layer that each stands for."""
    starts = [range(0, size, length) for size, length in zip(shape, chunk, strict=True)]
    flat = 0
    for place in product(*starts):
        slab = tuple(
            slice(start, min(start + length, size))
            for start, length, size in zip(place, chunk, shape, strict=True)
        )
        units = math.prod(part.stop - part.start for part in slab)
        yield slab, slice(flat, flat + units)
        flat += units


def number_of_slabs(shape: Shape, chunk: Shape) -> int:
    """How many slabs a layer has."""
    return math.prod(math.ceil(s / length) for s, length in zip(shape, chunk, strict=True))


def is_in_order(shape: Sequence[int], part: Sequence[int]) -> bool:
    """Whether parts of this shape are runs of units in the order of the flat layer."""
    cut = next((axis for axis, length in enumerate(part) if length > 1), len(part))
    rest = zip(shape[cut + 1 :], part[cut + 1 :], strict=True)
    return all(length >= size for size, length in rest)


def even(size: int, longest: int) -> int:
    """The length of parts of about the same size, none longer than ``longest``."""
    return math.ceil(size / math.ceil(size / max(1, min(size, longest))))
