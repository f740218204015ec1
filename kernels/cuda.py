"""Batch to moments on NVIDIA GPUs (Triton). Same names and signatures as :mod:`.device`.

Batch and state are as in :mod:`.device`, contiguous in memory. Activations are read once: a program
owns ``_TILE`` units, keeps their float64 sums in registers over all rows of a group, and reads and
writes their state once. Deviations never reach memory, and the host never waits for the GPU. A
finished group is read out as on any device.

The tests of :mod:`.cpu` run this module in Triton's interpreter, and compile it for compute
capabilities 8.0 and 9.0. The sizes below are the fastest for most layers on an H100
(``benchmarks/results/gpu.md``).
"""

# mypy: disable-error-code="import,no-untyped-def,untyped-decorator"

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from .device import read_out as read_out
from .moments import rows_of_groups

# Units per program, four per thread: for float32, one load of 16 bytes per row.
_TILE = 512
_WARPS = _TILE // (4 * 32)
# Pipeline depth: rows are loaded two iterations ahead. A small layer has too few programs to hide
# the memory latency otherwise.
_STAGES = 3


@triton.jit
def _row(rows, place, stop):
    """Row of the batch at a position: the position itself, unless ``rows`` lists the rows."""
    if rows is None:
        return place
    else:  # noqa: RET505 - Triton would compile code after a return, but skips an else branch
        return tl.load(rows + tl.minimum(place, stop - 1))


@triton.jit
def _deviation(x, rows, place, stop, unit, units, pivot):
    """Value at a position of the batch, minus the pivot; 0 from ``stop`` on."""
    within = unit < tl.where(place < stop, units, 0)
    value = tl.load(x + _row(rows, place, stop) * units + unit, mask=within, other=pivot)
    return value.to(tl.float64) - pivot.to(tl.float64)


# Arguments that change from batch to batch are not compiled in. All offsets have 64 bits.
@triton.jit(do_not_specialize=["start", "stop", "group", "count"])
def _add_rows(
    x,
    rows,
    start: tl.int64,
    stop: tl.int64,
    group: tl.int64,
    count: tl.int64,
    pivot,
    s1,
    s2,
    units: tl.int64,
    TILE: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803
):
    """Add positions ``start`` to ``stop`` to a ``group`` that has ``count`` stimuli so far."""
    unit = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    state = group * units + unit
    # A group that starts afresh does not read its old state.
    fresh = unit < tl.where(count == 0, units, 0)
    begun = unit < tl.where(count == 0, 0, units)
    first = tl.load(x + _row(rows, start, stop) * units + unit, mask=fresh)
    p = tl.load(pivot + state, mask=begun, other=first)
    t1 = tl.load(s1 + state, mask=begun, other=0)
    t2 = tl.load(s2 + state, mask=begun, other=0)
    # Eight rows share each addition to the sums, and their loads run in parallel.
    for place in tl.range(start, stop, 8, num_stages=STAGES):
        d0 = _deviation(x, rows, place, stop, unit, units, p)
        d1 = _deviation(x, rows, place + 1, stop, unit, units, p)
        d2 = _deviation(x, rows, place + 2, stop, unit, units, p)
        d3 = _deviation(x, rows, place + 3, stop, unit, units, p)
        d4 = _deviation(x, rows, place + 4, stop, unit, units, p)
        d5 = _deviation(x, rows, place + 5, stop, unit, units, p)
        d6 = _deviation(x, rows, place + 6, stop, unit, units, p)
        d7 = _deviation(x, rows, place + 7, stop, unit, units, p)
        # Pairwise sums, as on the CPU: less rounding error than one by one.
        t1 += ((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7))
        t2 += ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + (
            (d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)
        )
    tl.store(pivot + state, p, mask=fresh)
    tl.store(s1 + state, t1, mask=unit < units)
    tl.store(s2 + state, t2, mask=unit < units)


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
    x, units = x.contiguous(), x.shape[1]
    tiles = triton.cdiv(units, _TILE)
    parts = list(rows_of_groups(groups))
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        in_order = all(rows[-1] - rows[0] + 1 == len(rows) for _, rows in parts)
        listed = None if in_order else _to(x.device, np.concatenate([rows for _, rows in parts]))
        done = 0
        for group, rows in parts:
            start = int(rows[0]) if in_order else done
            done += len(rows)
            _add_rows[(tiles,)](
                x, listed, start, start + len(rows), group, int(count[group]), pivot, s1, s2, units,
                _TILE, _STAGES, num_warps=_WARPS, enable_fp_fusion=True,
            )  # fmt: skip
            count[group] += len(rows)


def _to(device: torch.device, rows: NDArray[np.int64]) -> torch.Tensor:
    """Copy ``rows`` to the device without waiting for it."""
    on_host = torch.from_numpy(rows)
    if device.type != "cuda":
        return on_host
    return on_host.pin_memory().to(device, non_blocking=True)
