"""Rows of analyses as columns, which the figures of page, print and notebooks are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..analyses.analyse import Analysis
from ..analyses.consistency import SIMILARITIES
from ..analyses.localisation import Localisation
from ..analyses.specificity import BINS
from ..analyses.spread import Spread

Columns = dict[str, list[Any]]
_SPREAD = ("share_with_any", "entropy", "gini")
_CONSISTENCY = [f"{name}{end}" for end in ("", "_folds") for name in SIMILARITIES]
# Columns of the tables that figures are drawn from.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "shares": (
        "layer", "contrast", "units", "living", "selective", "share", "low", "high",
        "share_of_living", "living_low", "living_high",
    ),
    "specificity": (
        "layer", "contrast", "measure", "units", "mean", "low", "high", "quantiles", "histogram",
    ),
    "spread": (
        "layer", "contrast", "channels", "with_any", "per_channel_median", "per_channel_largest",
        *_SPREAD, *(f"{name}_{part}" for name in _SPREAD for part in ("chance", "low", "high")),
    ),
    "localisation": (
        "layer", "contrast", "grid", "places", "entropy", "moran_i", "expected", "p", "map",
        "block",
    ),
    "strength": (
        "layer", "contrast", "units",
        *(f"{side}{end}" for side in ("preferred", "others") for end in ("", "_low", "_high")),
    ),
    "overlap": (
        "layer", "contrast", "other", "both", "either", "jaccard", "expected", "exclusive",
    ),
    "confusion": ("layer", "category", "other", "units", "share"),
}  # fmt: skip


def short(name: str) -> str:
    """A store's name without its folder and suffix."""
    return name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".zarr")


def edges(measure: str) -> list[float]:
    """Edges of the bins of a measure's histogram."""
    first, last, bins = BINS[measure]
    return [round(first + (last - first) * i / bins, 6) for i in range(bins + 1)]


def network(
    analysis: Analysis,
    label: str,
    contrasts: Sequence[str],
    layers: Sequence[str],
    *,
    letter: str = "",
    side: int | None = None,
) -> dict[str, Any]:
    """An analysis as plain values; layers, contrasts and categories are indices.

    Parameters
    ----------
    label, letter : the network's name in figures, and its letter among several
    contrasts : contrasts of the figure; rows of others are left out
    layers : layers that are shown one by one: their maps, distributions and matrices
    side : maps with more positions a side are averaged over blocks; by default none are
    """
    indices = {name: i for i, name in enumerate(analysis.layers)}
    return {
        "label": label,
        "letter": letter,
        "layers": list(analysis.layers),
        "placeless": [indices[name] for name in analysis.placeless],
        "detailed": [indices[name] for name in layers],
        "tables": _tables(analysis, contrasts, set(layers), side),
        "consistency": _consistency(analysis, layers),
    }


def columns(
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str],
    indices: Mapping[str, Mapping[str, int]],
) -> Columns:
    """Rows as columns, with indices for values; rows with a value that has none are left out."""
    indexed = [name for name in names if name in indices]
    read = [row for row in rows if all(row[name] in indices[name] for name in indexed)]
    return {
        name: [indices[name][row[name]] if name in indices else row[name] for row in read]
        for name in names
    }


def _tables(
    found: Analysis, contrasts: Sequence[str], own: set[str], side: int | None
) -> dict[str, Columns]:
    names = {name: i for i, name in enumerate(contrasts)}
    layers = {name: i for i, name in enumerate(found.layers)}
    indices = {"layer": layers, "contrast": names, "other": names, "category": names}
    # Preferred categories are drawn only if every category is a contrast.
    confusion = found.confusion if set(found.categories) <= set(contrasts) else ()
    tables: dict[str, Iterable[Mapping[str, Any]]] = {
        "shares": map(vars, found.shares),
        "specificity": (vars(row) if row.layer in own else
                        vars(row) | {"histogram": None, "quantiles": None}
                        for row in found.specificity),
        "spread": map(_with_chance, found.spread),
        "localisation": (_in_blocks(row, side) for row in found.localisation if row.layer in own),
        "strength": map(vars, found.strength),
        "overlap": (vars(row) for row in found.overlap if row.layer in own),
        "confusion": (vars(row) for row in confusion if row.layer in own),
    }  # fmt: skip
    return {table: columns(rows, _COLUMNS[table], indices) for table, rows in tables.items()}


def _consistency(analysis: Analysis, layers: Sequence[str]) -> dict[str, Any]:
    """Similarities between layers, by measure."""
    found = analysis.consistency
    if found is None:
        return {}
    own = [found.layers.index(name) for name in layers]
    matrices = {name: getattr(found, name) for name in _CONSISTENCY}
    return {
        name: [[matrix[i][j] for j in own] for i in own]
        for name, matrix in matrices.items()
        if matrix is not None
    }


def _with_chance(row: Spread) -> dict[str, Any]:
    """A row of spread with the value expected by chance, and its interval, for each number."""
    columns = dict(vars(row))
    for name in _SPREAD:
        chance = row.random[name] if row.random else None
        known = (chance.mean, chance.low, chance.high) if chance else (None, None, None)
        for part, value in zip(("chance", "low", "high"), known, strict=True):
            columns[f"{name}_{part}"] = value
    return columns


def _in_blocks(row: Localisation, most: int | None) -> dict[str, Any]:
    """A row of localisation whose map is averaged over blocks if a side is longer than ``most``."""
    columns = dict(vars(row))
    side = max(len(row.map), *(len(cells) for cells in row.map))
    block = 1 if most is None else math.ceil(side / most)
    if block > 1:
        values = np.array(row.map, np.float64)  # None is NaN
        ends = [math.ceil(length / block) * block - length for length in values.shape]
        padded = np.pad(values, [(0, end) for end in ends], constant_values=np.nan)
        high, wide = (length // block for length in padded.shape)
        blocks = padded.reshape(high, block, wide, block).swapaxes(1, 2).reshape(high, wide, -1)
        known = np.isfinite(blocks)
        number = known.sum(axis=-1)
        sums = np.where(known, blocks, 0).sum(axis=-1)
        columns["map"] = np.where(number > 0, sums / np.maximum(number, 1), np.nan).tolist()
    return {**columns, "block": block}
