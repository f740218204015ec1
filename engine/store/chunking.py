"""How arrays are cut into chunks, and how many of these share a file.

A slab is a contiguous run of units in the flattened layer: whole along the last dimensions, one
index long along the first, cut along the one between. A chunk of a variable holds a slab for as
many categories and folds as fit; a file holds as many chunks. So small layers have few files, and
large ones are written group by group. Measurements: ``benchmarks/results/layout.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ..layer import Layer

# Units per slab, and values per chunk. Smaller ones cost time; larger ones gain little and take
# memory to read.
_CHUNK_UNITS = 262_144
# Means per slab, over all categories and folds: each takes some 60 bytes while it is processed.
# With more than 12 categories times folds, slabs have fewer units.
_CHUNK_VALUES = 12 * 262_144
# Largest padding of an axis, as a share of it.
_SPARE = 1 / 64
# Values per file of a variable, over all categories: held in memory until the file is full.
_FILE_VALUES = 2**22
# The same for responses of a recording, and the fewest stimuli per file.
_RESPONSE_FILE_VALUES, _MIN_ROWS = 2**21, 32
# Values per chunk of responses; values of its columns over all stimuli, which are read together.
_RESPONSE_CHUNK_VALUES, _COLUMN_VALUES, _MIN_COLUMNS = 2**18, 2**22, 16

Shape = tuple[int, ...]
Slab = tuple[slice, ...]


@dataclass(frozen=True)
class Grid:
    """How an array is divided into files, and these into chunks.

    Attributes
    ----------
    shape, file, chunk : of the array, of a file and of a chunk
    itemsize : bytes of a value; 0 for texts
    compressed : whether chunks are compressed
    sharded : whether files hold chunks and an index of them
    """

    shape: Shape
    file: Shape
    chunk: Shape
    itemsize: int
    compressed: bool
    sharded: bool

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunk) * self.itemsize

    @property
    def chunks(self) -> int:
        """Chunks in a file."""
        return math.prod(self.file) // math.prod(self.chunk)


def chunk_shape(layer: Layer, groups: int) -> Shape:
    """Shape of a slab of a layer, for a number of ``groups``: categories times folds.

    Slabs are of even size, because the last one is padded.
    """
    return _run(layer.shape, max(1, min(_CHUNK_UNITS, _CHUNK_VALUES // groups)))


def moments_grid(layer: Layer, leading: Shape, slab: Shape, held: int, itemsize: int) -> Grid:
    """The grid of moments ``[category, fold, *layer dims]``.

    A file holds all slabs of some consecutive groups, up to ``held``.

    Parameters
    ----------
    leading : numbers of categories and folds
    slab : shape of a slab
    held : most groups in a file; see :func:`..waiting.groups_held`
    """
    chunk = _run(leading, max(1, min(held, _CHUNK_UNITS // math.prod(slab))))
    file = (*_grown(leading, chunk, held), *_covering(layer.shape, slab))
    return Grid((*leading, *layer.shape), file, (*chunk, *slab), itemsize, True, True)


def variable_grid(
    layer: Layer, leading: Shape, slab: Shape, itemsize: int, compressed: bool
) -> Grid:
    """The grid of a variable ``[*leading, *layer dims]``: a file holds all of ``leading``."""
    # An array that is not compressed stores the padding of its last chunk.
    length = even_length if compressed else _snug_length
    chunk = _run(leading, max(1, _CHUNK_UNITS // math.prod(slab)), length)
    rows = leading[0] if leading else 1
    units = _grown(layer.shape, slab, max(1, _FILE_VALUES // rows))
    file = (*_covering(leading, chunk), *units)
    return Grid((*leading, *layer.shape), file, (*chunk, *slab), itemsize, compressed, True)


def whole_grid(shape: Shape, itemsize: int) -> Grid:
    """The grid of a small array: one file, which is one chunk."""
    chunk = tuple(max(size, 1) for size in shape)
    return Grid(shape, chunk, chunk, itemsize, compressed=False, sharded=False)


def min_file_values() -> int:
    """Fewest values in a file that does not hold a whole layer: evening out may halve it twice."""
    return _FILE_VALUES // 4


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


def _snug_length(size: int, longest: int) -> int:
    """As :func:`even_length`, or shorter, so that the last part needs little padding."""
    lengths = range(even_length(size, longest), 0, -1)
    return next(one for one in lengths if -size % one <= _SPARE * size)


def _run(shape: Shape, most: int, length: Callable[[int, int], int] = even_length) -> Shape:
    """Shape of contiguous runs of at most ``most`` entries; ``length`` is that of the axis cut."""
    run = list(shape)
    for axis, size in enumerate(shape):
        inner = math.prod(shape[axis + 1 :])
        if inner <= most:
            run[axis] = length(size, most // inner)
            break
        run[axis] = 1
    return tuple(run)


def _grown(shape: Shape, part: Shape, most: int) -> Shape:
    """Shape of contiguous runs of parts, of at most ``most`` entries, but one part at least."""
    file = list(part)
    for axis in range(len(part) - 1, -1, -1):
        blocks = math.ceil(shape[axis] / part[axis])
        fit = max(1, most // math.prod(file))
        file[axis] *= even_length(blocks, fit)
        if fit < blocks:
            break
    return tuple(file)


def _covering(shape: Shape, part: Shape) -> Shape:
    """Shape of whole parts that hold everything."""
    return tuple(n * math.ceil(size / n) for size, n in zip(shape, part, strict=True))
