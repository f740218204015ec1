"""Plots of comparisons with brain regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..comparing.brains.compare import BrainComparison
from ..comparing.brains.correlations import LayerCorrelation
from ..comparing.brains.populations import EVERY_UNIT
from ..comparing.brains.recorded import RECORDED
from ..errors import UserError, shortened
from .axes import GREY, blank, name_ticks, plain, style_of
from .palette import of_category
from .panel import WIDE, axes_of, few_enough, legend, named, require, title, width_of
from .tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EVERY: dict[str, Any] = {"color": GREY, "marker": ".", "linestyle": "-", "linewidth": 1.8}
_WHOLE = (EVERY_UNIT, RECORDED)
# Columns of p, corrected over layers.
_CORRECTED = {"correlation": "p_corrected", "outside_target": "outside_target_p_corrected"}
_SIGNIFICANT = 0.05


def regions(
    comparison: BrainComparison,
    region: str | None = None,
    quantity: str = "correlation",
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the correlation of a brain region with every layer, a line per population of units.

    Markers are filled where p, corrected over layers, is at most 0.05. The band is the noise
    ceiling: what the best model could reach, given the differences between subjects.

    Parameters
    ----------
    comparison : BrainComparison
        A result of :func:`fusiform.compare_regions`.
    region : str, optional
        A region of its table; needed if it has several.
    quantity : str, default "correlation"
        ``correlation``, or ``outside_target``, without the categories or stimuli that a population
        was selected for: it responds most to these by construction.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    UserError
        A region or quantity is unknown, or no region of several is named; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.compare_regions("r18.zarr", "regions.csv", top)
    >>> axes = fusiform.plot.regions(found, "FFA")
    >>> axes.get_ylabel()
    'Pearson correlation'
    """
    require(comparison, BrainComparison, "`compare_regions`")
    known = list(dict.fromkeys(one.region for one in comparison.correlations))
    if region is None and len(known) > 1:
        raise UserError(f"the comparison has {len(known)} regions: name one of {shortened(known)}")
    named(quantity, _CORRECTED, "quantity")
    region = known[0] if region is None else named(region, known, "region")
    rows = [one for one in comparison.correlations if one.region == region]
    layers = list(dict.fromkeys(one.layer for one in rows))
    populations = list(dict.fromkeys(one.population for one in rows))
    if quantity == "outside_target":  # all units have no target
        populations = [name for name in populations if name not in _WHOLE]
    few_enough(populations, "contrasts")
    with axes_of(ax, *WIDE) as axis:
        axis.axhline(0, color=GREY, linewidth=0.4)
        low, high = rows[0].ceiling_low, rows[0].ceiling_high
        # It holds for all categories or stimuli.
        if quantity == "correlation" and low is not None and high is not None:
            axis.axhspan(low, high, color=GREY, alpha=0.3, linewidth=0, label="noise ceiling")
        for name, style in _styles(populations).items():
            own = {one.layer: one for one in rows if one.population == name}
            y = [_value(own.get(layer), quantity) for layer in layers]
            p = [_value(own.get(layer), _CORRECTED[quantity]) for layer in layers]
            axis.plot(y, **style, markerfacecolor="white", label=plain(name))
            sure = np.flatnonzero(np.array(p) <= _SIGNIFICANT)
            axis.plot(sure, np.array(y)[sure], **style | {"linestyle": ""})
        outside = ", outside the target" if quantity == "outside_target" else ""
        axis.set_ylabel(f"{comparison.correlation.capitalize()} correlation{outside}")
        name_ticks(axis, layers, width_of(axis) / 0.8)
        missing = legend(axis, populations)
        if all(getattr(one, quantity) is None for one in rows):
            blank(axis, "no population is large enough, or varies")
        said = f"{comparison.compared}; {comparison.chosen}. Filled: p <= {_SIGNIFICANT} corrected"
        title(
            axis,
            f"{region}, {short(comparison.source)}",
            f"{said} over layers, not regions{missing}",
        )
        return axis


def _styles(populations: list[str]) -> dict[str, dict[str, Any]]:
    """Styles of populations: those of categories, and all units apart."""
    selective = [name for name in populations if name not in _WHOLE]
    return {
        name: style_of(of_category(selective.index(name))) if name in selective else _EVERY
        for name in populations
    }


def _value(row: LayerCorrelation | None, name: str) -> float:
    known = getattr(row, name, None)
    return np.nan if known is None else float(known)
