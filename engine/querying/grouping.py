"""Counts, quantiles and histograms of matching units, by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer
from .search import Matches
from .table import Table

# A group's names, and the values of a measure in it.
Group = tuple[tuple[str, ...], NDArray[Any]]


def shape_along(layer: Layer, dims: Sequence[str]) -> tuple[int, ...]:
    """The sizes of a layer along some dimensions."""
    return tuple(layer.shape[layer.dims.index(dim)] for dim in dims)


def counts_along(dims: Sequence[str], found: Matches) -> tuple[Layer, int, Any]:
    """Layer and contrast of some matches, and their counts along ``dims``."""
    layer = found.chunk.layer
    counts: Any = len(found.units)
    if dims:
        shape = shape_along(layer, dims)
        own = [found.chunk.values(dim, found.contrast, found.units) for dim in dims]
        flat = np.ravel_multi_index(own, shape)
        counts = np.bincount(flat, minlength=math.prod(shape)).reshape(shape)
    return layer, found.contrast.number, counts


def grouped_counts(
    by: Sequence[str],
    dims: Sequence[str],
    contrasts: Sequence[str],
    counted: Mapping[tuple[Layer, int], NDArray[np.int64]],
) -> Table:
    """Counts of layers and contrasts, added up by group."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for (layer, k), counts in counted.items():
        units = layer.units // counts.size
        for index, count in np.ndenumerate(counts):
            names = {"layer": layer.name, "contrast": contrasts[k]}
            names |= dict(zip(dims, index, strict=True))
            total = sums.setdefault(tuple(names[name] for name in by), [0, 0])
            total[0] += int(count)
            total[1] += units
    rows = [(*group, matching, units) for group, (matching, units) in sums.items()]
    table = table_of((*by, "matching", "units"), rows)
    return Table({**table.columns, "share": table["matching"] / table["units"]})


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
