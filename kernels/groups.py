"""Groups that lie whole within one batch, read out at once (numba): the bits of :mod:`.cpu`.

With few stimuli per category a batch completes many groups. One call for all of them costs as much
as one for each group of a larger layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from .cpu import fold_in, read_units
from .jit import parallel

Array = np.ndarray[Any, Any]


def moments_of_groups(
    x: Array, sizes: Sequence[int], shape: Sequence[int], order: Sequence[int]
) -> Array:
    """Moments of consecutive groups of ``sizes`` rows of the batch ``x [stimulus, unit]``.

    Takes 20 bytes per group and unit beside the result. ``shape`` and ``order`` are as in
    :func:`.cpu.read_out`.

    Returns
    -------
    mean, M2, and the number of units whose M2 is not finite: float64, ``[group, 2 * units + 1]``
    """
    groups, units = len(sizes), prod(shape)
    count, pivot = np.zeros(groups, np.int64), np.empty((groups, units), x.dtype)
    s1, s2 = np.empty((groups, units)), np.empty((groups, units))
    fold_in(x, np.repeat(np.arange(groups), sizes), count, pivot, s1, s2)
    place = np.arange(units).reshape(shape).transpose([axis - 1 for axis in order]).ravel()
    packed = np.empty((groups, 2 * units + 1))
    _read_groups(count, pivot, s1, s2, place, packed)
    return packed


@partial(parallel, fused=False)
def _read_groups(count: NDArray[np.int64], pivot: Array, s1: Array, s2: Array,
                 place: NDArray[np.int64], packed: Array) -> None:  # fmt: skip
    """Read out every group; ``place [unit]`` is where a unit in memory lies in the layer."""
    units = len(place)
    for group in prange(len(count)):
        read, none = np.empty((2, units)), np.empty(0)
        packed[group, 2 * units] = read_units(
            float(count[group]), 1.0, 0.0, pivot[group], s1[group], s2[group], none, none,
            read[0], read[1],
        )  # fmt: skip
        for i in range(units):
            packed[group, place[i]] = read[0, i]
        for i in range(units):
            packed[group, units + place[i]] = read[1, i]
