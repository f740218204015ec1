"""Counts, quantiles and histograms of matching units, by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer
from ..table import Column, Labels, Table
from .search import Matches

# A group's names, and the values of a measure in it.
Group = tuple[tuple[str, ...], NDArray[Any]]
Counted = NDArray[np.integer[Any]]


class Counts:
    """Counts of matching units, added up by group.

    Parameters
    ----------
    by : the names of a group: ``layer``, ``contrast`` and ``dims``, in any order
    """

    def __init__(
        self, by: Sequence[str], dims: Sequence[str], layers: Sequence[Layer],
        contrasts: tuple[str, ...],
    ) -> None:  # fmt: skip
        self._by, self._dims, self._layers, self._contrasts = by, dims, layers, contrasts
        number = len(contrasts) if "contrast" in by else 1
        self._counts = {
            layer: np.zeros((number, *_shape_along(layer, dims)), np.int64) for layer in layers
        }

    def add(self, layer: Layer, contrasts: Counted, counts: Counted) -> None:
        """Add ``counts [contrast, *dims]`` of some contrasts."""
        own = self._counts[layer]
        if len(own) == len(self._contrasts):
            own[contrasts] += counts
        else:
            own += counts.sum(axis=0)

    def table(self) -> Table:
        """The groups in the order in which they are met, with their shares."""
        names = ["contrast", *self._dims]
        places, sums = [], []
        for number, (layer, counts) in enumerate(self._counts.items()):
            index = np.indices(counts.shape).reshape(len(names), -1)
            own = {"layer": np.full(counts.size, number), **dict(zip(names, index, strict=True))}
            places.append([own[name] for name in self._by])
            units = np.full(counts.size, len(self._contrasts) * layer.units // counts.size)
            sums.append([counts.ravel(), units])
        totals = np.concatenate(sums, axis=1)
        columns = (
            np.concatenate([np.reshape(own, (len(self._by), -1)) for own in places], axis=1)
            if self._by
            else np.empty((0, totals.shape[1]), np.int64)
        )
        if "layer" not in self._by and len(self._layers) > 1:
            columns, totals = _added_up(columns, totals)
        texts = {"layer": tuple(one.name for one in self._layers), "contrast": self._contrasts}
        table: dict[str, Column] = {
            name: Labels(column.astype(np.int32), texts[name]) if name in texts else column
            for name, column in zip(self._by, columns, strict=True)
        }
        matching, units = totals
        return Table({**table, "matching": matching, "units": units, "share": matching / units})


def counts_along(dims: Sequence[str], found: Matches) -> tuple[Layer, Counted, Counted]:
    """The layer of some matches, their contrasts, and counts ``[contrast, *dims]``."""
    layer = found.block.layer
    contrasts, rows = np.unique(found.contrasts, return_inverse=True)
    shape = (len(contrasts), *_shape_along(layer, dims))
    flat = np.ravel_multi_index([rows, *(found.values(dim) for dim in dims)], shape)
    return layer, contrasts, np.bincount(flat, minlength=math.prod(shape)).reshape(shape)


def _shape_along(layer: Layer, dims: Sequence[str]) -> tuple[int, ...]:
    """The sizes of a layer along some dimensions."""
    return tuple(layer.shape[layer.dims.index(dim)] for dim in dims)


def _added_up(columns: NDArray[Any], totals: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Equal groups as one, in the order of the first of each."""
    if not len(columns):
        return columns[:, :1], totals.sum(axis=1, keepdims=True)
    _, first, group = np.unique(columns, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(first)
    sums = [np.bincount(group.ravel(), own).astype(np.int64)[order] for own in totals]
    return columns[:, first[order]], np.array(sums)


def quantile_rows(groups: Iterable[Group], at: Sequence[float]) -> Iterator[tuple[Any, ...]]:
    """Number of values and quantiles of every group."""
    for group, values in groups:
        found = _quantiles(values, at) if len(values) else np.full(len(at), np.nan)
        yield (*group, len(values), *found.tolist())


def _quantiles(values: NDArray[Any], at: Sequence[float]) -> NDArray[Any]:
    """Quantiles by linear interpolation; beside an infinite value, that value."""
    with np.errstate(invalid="ignore"):  # inf - inf
        found = np.quantile(values, at)
    lower, higher = (np.quantile(values, at, method=how) for how in ("lower", "higher"))
    infinite: NDArray[Any] = np.where(np.isinf(lower), lower, higher)
    return np.where(np.isnan(found), infinite, found)


def histogram_rows(groups: Sequence[Group], bins: int) -> Iterator[tuple[Any, ...]]:
    """Edges and count of every bin of every group; all groups have the same bins."""
    known = [own for _, values in groups if len(own := values[np.isfinite(values)])]
    below, above = (
        [end] if any((values == end).any() for _, values in groups) else []
        for end in (-np.inf, np.inf)
    )
    bounds = (min(v.min() for v in known), max(v.max() for v in known)) if known else (0, 1)
    edges = np.histogram_bin_edges(np.empty(0), bins, (float(bounds[0]), float(bounds[1])))
    lows, highs = (*below, *edges[:-1], *above), (*below, *edges[1:], *above)
    for group, values in groups:
        counts = np.histogram(values[np.isfinite(values)].astype(np.float64), edges)[0]
        ends = [[np.count_nonzero(values == end) for end in side] for side in (below, above)]
        for low, high, count in zip(lows, highs, (*ends[0], *counts, *ends[1]), strict=True):
            yield (*group, float(low), float(high), int(count))


def table_of(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Table:
    """A table from rows."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return Table({name: list(values) for name, values in zip(names, columns, strict=True)})
