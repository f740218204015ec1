"""Whether neighbours on a map are alike: Moran's I (numpy), of maps ``[..., y, x]``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .contrast import Floats

# Steps to half of the neighbours of a place; the other half are its opposites.
NEIGHBOURS: dict[str, tuple[tuple[int, int], ...]] = {
    "rook": ((0, 1), (1, 0)),
    "queen": ((0, 1), (1, 0), (1, 1), (1, -1)),
}


def morans_i(maps: Floats, known: NDArray[np.bool_], neighbours: str) -> Floats:
    """``(N / W) sum_ij w_ij z_i z_j / sum_i z_i**2``, z deviations from the map's mean.

    Moran (1950), Biometrika 37(1/2). Over the N places that are ``known [y, x]``; w is 1 for
    neighbours (``rook``: that share an edge; ``queen``: an edge or a corner), W their number, each
    counted from both sides. NaN where all places are equal or there are no neighbours.
    """
    z = np.where(known, maps, 0.0)
    mean = z.sum(axis=(-2, -1), keepdims=True) / max(known.sum(), 1)
    z = np.where(known, z - mean, 0.0)
    square = (z * z).sum(axis=(-2, -1))
    together, pairs = np.zeros_like(square), 0
    for down, right in NEIGHBOURS[neighbours]:
        here, there = _shifted(down, right)
        together += (z[..., *here] * z[..., *there]).sum(axis=(-2, -1))
        pairs += int((known[here] & known[there]).sum())
    # What rounding leaves of equal values is no deviation.
    scale = np.abs(np.where(known, maps, 0.0)).max(axis=(-2, -1)) * np.finfo(np.float64).eps
    varies = square > known.sum() * (4 * scale) ** 2
    quotient = together / np.where(varies, square, np.nan)
    return np.asarray(quotient * (known.sum() / pairs) if pairs else np.full_like(square, np.nan))


def _shifted(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the places that have a neighbour this many steps away lie, and these neighbours."""
    rows = slice(None, -down or None), slice(down, None)
    if right < 0:
        columns = slice(-right, None), slice(None, right)
    else:
        columns = slice(None, -right or None), slice(right, None)
    return (rows[0], columns[0]), (rows[1], columns[1])
