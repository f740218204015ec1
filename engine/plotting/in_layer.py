"""Plots of a layer, or of all in a matrix: distributions, maps, overlap and consistency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analyses.analyse import Analysis
from ..analyses.consistency import SIMILARITIES
from ..analyses.specificity import BINS
from ..errors import UserError
from .axes import FEW, blank, rows_of
from .curves import (
    distributed,
    distribution_panel,
)
from .matrices import confusion as confusion_matrix
from .matrices import consistency as consistency_matrix
from .matrices import draw_map, draw_matrix
from .palette import THEMES
from .panel import MAP, MATRIX, ONE_FOLD, axes_of, few_enough, named, require, title, width_of
from .requested import findings_of, needs_folds, shown_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXCLUDED = 'the criterion selects no unit for two contrasts: `test="rest"` pools the baseline'


def distributions(
    analysis: Analysis,
    layer: str | None = None,
    measure: str = "csi",
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the distribution of a layer's selective units, a histogram per contrast.

    Units are selected on one fold and measured on the others. Each histogram is scaled to its own
    largest count; a tick marks its median, ``n`` counts its values.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    layer : str, optional
        A layer; by default, of those with positions, the one with the largest share of
        selective units.
    measure : str, default "csi"
        ``csi`` or ``d_prime``.
    contrasts : str or sequence of str, optional
        Some of the analysis; by default all.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    UserError
        A layer, measure or contrast is unknown; an analysis was not requested; matplotlib is
        missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.distributions(found, "layer4.1", "d_prime")
    >>> axes.get_xlabel()
    "d', held out"
    """
    named(measure, BINS, "distribution of a measure")
    layer = shown_layer(analysis, layer)
    found = findings_of(analysis, "specificity", contrasts, layer)
    store, names = found["stores"][0], [one["name"] for one in found["contrasts"]]
    few_enough(names, "contrasts")
    rows = distributed(store, measure, analysis.layers.index(layer))
    missing = [name for k, name in enumerate(names) if k not in rows]
    with axes_of(ax, 4.5, 0.9 + 0.35 * max(4, len(rows))) as axis:
        said = f"selective: {analysis.criterion}"
        if rows:
            distribution_panel(axis, found, measure, rows)
            if missing:
                said += f". Fewer than {FEW} units: {', '.join(missing)}"
        else:
            few = f"fewer than {FEW} selective units"
            blank(axis, ONE_FOLD if needs_folds(analysis, "specificity") else few)
        title(axis, f"{store['label']}: {layer}", said)
        return axis


def map(
    analysis: Analysis, contrast: str, layer: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Plot where in the image a layer's selective units are: their share at each position.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    contrast : str
        A contrast of the analysis.
    layer : str, optional
        A layer with positions; by default the one with the largest share of selective units.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; its image holds the shares ``[y, x]`` of living units.

    Raises
    ------
    UserError
        A contrast or layer is unknown; a layer has no positions; localisation was not analysed;
        matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.map(found, "faces", "layer3.1")
    >>> axes.images[0].get_array().shape
    (4, 4)
    """
    layer = shown_layer(analysis, layer)
    found = findings_of(analysis, "localisation", [contrast], layer)
    rows = rows_of(found["stores"][0], "localisation")
    if not rows:
        raise UserError(f"a map has the positions of a layer; {layer} has none: name another")
    values = np.array(rows[0]["map"], np.float64)
    with axes_of(ax, *MAP) as axis:
        from matplotlib.ticker import PercentFormatter

        name = f"{found['stores'][0]['label']}: {contrast}, {layer}"
        if np.nanmax(values, initial=0) > 0:
            most = draw_map(axis, values, found["contrasts"][0]["light"])
            form = PercentFormatter(1, symbol=None)
            label = "selective living units (%)"
            axis.figure.colorbar(axis.images[0], ax=axis, shrink=0.8, format=form, label=label)
            title(axis, name, f"up to {100 * most:.3g} %. Selective: {analysis.criterion}")
        else:
            blank(axis, "no selective units")
            title(axis, name, f"selective: {analysis.criterion}")
        return axis


def overlap(
    analysis: Analysis,
    layer: str | None = None,
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the overlap of a layer's units selective for two contrasts, as Jaccard's index.

    Grey: no unit is selective for either, or the criterion excludes that one is for both. The
    default criterion excludes all: ``Criterion("rest")`` pools the baseline.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    layer : str, optional
        A layer; by default, of those with positions, the one with the largest share of
        selective units.
    contrasts : str or sequence of str, optional
        Some of the analysis; by default all.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; its image holds the indices ``[contrast, contrast]``.

    Raises
    ------
    UserError
        A layer or contrast is unknown; overlap was not analysed; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.overlap(found, "layer4.1")
    >>> axes.images[0].get_array().shape
    (6, 6)
    """
    layer = shown_layer(analysis, layer)
    found = findings_of(analysis, "overlap", contrasts, layer)
    names = [one["name"] for one in found["contrasts"]]
    values = np.full((len(names), len(names)), np.nan)
    rows = rows_of(found["stores"][0], "overlap")
    for row in rows:
        if row["jaccard"] is not None and not row["exclusive"]:
            values[row["contrast"], row["other"]] = row["jaccard"]
            values[row["other"], row["contrast"]] = row["jaccard"]
    head = f"{found['stores'][0]['label']}: {layer}"
    said = f"grey: none, or excluded by the criterion. Selective: {analysis.criterion}"
    if np.isnan(values).all():
        why = _EXCLUDED if any(row["exclusive"] for row in rows) else "no selective units"
        return _blank(ax, why, head, f"selective: {analysis.criterion}")
    return _matrix(ax, values, names, head, said, "units of both / of either", most=None)


def confusion(analysis: Analysis, layer: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Plot the preferred category of a layer's units on one fold (rows) and on another.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    layer : str, optional
        A layer; by default, of those with positions, the one with the largest share of
        selective units.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; its image holds the shares ``[category, category]`` of each row's units.

    Raises
    ------
    UserError
        A layer is unknown; the scan had one fold; confusion was not analysed; matplotlib is
        missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.confusion(found, "layer4.1")
    >>> axes.images[0].get_array().shape
    (6, 6)
    """
    layer = shown_layer(analysis, layer)
    found = findings_of(analysis, "confusion", analysis.categories, layer)
    store = found["stores"][0]
    values, names, head = confusion_matrix(store, {**found, "layer": layer})
    said = "Living units by preferred category: rows on one fold, columns on another"
    if np.isnan(values).all():
        return _blank(ax, "no living units", head, said)
    return _matrix(ax, values, names, head, said, "share of the row")


def consistency(
    analysis: Analysis, similarity: str = "spearman", *, ax: Axes | None = None
) -> Axes:
    """Plot the similarity of the category geometries of every two layers.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    similarity : str, default "spearman"
        ``spearman``, ``kendall``, ``cka`` or ``cka_unbiased``; with ``_folds``, between different
        folds.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; its image holds the similarities ``[layer, layer]``.

    Raises
    ------
    UserError
        A similarity is unknown; consistency was not analysed; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.consistency(found, "cka")
    >>> axes.images[0].get_array().shape
    (2, 2)
    """
    require(analysis, Analysis, "`analyse`")
    known = [f"{name}{end}" for end in ("", "_folds") for name in SIMILARITIES]
    named(similarity, known, "similarity")
    if analysis.folds == 1 and similarity.endswith("_folds"):
        raise UserError(f"{similarity} compares folds; the scan had one: leave _folds out")
    found = findings_of(analysis, "consistency", None, *analysis.layers)
    store = found["stores"][0]
    if similarity not in store["consistency"]:
        raise UserError(f"{similarity} was not analysed: name it in `similarities`")
    values, names, head = consistency_matrix(store, found, similarity)
    return _matrix(ax, values, names, head, "Matrices of categories, layer by layer", similarity)


def _blank(ax: Axes | None, why: str, head: str, said: str) -> Axes:
    with axes_of(ax, *MATRIX) as axis:
        blank(axis, why)
        title(axis, head, said)
        return axis


def _matrix(
    ax: Axes | None, values: Any, names: list[str], head: str, said: str, label: str,
    most: float | None = 1,
) -> Axes:  # fmt: skip
    """A matrix on a scale from 0, or -1 if any value is negative, to ``most`` or its largest."""
    with axes_of(ax, *MATRIX) as axis:
        negative = float(np.nanmin(np.array(values, np.float64), initial=0)) < 0
        lowest, ramp = (-1, "PuOr") if negative else (0, "cividis")
        shown = draw_matrix(
            axis, (values, names, ""), width_of(axis), cmap=ramp, vmin=lowest, vmax=most
        )
        axis.figure.colorbar(shown, ax=axis, label=label, shrink=0.7)
        axis.set_facecolor(THEMES["light"]["grid"])  # of unknown values
        title(axis, head, said)
        return axis
