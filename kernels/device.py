"""Batch to moments on any torch device. Same names and signatures as :mod:`.cpu`.

A batch is a tensor ``x [stimulus, unit]`` of any floating type; the state is as in :mod:`.cpu`, but
tensors on the batch's device, except for ``groups`` and ``count``, which stay with the host: what
is to be done is known without waiting for the device. Rows are taken a few at a time, so that the
float64 deviations and what they come from never need more than some times ``_SCRATCH`` bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .moments import rows_of_groups

_SCRATCH = 256 * 2**20


def fold_in(
    x: torch.Tensor,
    groups: NDArray[np.int64],
    count: NDArray[np.int64],
    pivot: torch.Tensor,
    s1: torch.Tensor,
    s2: torch.Tensor,
) -> None:
    """Add the batch ``x [stimulus, unit]`` to the moments of its ``groups [stimulus]``, in place.

    A group whose ``count`` is 0 starts anew, whatever its pivot and sums held.
    """
    at_once = max(1, _SCRATCH // (8 * max(1, x.shape[1])))
    for group, rows in rows_of_groups(groups):
        if not count[group]:
            pivot[group] = x[rows[0]]
            s1[group] = 0
            s2[group] = 0
        count[group] += len(rows)
        for first in range(0, len(rows), at_once):
            deviation = x[_index(rows[first : first + at_once])].double() - pivot[group].double()
            s1[group] += deviation.sum(0)
            s2[group] += deviation.square_().sum(0)


def _index(rows: NDArray[np.int64]) -> Any:
    """``rows`` as a slice where they follow each other, which takes a view and not a copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else torch.from_numpy(rows)
