"""Shares of units beyond every threshold of a grid, from what the scan has written of each unit.

An interval is that of a ratio over clusters, the feature maps: with k_c units of map c beyond, of n
each, its variance is C/(C - 1) sum (k_c - k/C)^2 / N^2 (Cochran 1977, Sampling Techniques, ch. 9A).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..analyses.maps import Maps
from ..layer import Layer
from ..querying.chunks import Asked, Chunk, Source, asked_of, parts_of, source_of
from ..store.reading import Store

_NORMAL_95 = 1.959963984540054


class Grid(NamedTuple):
    """Thresholds of a measure, the most lenient first; ``first`` is the one to begin with."""

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


class Beyond(NamedTuple):
    """Units of a layer beyond each threshold, and half the 95 % interval of their share.

    ``selective [contrast, threshold]`` are numbers of units; ``margin`` is NaN where there is but
    one feature map.
    """

    selective: NDArray[np.int64]
    margin: NDArray[np.float64]


def beyond_thresholds(
    store: Store, layers: Sequence[Layer], contrasts: Sequence[str] | None
) -> dict[str, list[Beyond]]:
    """Of every measure of :data:`GRIDS`, units beyond its thresholds, layer by layer.

    A slab is held at a time. q is there for categories against all others only, as the scan wrote
    it; t and CSI of other contrasts are computed from the moments. NaN is never beyond.
    """
    source = source_of(store, None)
    asked = _asked(store, source, contrasts)
    names = [name for name in GRIDS if name != "q_each" or all(one.stored for one in asked)]
    found: dict[str, list[Beyond]] = {name: [] for name in names}
    for layer in layers:
        maps = Maps(layer)
        # Where every unit is a map of its own, squares of counts are counts.
        number = 1 if maps.channel is None else maps.number
        counts = {
            name: np.zeros((len(asked), number, len(GRIDS[name].at) + 1), np.int64)
            for name in names
        }
        for part in parts_of(store, [layer]):
            chunk = Chunk(store, source, part, len(asked))
            channels = _channels(maps, chunk)
            for index, one in enumerate(asked):
                for name in names:
                    passed = _passed(GRIDS[name], chunk.values(name, one))
                    _add(counts[name][index], channels, passed)
        for name in names:
            found[name].append(_beyond(counts[name], maps, layer.units))
    return found


def _asked(store: Store, source: Source, contrasts: Sequence[str] | None) -> list[Asked]:
    if contrasts is None:
        return asked_of(store, source, None, None)
    return [asked_of(store, source, text, None)[0] for text in contrasts]


def _channels(maps: Maps, chunk: Chunk) -> NDArray[np.int64]:
    units = np.arange(chunk.size)
    return units * 0 if maps.channel is None else maps.of(units, chunk.slab, chunk.units)


def _passed(grid: Grid, values: NDArray[Any]) -> NDArray[np.int64]:
    """How many thresholds a unit is beyond; those that it is are the first of the grid."""
    at, values = np.asarray(grid.at, np.float32), values.astype(np.float32)
    if grid.sign == ">":
        passed = np.searchsorted(at, values, side="left")
    else:
        passed = np.searchsorted(-at, -values, side="right")
    return np.where(np.isnan(values), 0, passed)


def _add(counts: NDArray[np.int64], channels: NDArray[np.int64], passed: NDArray[np.int64]) -> None:
    maps, bins = counts.shape
    counts += np.bincount(channels * bins + passed, minlength=maps * bins).reshape(maps, bins)


def _beyond(counts: NDArray[np.int64], maps: Maps, units: int) -> Beyond:
    """From numbers of units that pass exactly so many thresholds ``[contrast, map, number]``."""
    # Beyond the i-th threshold are those that pass more than i.
    beyond = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    selective = beyond.sum(axis=1)
    squares = selective if maps.channel is None else (beyond.astype(np.float64) ** 2).sum(axis=1)
    if maps.number < 2:
        return Beyond(selective, np.full(selective.shape, np.nan))
    apart = np.maximum(squares - selective.astype(np.float64) ** 2 / maps.number, 0)
    variance = maps.number / (maps.number - 1) * apart / units**2
    return Beyond(selective, _NORMAL_95 * np.sqrt(variance))
