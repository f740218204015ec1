"""Batch to moments on the CPU (numba). Same names and signatures as :mod:`.device`.

A batch is ``x [stimulus, unit]``, row-contiguous, float32 or float64, or half precision as its raw
bits (``int16`` for bfloat16, ``uint16`` for float16), which is widened in the kernel and not by a
copy. The state of a group is a pivot ``[unit]`` in the activations' own precision (float32 for
halves) and two float64 sums ``s1 = sum(x - pivot)`` and ``s2 = sum((x - pivot)**2)``; with a
float32 pivot that is 20 bytes per unit. Deviations are taken in float64, so sums about a pivot near
the mean do not cancel however large the mean is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import overload

from .jit import ARITHMETIC, inner, parallel

Vector = np.ndarray[Any, Any]

# Units that a thread takes at a time: its slice of the state (160 KiB) stays in its L2 cache while
# the rows of the batch go by.
_TILE = 8192


def _widen(value: Any) -> Any:
    """An element of a batch as a float; chosen at compile time by the element's type."""
    raise NotImplementedError("compiled code only")


@overload(_widen, jit_options=ARITHMETIC)  # type: ignore[arg-type]
def _compiled_widen(value: Any) -> Any:
    if value == types.int16:
        return _bfloat16
    return _float16 if value == types.uint16 else _native


def _native(value: Any) -> Any:
    return value


def _bfloat16(value: Any) -> Any:
    return np.uint32(np.uint32(np.uint16(value)) << np.uint32(16)).view(np.float32)


def _float16(value: Any) -> Any:
    # Exponent and fraction go to their float32 places; the product (2**112) moves the exponent's
    # bias and turns subnormals into normal numbers; infinity and NaN need their exponent set anew.
    half = np.uint32(value)
    shifted = np.uint32(np.uint32(half & np.uint32(0x7FFF)) << np.uint32(13))
    wide = np.float32(shifted.view(np.float32) * np.float32(2.0**112)).view(np.uint32)
    if shifted >= np.uint32(0x0F800000):
        wide = np.uint32(wide | np.uint32(0x7F800000))
    sign = np.uint32(np.uint32(half & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(wide | sign).view(np.float32)


@inner
def _add_eight(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any,
               pivot: Any, s1: Any, s2: Any) -> None:  # fmt: skip
    # Eight rows share each load and store of the sums, which are most of the memory traffic.
    for i in range(pivot.shape[0]):
        p = np.float64(pivot[i])
        d0 = np.float64(_widen(a[i])) - p
        d1 = np.float64(_widen(b[i])) - p
        d2 = np.float64(_widen(c[i])) - p
        d3 = np.float64(_widen(d[i])) - p
        d4 = np.float64(_widen(e[i])) - p
        d5 = np.float64(_widen(f[i])) - p
        d6 = np.float64(_widen(g[i])) - p
        d7 = np.float64(_widen(h[i])) - p
        s1[i] += ((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7))
        s2[i] += ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + (
            (d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)
        )


@inner
def _add_one(row: Any, pivot: Any, s1: Any, s2: Any) -> None:
    for i in range(pivot.shape[0]):
        deviation = np.float64(_widen(row[i])) - np.float64(pivot[i])
        s1[i] += deviation
        s2[i] += deviation * deviation


@parallel
def fold_in(x: Vector, pivot: Vector, s1: Vector, s2: Vector) -> None:
    """Add the batch ``x [stimulus, unit]`` to the sums ``s1`` and ``s2`` ``[unit]``, in place."""
    rows, units = x.shape
    for tile in prange((units + _TILE - 1) // _TILE):
        start = tile * _TILE
        stop = min(units, start + _TILE)
        p, t1, t2 = pivot[start:stop], s1[start:stop], s2[start:stop]
        r = 0
        while r + 8 <= rows:
            # Contiguous slices in small loops: indexing x[r, i] in here does not vectorise.
            _add_eight(
                x[r, start:stop], x[r + 1, start:stop], x[r + 2, start:stop],
                x[r + 3, start:stop], x[r + 4, start:stop], x[r + 5, start:stop],
                x[r + 6, start:stop], x[r + 7, start:stop], p, t1, t2,
            )  # fmt: skip
            r += 8
        while r < rows:
            _add_one(x[r, start:stop], p, t1, t2)
            r += 1


@inner
def _add_row(row: Any, total: Any) -> None:
    for i in range(total.shape[0]):
        total[i] += np.float64(_widen(row[i]))


@parallel
def fix_pivot(x: Vector, pivot: Vector) -> None:
    """Set ``pivot [unit]`` to the mean over the batch ``x [stimulus, unit]``, in place."""
    rows, units = x.shape
    for tile in prange((units + _TILE - 1) // _TILE):
        start = tile * _TILE
        stop = min(units, start + _TILE)
        total = np.zeros(stop - start)
        for r in range(rows):
            _add_row(x[r, start:stop], total)
        for i in range(stop - start):
            pivot[start + i] = total[i] / rows
