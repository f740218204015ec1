"""Batch to moments on any torch device. Same names and signatures as :mod:`.cpu`.

A batch is a tensor ``x [stimulus, unit]`` of any floating type; the state is as in :mod:`.cpu`, but
tensors on the batch's device. Rows are taken a few at a time, so that the float64 deviations never
need more than ``_SCRATCH`` bytes beside the batch itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

_SCRATCH = 256 * 2**20


def _row_blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    rows = max(1, _SCRATCH // (8 * max(1, x.shape[1])))
    return (x[start : start + rows] for start in range(0, x.shape[0], rows))


def fix_pivot(x: torch.Tensor, pivot: torch.Tensor) -> None:
    """Set ``pivot [unit]`` to the mean over the batch ``x [stimulus, unit]``, in place."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for rows in _row_blocks(x):
        total += rows.sum(0, dtype=torch.float64)
    pivot.copy_(total / x.shape[0])


def fold_in(x: torch.Tensor, pivot: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor) -> None:
    """Add the batch ``x [stimulus, unit]`` to the sums ``s1`` and ``s2`` ``[unit]``, in place."""
    for rows in _row_blocks(x):
        deviation = rows.to(torch.float64) - pivot
        s1 += deviation.sum(0)
        s2 += deviation.square_().sum(0)
