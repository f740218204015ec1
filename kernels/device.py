"""Batch to moments on any torch device. Same names and signatures as :mod:`.cpu`.

A batch is a tensor ``x [stimulus, unit]`` of any floating dtype. The state is as in :mod:`.cpu`, as
tensors on the batch's device. Only ``groups`` and ``count`` stay on the host, so that the host
never waits for the device. Rows are added a few at a time: the float64 deviations and their
temporaries take a small multiple of ``_SCRATCH`` bytes at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import moments
from .moments import Moments, rows_of_groups

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

    A group with a ``count`` of 0 starts afresh: its old pivot and sums are ignored.
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


def read_out(
    count: int,
    pivot: torch.Tensor,
    s1: torch.Tensor,
    s2: torch.Tensor,
    earlier: Moments | None,
    shape: Sequence[int],
    order: Sequence[int],
) -> torch.Tensor:
    """Moments of a group from its sums ``[unit]``, merged with its ``earlier`` ones.

    As on the CPU, and as one tensor on the device, so that one copy brings it to the host.
    """
    found = earlier
    if count:
        found = moments.read_out(count, pivot.double(), s1, s2)
        found = moments.merge(earlier, found) if earlier else found
    assert found is not None  # the group has stimuli
    units, back = prod(shape), sorted(range(len(order)), key=order.__getitem__)
    packed = s1.new_empty(2 * units + 1)
    for part, values in ((packed[:units], found.mean), (packed[units:-1], found.m2)):
        in_memory = values.view([shape[axis - 1] for axis in order])
        part.view(*shape).copy_(in_memory.permute(back))
    packed[-1] = found.m2.isfinite().logical_not_().sum()
    return packed


def _index(rows: NDArray[np.int64]) -> Any:
    """``rows`` as a slice if they are consecutive: indexing then gives a view, not a copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else torch.from_numpy(rows)
