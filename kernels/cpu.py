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

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import overload
from numpy.typing import NDArray

from .instructions import float16_as_float64, prefetch
from .jit import ARITHMETIC, exact, inner, parallel
from .moments import Moments, rows_of_groups

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
# Rows and columns of a tile that is transposed on reading out, and padding that keeps the rows of
# its two buffers (33 KiB each) in different sets of the L1 cache.
_ACROSS, _ALONG, _PADDING = 16, 256, 8
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


def read_out(
    count: int,
    pivot: Array,
    s1: Array,
    s2: Array,
    earlier: Moments | None,
    shape: Sequence[int],
    order: Sequence[int],
) -> Array:
    """Moments of a group from its sums ``[unit]``, merged with its ``earlier`` ones, in one pass.

    The units come as they lie in memory: ``order`` lists the axes of ``shape``, from 1 on. They go
    into the order of ``shape``. The formulas, and so the bits, are those of :mod:`.moments`.

    Returns
    -------
    mean, M2, and the number of units whose M2 is not finite: float64, ``[2 * units + 1]``
    """
    units = prod(shape)
    packed = np.empty(2 * units + 1)
    mean, m2 = packed[:units], packed[units:-1]
    a = earlier or Moments(0, packed[:0], packed[:0])
    if count:
        total = a.count + count
        numbers = float(count), count / total, a.count * count / total
        parts = pivot, s1, s2, a.mean, a.m2, mean, m2
        packed[-1] = _read_out(*numbers, *parts, *_layout(shape, order))
    else:
        in_memory = [shape[axis - 1] for axis in order]
        for part, values in ((mean, a.mean), (m2, a.m2)):
            part.reshape(shape)[...] = values.reshape(in_memory).transpose(np.argsort(order))
        packed[-1] = np.count_nonzero(~np.isfinite(m2))
    return packed


def _layout(shape: Sequence[int], order: Sequence[int]) -> tuple[Any, ...]:
    """How units in memory map to the layer, for :func:`_read_out`.

    ``along`` units lie side by side in memory, ``step`` apart in the layer; ``across`` units lie
    side by side in the layer, ``stride`` apart in memory. ``others [axis, 3]`` has the length of
    every other axis, its stride and its step.
    """
    axes: list[tuple[int, int, int]] = []  # the outermost in memory first
    stride = prod(shape)
    for axis in order:
        length, step = shape[axis - 1], prod(shape[axis:])
        stride //= max(1, length)
        if axes and axes[-1][2] == length * step:  # neighbours in both orders: one axis
            length *= axes.pop()[0]
        if length != 1:
            axes.append((length, stride, step))
    along, _, step = axes.pop() if axes else (1, 1, 1)
    inner = next((index for index, axis in enumerate(axes) if axis[2] == 1), None)
    across, stride, _ = (1, 1, 1) if inner is None else axes.pop(inner)
    return along, step, across, stride, np.array(axes, np.int64).reshape(-1, 3)


@exact
def read_units(n: float, share: float, weight: float, pivot: Any, s1: Any, s2: Any,
                mean_a: Any, m2_a: Any, mean: Any, m2: Any) -> int:  # fmt: skip
    """Moments of a run of units; counts those that are not finite."""
    for i in range(len(s1)):
        shift = s1[i] / n
        mean[i] = _widen(pivot[i]) + shift
        squares = s2[i] - s1[i] * shift
        m2[i] = 0.0 if squares < 0 else squares  # NaN stays
    for i in range(len(mean_a)):
        delta = mean[i] - mean_a[i]
        mean[i] = mean_a[i] + delta * share
        m2[i] = (m2_a[i] + m2[i]) + delta * delta * weight
    found = 0
    for i in range(len(s1)):
        found += not np.isfinite(m2[i])
    return found


@partial(parallel, fused=False)
def _read_out(n: float, share: float, weight: float, pivot: Array, s1: Array, s2: Array,
              mean_a: Array, m2_a: Array, mean: Array, m2: Array, along: int, step: int,
              across: int, stride: int, others: Indices) -> int:  # fmt: skip
    length = _TILE if step == 1 else _ALONG
    columns, rows = (along + length - 1) // length, (across + _ACROSS - 1) // _ACROSS
    tiles, found = columns * rows, 0
    for axis in range(len(others)):
        tiles *= others[axis, 0]
    for tile in prange(tiles):
        row, column = tile % rows * _ACROSS, tile // rows % columns * length
        rest = tile // (rows * columns)
        source, target = column + row * stride, column * step + row
        for axis in range(len(others) - 1, -1, -1):
            source += rest % others[axis, 0] * others[axis, 1]
            target += rest % others[axis, 0] * others[axis, 2]
            rest //= others[axis, 0]
        width, height = min(length, along - column), min(_ACROSS, across - row)
        # Units that are side by side in both orders need no transposing.
        buffer = np.empty((2, 0 if step == 1 else height, _ALONG + _PADDING))
        for i in range(height):
            own = slice(source + i * stride, source + i * stride + width)
            before = own if len(mean_a) else slice(0, 0)
            to = slice(target + i, target + i + width)
            found += read_units(
                n, share, weight, pivot[own], s1[own], s2[own], mean_a[before], m2_a[before],
                mean[to] if step == 1 else buffer[0, i, :width],
                m2[to] if step == 1 else buffer[1, i, :width],
            )  # fmt: skip
        for j in range(0 if step == 1 else width):
            for i in range(height):
                mean[target + j * step + i] = buffer[0, i, j]
            for i in range(height):
                m2[target + j * step + i] = buffer[1, i, j]
    return found


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
