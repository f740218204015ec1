"""Chunk and file shapes: a layer is cut into slabs, and files hold several of them.

A slab is a contiguous run of units in the flattened layer: whole along the last dimensions, one
index long along the first, cut along the one between. It is a chunk of every variable of its layer.
Measurements: ``benchmarks/results/layout.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from ..layer import Layer

# Units per slab. Smaller slabs cost time; larger ones gain little and take memory to read.
_CHUNK_UNITS = 262_144
# Means per slab, over all categories and folds: each takes some 60 bytes while it is processed.
# With more than 12 categories times folds, slabs have fewer units.
_CHUNK_VALUES = 12 * 262_144
# Values per file of a variable, over all categories: held in memory until the file is full.
_FILE_VALUES = 2**22
# The same for responses of a recording, and the fewest stimuli per file.
_RESPONSE_FILE_VALUES, _MIN_ROWS = 2**21, 32
# Values per chunk of responses; values of its columns over all stimuli, which are read together.
_RESPONSE_CHUNK_VALUES, _COLUMN_VALUES, _MIN_COLUMNS = 2**18, 2**22, 16

Shape = tuple[int, ...]
Slab = tuple[slice, ...]


def chunk_shape(layer: Layer, groups: int) -> Shape:
    """Shape of a slab of a layer, for a number of ``groups``: categories times folds.

    Slabs are of even size, because the last one is padded.
    """
    most = max(1, min(_CHUNK_UNITS, _CHUNK_VALUES // groups))
    chunk = list(layer.shape)
    for axis, size in enumerate(layer.shape):
        inner = math.prod(layer.shape[axis + 1 :])
        if inner <= most:
            chunk[axis] = even_length(size, most // inner)
            break
        chunk[axis] = 1
    return tuple(chunk)


def file_shape(layer: Layer, chunk: Shape, rows: int) -> Shape:
    """Shape of a file of a variable with ``rows`` values per unit: as many slabs as fit."""
    file = list(chunk)
    for axis in range(len(chunk) - 1, -1, -1):
        blocks = math.ceil(layer.shape[axis] / chunk[axis])
        fit = max(1, _FILE_VALUES // (rows * math.prod(file)))
        file[axis] *= even_length(blocks, fit)
        if fit < blocks:
            break
    return tuple(file)


def min_file_values() -> int:
    """Fewest values in a file that does not hold a whole layer: evening out may halve it twice."""
    return _FILE_VALUES // 4


def layer_file_shape(layer: Layer, chunk: Shape) -> Shape:
    """Shape of a file that holds all slabs of a layer."""
    sizes = zip(layer.shape, chunk, strict=True)
    return tuple(length * math.ceil(size / length) for size, length in sizes)


def response_shape(stimuli: int, columns: int) -> tuple[int, int]:
    """Chunk shape of a layer's responses: stimuli, which are those of a file, and columns.

    Files are written one after the other as stimuli are shown. The columns of a chunk are read over
    all stimuli: the more stimuli, the fewer columns.
    """
    rows = even_length(max(stimuli, 1), max(_MIN_ROWS, _RESPONSE_FILE_VALUES // columns))
    most = max(_MIN_COLUMNS, _COLUMN_VALUES // max(stimuli, 1))
    most = max(1, min(most, _RESPONSE_CHUNK_VALUES // rows))
    return rows, even_length(columns, most)


def slabs(shape: Shape, chunk: Shape) -> Iterator[tuple[Slab, slice]]:
    """All slabs of a layer, in order, each with its slice of the flattened layer."""
    starts = [range(0, size, length) for size, length in zip(shape, chunk, strict=True)]
    flat = 0
    for start in product(*starts):
        slab = tuple(
            slice(first, min(first + length, size))
            for first, length, size in zip(start, chunk, shape, strict=True)
        )
        units = math.prod(part.stop - part.start for part in slab)
        yield slab, slice(flat, flat + units)
        flat += units


def n_slabs(shape: Shape, chunk: Shape) -> int:
    """Number of slabs of a layer."""
    return math.prod(math.ceil(s / length) for s, length in zip(shape, chunk, strict=True))


def is_contiguous(shape: Sequence[int], part: Sequence[int]) -> bool:
    """Whether parts of this shape are contiguous runs of the flattened layer."""
    cut = next((axis for axis, length in enumerate(part) if length > 1), len(part))
    rest = zip(shape[cut + 1 :], part[cut + 1 :], strict=True)
    return all(length >= size for size, length in rest)


def even_length(size: int, longest: int) -> int:
    """Length of parts of about equal size, none longer than ``longest``."""
    return math.ceil(size / math.ceil(size / max(1, min(size, longest))))
