"""Every category against each other category, in one pass over the moments of a slab."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ...kernels import selectivity
from ...kernels.moments import Moments
from .sample import Floats, least_t
from .slab import SlabValues, SmallPValues, StoredMeasure

# Measures that a scan stores beside q and the masks; the pass computes them all.
SCANNED = (
    StoredMeasure("t", "rest", "t"),
    StoredMeasure("t_each", "each", "t"),
    StoredMeasure("csi", "each", "csi"),
)


def evaluate_every_category(moments: Moments, levels: Sequence[float], stores: bool) -> SlabValues:
    """Evaluate the test ``each`` for every category: the values that q is computed from.

    Parameters
    ----------
    moments : of a slab, ``count [fold, category, 1]``, ``mean, m2 [fold, category, unit]``
    levels : for every sample, the level up to which p must be exact
    stores : whether to compute the measures of :data:`SCANNED`
    """
    _, categories, units = moments.mean.shape
    samples = len(levels)
    least = np.array([max(least_t(level), 0.0) for level in levels])
    stored = np.empty((len(SCANNED) if stores else 0, categories, units), np.float32)
    preferred, p = np.empty((samples, units), np.int32), np.empty((samples, units))
    flags = np.empty((2, units), np.bool_)
    # Of the others' mean, with the rounding of the separate steps in `measures`.
    weights = np.full(categories - 1, float(Fraction(1, categories - 1)))
    # In one layout, for which the kernel is compiled once.
    count, mean, m2 = map(np.ascontiguousarray, (moments.count[..., 0], moments.mean, moments.m2))
    share = float(weights[0] / weights.sum())
    selectivity.every_category(count, mean, m2, share, least, stored, preferred, p, flags)
    small = [_small_p(*own, categories) for own in zip(preferred, p, levels, strict=True)]
    found, values, sizes, tested = zip(*small, strict=True)
    small_p = SmallPValues(
        np.concatenate(found),
        np.concatenate(values),
        np.cumsum(sizes).reshape(samples, categories),
        np.repeat(tested, categories).reshape(samples, categories),
    )
    names = [one.variable for one in SCANNED]
    return SlabValues(
        {}, small_p, dict(zip(names, stored, strict=False)), flags[0], flags[1], samples
    )


def load_kernel() -> None:
    """Load the compiled kernel of :func:`evaluate_every_category`. Only speed depends on it."""
    zeros = np.zeros((1, 2, 1))
    evaluate_every_category(Moments(zeros.astype(np.int64), zeros, zeros), [0.5], stores=True)


def _small_p(
    preferred: NDArray[np.int32], p: Floats, level: float, categories: int
) -> tuple[NDArray[np.int32], Floats, NDArray[np.int64], int]:
    """Units with p up to a level, by category; their p; how many of each; the number tested."""
    small = np.flatnonzero((p <= level) & (p < 1)).astype(np.int32)
    own = preferred[small]
    if categories < 2**16:
        own = own.astype(np.uint16)  # sorted in linear time
    units = small[np.argsort(own, kind="stable")]
    sizes = np.bincount(own, minlength=categories)
    return units, p[units], sizes, int(np.count_nonzero(~np.isnan(p)))
