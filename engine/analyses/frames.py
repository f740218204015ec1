"""Analyses as tables: wide, a row per layer and contrast, and long, a row per value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..results import crossed, long_form, numbered
from ..table import Labels, Table, of_rows
from .analyse import ANALYSES, Analysis
from .consistency import SIMILARITIES, Consistency
from .localisation import Localisation
from .specificity import QUANTILES, Specificity

COLUMNS: dict[str, type] = {
    "store": str, "criterion": str, "analysis": str, "layer": str, "contrast": str, "other": str,
    "y": int, "x": int, "bin": int, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip
_QUANTILES = tuple(f"q{100 * quantile:g}" for quantile in QUANTILES)
# Similarities of layers, as Consistency names them.
_SIMILARITIES = tuple(f"{name}{end}" for end in ("", "_folds") for name in SIMILARITIES)
# Beginnings of the names of an interval's ends, where they are not the quantity's name.
_INTERVALS = {"share": "", "share_of_living": "living_", "mean": ""}


def wide(analysis: Analysis, name: str) -> Table:
    """The rows of one analysis, a column per number; of ``consistency``, a row per two layers.

    Maps and histograms are in the long form only.

    Raises
    ------
    UserError : there is no such analysis, or it was not requested
    """
    known = (*ANALYSES, "agreement")
    if name not in known:
        raise UserError(f"there is no analysis {name!r}: {nearest(name, known)}")
    rows: Any = getattr(analysis, name)
    if not rows:
        raise UserError(
            f"{name} was not analysed: name it in `analyses`, or other criteria in `agreement`"
        )
    if name == "consistency":
        return _similarities(rows)
    return Table({**of_rows(rows).stored, **_nested(rows)})


def long(analysis: Analysis) -> Iterator[Table]:
    """All values of an analysis, in tables of ``COLUMNS``; the first has no rows."""
    yield Table({}).arranged(COLUMNS)
    for name in (*ANALYSES, "agreement"):
        if getattr(analysis, name):
            for part in _long(analysis, name):
                own = part.labelled("analysis", name).labelled("store", analysis.store)
                if "criterion" not in own.stored:  # those that agreement compares are several
                    own = own.labelled("criterion", analysis.criterion)
                yield own.arranged(COLUMNS)


def _long(analysis: Analysis, name: str) -> Iterator[Table]:
    if name == "consistency":
        assert analysis.consistency is not None
        yield from _geometries(analysis.consistency)
        yield long_form(_similarities(analysis.consistency))
        return
    whole = wide(analysis, name).without("grid", "neighbours")
    if name == "specificity":
        for measure in dict.fromkeys(whole["measure"]):
            own = whole.take(np.flatnonzero(whole["measure"] == measure)).without("measure")
            yield long_form(own, _INTERVALS, f"{measure}_")
            yield from _histograms([r for r in analysis.specificity if r.measure == measure])
        return
    if name == "confusion":
        whole = Table({"contrast": whole.stored["category"], **whole.without("category").stored})
    yield long_form(whole, _INTERVALS)
    if name == "localisation":
        for _, rows in groupby(analysis.localisation, lambda row: row.layer):
            yield _maps(list(rows))


def _nested(rows: Sequence[Any]) -> dict[str, NDArray[np.float64]]:
    """Columns of quantiles and of chance levels, which the rows hold as values of their own."""
    found: dict[str, NDArray[np.float64]] = {}
    if hasattr(rows[0], "quantiles"):
        nothing = (np.nan,) * len(_QUANTILES)
        quantiles = [nothing if row.quantiles is None else row.quantiles for row in rows]
        found |= dict(zip(_QUANTILES, np.array(quantiles, np.float64).T, strict=True))
    if hasattr(rows[0], "random"):
        levels = [row.random if isinstance(row.random, dict) else {"entropy": row.random}
                  for row in rows]  # fmt: skip
        for name in dict.fromkeys(name for one in levels for name in one):
            chances = [one.get(name) for one in levels]
            for part, end in (("mean", ""), ("low", "_low"), ("high", "_high")):
                values = [getattr(chance, part, None) for chance in chances]
                found[f"{name}_chance{end}"] = np.array(values, np.float64)
    return found


def _of(rows: Sequence[Any]) -> Table:
    """The layers and contrasts of rows."""
    return Table({name: [getattr(row, name) for row in rows] for name in ("layer", "contrast")})


def _histograms(rows: Sequence[Specificity]) -> Iterator[Table]:
    """Numbers of units by bin, and the edges of each bin as its ends."""
    rows = [row for row in rows if row.histogram is not None]
    if not rows:
        return
    edges = np.linspace(*rows[0].edges, len(rows[0].histogram or ()) + 1)
    counts = [row.histogram for row in rows]
    axes = [_of(rows), numbered("bin", len(edges) - 1)]
    low, high = (np.tile(ends, len(rows)) for ends in (edges[:-1], edges[1:]))
    found = crossed(axes, histogram=counts, histogram_low=low, histogram_high=high)
    yield long_form(found, before=f"{rows[0].measure}_")


def _maps(rows: Sequence[Localisation]) -> Table:
    """Shares of living units by position; the maps of a layer are of one size."""
    maps = np.array([row.map for row in rows], np.float64)
    axes = [_of(rows), numbered("y", maps.shape[1]), numbered("x", maps.shape[2])]
    return long_form(crossed(axes, map=maps))


def _similarities(found: Consistency) -> Table:
    """A row per two layers, and one for each layer and itself."""
    pairs = list(combinations_with_replacement(range(len(found.layers)), 2))
    first, second = (np.array(one, np.int32) for one in zip(*pairs, strict=True))
    matrices = {name: getattr(found, name) for name in _SIMILARITIES}
    return Table(
        {
            "layer": Labels(first, found.layers),
            "other": Labels(second, found.layers),
            **{
                name: np.array(matrix, np.float64)[first, second]
                for name, matrix in matrices.items()
                if matrix is not None
            },
        }
    )


def _geometries(found: Consistency) -> Iterator[Table]:
    """Units and reliability of every layer, and the distance of every two categories in it."""
    yield long_form(of_rows(found.rdms))
    first, second = (one.astype(np.int32) for one in np.triu_indices(len(found.categories), 1))
    for one in found.rdms:
        if one.rdm is not None:
            pairs = {"contrast": Labels(first, found.categories),
                     "other": Labels(second, found.categories)}  # fmt: skip
            distances = np.array(one.rdm, np.float64)[first, second]
            name = f"{found.distance}_distance"
            yield long_form(Table({**pairs, name: distances}).labelled("layer", one.layer))
