"""Plots of selectivity over the training of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..comparing.differences import Comparison
from ..comparing.draws import SHARES
from ..comparing.training import position
from ..errors import UserError
from .axes import blank, draw_line, plain, style_of
from .curves import MEASURES, label_axis
from .palette import of_category
from .panel import NARROW, axes_of, chosen, few_enough, legend, named, require, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Measures of the selected units alone.
_OF_SELECTED = ("replicated", "csi", "d_prime")
# A factor between positions from which their axis is logarithmic, as on a report's page.
_SPAN = 20
_MOST_TICKS = 10
_COLUMNS = ("value", "low", "high")
_MISSING: dict[str, Any] = dict.fromkeys(_COLUMNS)


def training(
    comparison: Comparison,
    layer: str,
    measure: str = "share",
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot a measure of a layer's selective units at every checkpoint, a line per contrast.

    Bands are 95 % intervals over feature maps. Means of selected units without an interval, or one
    without width, are left out: their units are of one feature map. Positions that span a factor
    of 20 are on a logarithmic axis (``ax.set_xscale("linear")`` undoes it).

    Parameters
    ----------
    comparison : Comparison
        A result of :func:`fusiform.compare` on checkpoints with positions.
    layer : str
        A layer of the first checkpoint.
    measure : str, default "share"
        A measure of the comparison.
    contrasts : str or sequence of str, optional
        Some of the comparison; by default all.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the positions at x.

    Raises
    ------
    UserError
        The networks have no positions; a layer, measure or contrast is unknown; there are more than
        24 contrasts; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> stores = ["r18-seed1.zarr", "r18.zarr"]  # in place of two epochs
    >>> found = fusiform.compare(stores, top, at=[1, 5], resamples=20)
    >>> axes = fusiform.plot.training(found, "layer4.1", "gini")
    >>> axes.get_ylabel()
    'Gini over feature maps'
    """
    require(comparison, Comparison, "`compare`")
    if comparison.at is None:
        raise UserError("training has checkpoints with positions: give them in `at` of `compare`")
    values = comparison.values
    named(measure, dict.fromkeys(row.measure for row in values), "measure")
    named(layer, dict.fromkeys(row.layer for row in values), "layer")
    known = list(dict.fromkeys(row.contrast for row in values))
    names = chosen(contrasts, known)
    styles = [style_of(of_category(known.index(name))) for name in names]
    few_enough(names, "contrasts")
    rows = [row for row in values if (row.layer, row.measure) == (layer, measure)]
    label = f"{measure} (%)" if measure in SHARES else measure
    said = f"selective: {comparison.criterion}"
    with axes_of(ax, *NARROW) as axis:
        for name, style in zip(names, styles, strict=True):
            own = {row.network: vars(row) for row in rows if row.contrast == name}
            shown = [_drawn(own.get(n, _MISSING), measure)
                     for n in range(1, len(comparison.at) + 1)]  # fmt: skip
            draw_line(axis, comparison.at, shown, _COLUMNS, style | {"label": plain(name)})
        said += legend(axis, names)
        label_axis(axis, MEASURES[measure].label if measure in MEASURES else label)
        axis.set_xlabel(plain(comparison.axis or ""))
        _space(axis, comparison.at)
        if all(row.value is None for row in rows):
            blank(axis, "no selective units")
        title(axis, layer, said)
        return axis


def _drawn(row: dict[str, Any], measure: str) -> dict[str, Any]:
    """A row, without its numbers if its units are of one feature map."""
    return _MISSING if measure in _OF_SELECTED and row["low"] == row["high"] else row


def _space(axis: Axes, at: Sequence[float]) -> None:
    """Make an axis of positions logarithmic if they span a large factor; 0 lies before them."""
    above = [one for one in at if one > 0]
    if min(at) < 0 or not above or max(above) < _SPAN * min(above):
        return
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_xscale("symlog", linthresh=min(above), linscale=0.5)
    axis.xaxis.set_major_locator(FixedLocator(at, nbins=_MOST_TICKS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda one, _: position(one)))
