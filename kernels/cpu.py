"""Batch to moments on the CPU (numba). Same names and signatures as :mod:`.cuda`, :mod:`.device`.

A batch is ``x [stimulus, unit]``, row-contiguous: float32, float64, or half precision as raw bits
(``int16`` for bfloat16, ``uint16`` for float16), widened in the kernel without a copy. The state
is ``count [group]``, ``pivot [group, unit]`` in the batch's dtype, and float64 sums
``s1 = sum(x - pivot)`` and ``s2 = sum((x - pivot)**2)``, both ``[group, unit]``: 20 bytes per group
and unit for float32. The pivot of a group is its first stimulus. It lies in the group's own range,
so sums about it do not cancel however large the mean is. Deviations are computed in float64.

The kernel is limited by memory. It reads the batch once, and the state once per batch and group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import overload
from numpy.typing import NDArray

from .instructions import float16_as_float64, prefetch
from .jit import ARITHMETIC, inner, parallel
from .moments import rows_of_groups

Array = np.ndarray[Any, Any]
Indices = NDArray[np.int64]

# Units per tile and thread: its slice of the state (160 KiB) stays in the L2 cache while the rows
# of the batch stream through.
_TILE = 8192
# Bytes of a cache line, and lines of each row to prefetch. Hardware prefetching is not enough: it
# stops at every page, and eight rows are too many streams for it.
_LINE = 64
_AHEAD = 16
# Rows that share each load and store of the sums.
_ROWS = 8
# Words per tile of `read_memory`.
_WORDS = 65_536


def _widen(value: Any) -> Any:
    """Element of a batch as a float64; the conversion is chosen by its type at compile time."""
    raise NotImplementedError("compiled code only")


@overload(_widen, jit_options=ARITHMETIC)  # type: ignore[arg-type]
def _compiled_widen(value: Any) -> Any:
    if value == types.int16:
        return _bfloat16
    return _float16 if value == types.uint16 else _native


def _native(value: Any) -> Any:
    return np.float64(value)


def _bfloat16(value: Any) -> Any:
    return np.float64(np.uint32(np.uint32(np.uint16(value)) << np.uint32(16)).view(np.float32))


def _float16(value: Any) -> Any:
    return float16_as_float64(value)


def _line_of(array: Any) -> int:
    """Elements of ``array`` per cache line, a constant in compiled code."""
    raise NotImplementedError("compiled code only")


@overload(_line_of)
def _compiled_line_of(array: Any) -> Any:
    units = _LINE * 8 // array.dtype.bitwidth

    def line_of(array: Any) -> Any:  # noqa: ARG001
        return units

    return line_of


@inner
def _add_units(first: int, n: int, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any,
               pivot: Any, s1: Any, s2: Any) -> None:  # fmt: skip
    for i in range(first, first + n):
        p = _widen(pivot[i])
        d0 = _widen(a[i]) - p
        d1 = _widen(b[i]) - p
        d2 = _widen(c[i]) - p
        d3 = _widen(d[i]) - p
        d4 = _widen(e[i]) - p
        d5 = _widen(f[i]) - p
        d6 = _widen(g[i]) - p
        d7 = _widen(h[i]) - p
        # Pairwise sums: less rounding error than one by one, and no slower.
        s1[i] += ((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7))
        s2[i] += ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + (
            (d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)
        )


@inner
def _add_rows(x: Any, rows: Any, start: int, pivot: Any, s1: Any, s2: Any,
              next_rows: Any, next_start: int) -> None:  # fmt: skip
    """Add up to eight ``rows`` of ``x``, from unit ``start`` on; prefetch the next rows."""
    n, units = len(rows), pivot.shape[0]
    stop = start + units
    # Always eight rows, so that one loop does: a row equal to the pivot adds nothing.
    a = x[rows[0], start:stop]
    b = x[rows[1], start:stop] if n > 1 else pivot
    c = x[rows[2], start:stop] if n > 2 else pivot
    d = x[rows[3], start:stop] if n > 3 else pivot
    e = x[rows[4], start:stop] if n > 4 else pivot
    f = x[rows[5], start:stop] if n > 5 else pivot
    g = x[rows[6], start:stop] if n > 6 else pivot
    h = x[rows[7], start:stop] if n > 7 else pivot
    flat, stride = x.reshape(x.size), x.shape[1]
    line = _line_of(x)
    whole = units // line * line
    for i in range(0, whole, line):
        later = i + _AHEAD * line
        if later < whole:
            for r in range(n):
                prefetch(flat, rows[r] * stride + start + later)
            prefetch(pivot, later)
            for j in range(later, later + line, _line_of(s1)):
                prefetch(s1, j)
                prefetch(s2, j)
        else:
            for r in range(len(next_rows)):
                prefetch(flat, next_rows[r] * stride + next_start + later - whole)
        _add_units(i, line, a, b, c, d, e, f, g, h, pivot, s1, s2)
    _add_units(whole, units - whole, a, b, c, d, e, f, g, h, pivot, s1, s2)


@parallel
def _add_parts(x: Array, rows: Indices, bounds: Indices, group: Indices, fresh: Indices,
               pivot: Array, s1: Array, s2: Array) -> None:  # fmt: skip
    """Add ``rows[bounds[part]:bounds[part + 1]]`` of ``x`` to ``group[part]``, for every part."""
    units, parts = x.shape[1], len(group)
    for tile in prange((units + _TILE - 1) // _TILE):
        start = tile * _TILE
        stop = min(units, start + _TILE)
        for part in range(parts):
            k = group[part]
            p, t1, t2 = pivot[k, start:stop], s1[k, start:stop], s2[k, start:stop]
            if fresh[part]:
                p[:] = x[rows[bounds[part]], start:stop]
                t1[:] = 0
                t2[:] = 0
            following, next_start = (part + 1, start) if part + 1 < parts else (0, stop)
            _add_rows(
                x, rows[bounds[part] : bounds[part + 1]], start, p, t1, t2,
                rows[bounds[following] : bounds[following + 1]], next_start,
            )  # fmt: skip


def fold_in(x: Array, groups: Indices, count: Indices, pivot: Array, s1: Array, s2: Array) -> None:
    """Add the batch ``x [stimulus, unit]`` to the moments of its ``groups [stimulus]``, in place.

    A group with a ``count`` of 0 starts afresh: its old pivot and sums are ignored.
    """
    add_parts(x, parts_of(groups, count), pivot, s1, s2)


class Parts(NamedTuple):
    """Rows of a batch, sorted by group and split into parts of at most eight rows."""

    rows: Indices
    bounds: Indices
    group: Indices
    fresh: Indices


def parts_of(groups: Indices, count: Indices, rows: Indices | None = None) -> Parts:
    """Split a batch for :func:`add_parts`, and add its stimuli to ``count [group]``.

    ``groups`` belong to the rows of the batch, or to the given ``rows``. The same row may be listed
    in several groups: one batch can be added under many assignments at once.
    """
    order, parts = [np.empty(0, np.int64)], []
    for k, members in rows_of_groups(groups):
        order.append(members)
        for first in range(0, len(members), _ROWS):
            size = min(_ROWS, len(members) - first)
            parts.append((size, k, first == 0 and count[k] == 0))
        count[k] += len(members)
    sizes, group, fresh = np.array(parts, np.int64).reshape(-1, 3).T.copy()
    sorted_rows = np.concatenate(order)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return Parts(sorted_rows if rows is None else rows[sorted_rows], bounds, group, fresh)


def add_parts(x: Array, parts: Parts, pivot: Array, s1: Array, s2: Array) -> None:
    """Add the ``parts`` of the batch ``x [stimulus, unit]`` to the moments, in place."""
    if len(parts.group):
        _add_parts(x, *parts, pivot, s1, s2)


@inner
def _parity(words: Any) -> Any:
    found = np.int64(0)
    for i in range(len(words)):
        found ^= words[i]
    return found


@parallel
def read_memory(words: NDArray[np.int64]) -> int:
    """Read all ``words`` once on all threads: measures memory bandwidth, this module's limit."""
    tiles = (len(words) + _WORDS - 1) // _WORDS
    found = np.zeros(tiles, np.int64)
    for tile in prange(tiles):
        found[tile] = _parity(words[tile * _WORDS : (tile + 1) * _WORDS])
    return int(found.sum())
