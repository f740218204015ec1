"""Batch to moments on the CPU (numba). Same names and signatures as :mod:`.cuda`, :mod:`.device`.

A batch is ``x [stimulus, unit]``, row-contiguous, float32 or float64, or half precision as its raw
bits (``int16`` for bfloat16, ``uint16`` for float16), which is widened in the kernel and not by a
copy. The state is ``count [group]``, ``pivot [group, unit]`` in the batch's own type, and float64
sums ``s1 = sum(x - pivot)`` and ``s2 = sum((x - pivot)**2)`` ``[group, unit]``: 20 bytes per group
and unit for float32. A group's pivot is its first stimulus, a value of its own range, so that sums
about it do not cancel however large the mean is; deviations are taken in float64.

The kernel waits for memory. It reads the batch once, and the state once per batch and group.
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

# Units that a thread takes at a time: its slice of the state (160 KiB) stays in its L2 cache while
# the rows of the batch go by.
_TILE = 8192
# Bytes of a cache line, and how many lines of each row are asked for before they are needed. The
# processor's own prefetching loses track: it stops at every page, and eight rows are many streams.
_LINE = 64
_AHEAD = 16
# Rows that share each load and store of the sums.
_ROWS = 8


def _widen(value: Any) -> Any:
    """An element of a batch as a float64; chosen at compile time by the element's type."""
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
    """How many elements of ``array`` a cache line holds, as a constant of compiled code."""
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
        # Summed in pairs: fewer roundings than one by one, and no slower.
        s1[i] += ((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7))
        s2[i] += ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + (
            (d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)
        )


@inner
def _add_rows(x: Any, rows: Any, start: int, pivot: Any, s1: Any, s2: Any,
              next_rows: Any, next_start: int) -> None:  # fmt: skip
    """Add up to eight ``rows`` of ``x``, from unit ``start`` on; ask for what comes next."""
    n, units = len(rows), pivot.shape[0]
    stop = start + units
    # Always eight, so that there is one loop: the pivot is a row that adds nothing.
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
            coming, coming_start = (part + 1, start) if part + 1 < parts else (0, stop)
            _add_rows(
                x, rows[bounds[part] : bounds[part + 1]], start, p, t1, t2,
                rows[bounds[coming] : bounds[coming + 1]], coming_start,
            )  # fmt: skip


def fold_in(x: Array, groups: Indices, count: Indices, pivot: Array, s1: Array, s2: Array) -> None:
    """Add the batch ``x [stimulus, unit]`` to the moments of its ``groups [stimulus]``, in place.

    A group whose ``count`` is 0 starts anew, whatever its pivot and sums held.
    """
    add_parts(x, parts_of(groups, count), pivot, s1, s2)


class Parts(NamedTuple):
    """A batch's rows, sorted by group and cut into pieces that the kernel takes at a time."""

    rows: Indices
    bounds: Indices
    group: Indices
    fresh: Indices


def parts_of(groups: Indices, count: Indices, rows: Indices | None = None) -> Parts:
    """Cut a batch for :func:`add_parts`, and count its stimuli: adds to ``count [group]``.

    ``groups`` are those of the batch's rows; or of the ``rows`` given, each of which may come more
    than once, in other groups: that is how one batch is added under many assignments at a time.
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
