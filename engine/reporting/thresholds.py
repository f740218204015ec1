"""Numbers of units beyond a grid of thresholds, with intervals.

Feature maps are clusters: if k_c units of map c are beyond a threshold, the share k / N of C maps
has variance C/(C - 1) sum (k_c - k/C)^2 / N^2 (Cochran 1977, Sampling Techniques, ch. 9A).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..analyses.maps import Maps
from ..layer import Layer
from ..querying.block import Block, Chunk
from ..querying.chunks import (
    Part,
    QueriedContrast,
    Source,
    parts_of,
    queried_contrasts,
    source_of,
)
from ..store.store_reader import StoreReader

_NORMAL_95 = 1.959963984540054


class Grid(NamedTuple):
    """Thresholds of a measure, the most lenient first; ``first`` is the index shown at first."""

    label: str
    long: str
    symbol: str
    sign: str
    at: tuple[float, ...]
    first: int


def _even(stop: float, steps: int) -> tuple[float, ...]:
    return tuple(round(stop * step / steps, 4) for step in range(steps + 1))


GRIDS = {
    "t": Grid("t, pooled rest", "Welch t against the pooled rest", "t", ">", _even(20, 40), 10),
    "t_each": Grid(
        "t, each other category", "smallest Welch t against each other category", "t", ">",
        _even(15, 30), 6,
    ),
    "q_each": Grid(
        "q, each other category", "Benjamini-Hochberg q of the smallest t", "q", "<=",
        (0.2, 0.1, 0.05, 0.02, 0.01, *(float(f"1e-{power}") for power in range(3, 11))), 2,
    ),
    "csi": Grid("CSI", "Category Selectivity Index", "CSI", ">", _even(0.95, 19), 7),
}  # fmt: skip


class ThresholdCounts(NamedTuple):
    """Units of a layer beyond each threshold, and half the width of their share's 95 % interval.

    ``selective [contrast, threshold]`` counts units; ``margin`` is NaN for a single feature map.
    """

    selective: NDArray[np.int64]
    margin: NDArray[np.float64]


def count_beyond(
    store: StoreReader, layers: Sequence[Layer], contrasts: Sequence[str] | None
) -> dict[str, list[ThresholdCounts]]:
    """Count units beyond the thresholds of every measure of :data:`GRIDS`, layer by layer.

    Reads slab by slab. q exists for categories against all others only, as the scan stored it; t
    and CSI of other contrasts are computed from the moments. NaN is never beyond a threshold.
    """
    source = source_of(store, None)
    queried = _queried(store, source, contrasts)
    names = [name for name in GRIDS if name != "q_each" or all(one.stored for one in queried)]
    found: dict[str, list[ThresholdCounts]] = {name: [] for name in names}
    for layer in layers:
        maps = Maps(layer)
        # If every unit is a feature map of its own, squared counts are the counts.
        number = 1 if maps.channel is None else maps.number
        counts = {
            name: np.zeros((len(queried), number, len(GRIDS[name].at) + 1), np.int64)
            for name in names
        }
        for part in parts_of(store, [layer]):
            chunk = Chunk(store, source, part, len(queried))
            channels = _channels(maps, part)
            for index, one in enumerate(queried):
                block = Block(chunk, [one])
                for name in names:
                    passed = _passed(GRIDS[name], block.values(name))
                    _add(counts[name][index], channels, passed)
        for name in names:
            found[name].append(_totals(counts[name], maps, layer.units))
    return found


def _queried(
    store: StoreReader, source: Source, contrasts: Sequence[str] | None
) -> list[QueriedContrast]:
    if contrasts is None:
        return queried_contrasts(store, source, None, None)
    return [queried_contrasts(store, source, text, None)[0] for text in contrasts]


def _channels(maps: Maps, part: Part) -> NDArray[np.int64]:
    units = np.arange(part.size)
    return units * 0 if maps.channel is None else maps.of(units, part.slab, part.units)


def _passed(grid: Grid, values: NDArray[Any]) -> NDArray[np.int64]:
    """Number of thresholds that a unit is beyond: always the first ones of the grid."""
    at, values = np.asarray(grid.at, np.float32), values.astype(np.float32)
    if grid.sign == ">":
        passed = np.searchsorted(at, values, side="left")
    else:
        passed = np.searchsorted(-at, -values, side="right")
    return np.where(np.isnan(values), 0, passed)


def _add(counts: NDArray[np.int64], channels: NDArray[np.int64], passed: NDArray[np.int64]) -> None:
    maps, bins = counts.shape
    counts += np.bincount(channels * bins + passed, minlength=maps * bins).reshape(maps, bins)


def _totals(counts: NDArray[np.int64], maps: Maps, units: int) -> ThresholdCounts:
    """Totals from ``counts [contrast, map, k]`` of units beyond exactly k thresholds."""
    # A unit is beyond the i-th threshold if it is beyond more than i.
    beyond = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    selective = beyond.sum(axis=1)
    squares = selective if maps.channel is None else (beyond.astype(np.float64) ** 2).sum(axis=1)
    if maps.number < 2:
        return ThresholdCounts(selective, np.full(selective.shape, np.nan))
    spread = np.maximum(squares - selective.astype(np.float64) ** 2 / maps.number, 0)
    variance = maps.number / (maps.number - 1) * spread / units**2
    return ThresholdCounts(selective, _NORMAL_95 * np.sqrt(variance))
