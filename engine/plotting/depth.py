"""Plots of measures by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..analyses.analyse import Analysis
from .axes import FEW, GREY, blank, mark_beyond
from .curves import MEASURES, OTHER_CATEGORIES, RANDOM_UNITS, store_panel
from .panel import ONE_FOLD, WIDE, axes_of, few_enough, legend, named, title, width_of
from .requested import findings_of, needs_folds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_depth(
    analysis: Analysis,
    measure: str = "share",
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot a measure of selective units in every layer, a line per contrast.

    Bands are 95 % intervals over feature maps. Layers without positions, such as pooled ones, are
    not joined with others, and beyond the axis are an arrow with their value. Means are of 10 units
    or more.

    Parameters
    ----------
    analysis : Analysis
        A result of :func:`fusiform.analyse`.
    measure : str, default "share"
        ``share`` or ``share_of_living`` of selective units; ``csi`` or ``d_prime``, held out;
        ``share_with_any``, ``gini`` or ``entropy`` over feature maps, with the band of as many
        random units; ``strength``, the standardised response to the preferred category, and dotted
        to the others.
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
        A measure or contrast is unknown; there are more than 24 contrasts; an analysis was not
        requested; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> axes = fusiform.plot.by_depth(found, "gini", ["faces", "words"])
    >>> axes.get_ylabel()
    'Gini over feature maps'
    """
    line = MEASURES[named(measure, MEASURES, "measure")]
    found = findings_of(analysis, line.table, contrasts)
    store, names = found["stores"][0], [one["name"] for one in found["contrasts"]]
    few_enough(names, "contrasts")
    said = f"selective: {analysis.criterion}"
    with axes_of(ax, *WIDE) as axis:
        limits = line.limits(found)
        if limits is None:
            few = f"fewer than {FEW} selective units" if line.has_means else "no selective units"
            blank(axis, ONE_FOLD if needs_folds(analysis, line.table) else few)
        else:
            store_panel(axis, found, line, 0, width_of(axis) / 0.8)
            _set_limits(axis, limits)
            _name_beside(axis, line.second, line.band)
            said += legend(axis, names)
        title(axis, store["label"], said)
        return axis


def _set_limits(axis: Axes, limits: tuple[float, float]) -> None:
    """Give an axis limits that also cover those of plots that share it, and mark what is beyond."""
    drawn = [one for one in axis.get_shared_y_axes().get_siblings(axis) if one.get_lines()]
    known = [limits, *(one.get_ylim() for one in drawn if one is not axis)]
    axis.set_ylim(min(low for low, _ in known), max(high for _, high in known))
    for one in drawn:
        mark_beyond(one)


def _name_beside(axis: Axes, second: Any, band: Any) -> None:
    """Name lines and bands beside those of contrasts, once for all."""
    if second:
        axis.plot([], [], ":.", color=GREY, label=OTHER_CATEGORIES)
    if band:
        axis.fill_between([], [], [], color=GREY, alpha=0.3, linewidth=0, label=RANDOM_UNITS)
