"""Plots of selectivity over the training of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..comparing.differences import Comparison
from ..comparing.draws import SHARES
from ..errors import UserError
from ..values import listed
from .axes import blank, draw_line, plain, style_of
from .curves import MEASURES, label_axis
from .palette import of_category
from .panel import axes_of, few_enough, legend, named, require, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training(
    comparison: Comparison,
    layer: str,
    measure: str = "share",
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot a measure of a layer's selective units at every checkpoint, a line per contrast.

    Bands are 95 % intervals over feature maps.

    Parameters
    ----------
    comparison : a result of :func:`fusiform.compare` on checkpoints with positions
    layer : a layer of the first checkpoint
    measure : a measure of the comparison
    contrasts : some of the comparison; by default all
    ax : axes to draw in; by default those of a new figure

    Returns
    -------
    Axes
        the axes, with the positions at x

    Raises
    ------
    UserError : the networks have no positions; an unknown layer, measure or contrast; more than 24
        contrasts; matplotlib is missing

    Examples
    --------
    >>> found = fusiform.compare(["epoch1.zarr", "epoch5.zarr"], at=[1, 5])
    >>> fusiform.plot.training(found, "layer4.1", "csi")
    """
    require(comparison, Comparison, "`compare`")
    if comparison.at is None:
        raise UserError("training has checkpoints with positions: give them in `at` of `compare`")
    values = comparison.values
    named(measure, dict.fromkeys(row.measure for row in values), "measure")
    named(layer, dict.fromkeys(row.layer for row in values), "layer")
    known = list(dict.fromkeys(row.contrast for row in values))
    names = known if contrasts is None else listed(contrasts)
    styles = [style_of(of_category(known.index(named(n, known, "contrast")))) for n in names]
    few_enough(names, "contrasts")
    rows = [row for row in values if (row.layer, row.measure) == (layer, measure)]
    label = f"{measure} (%)" if measure in SHARES else measure
    said = f"selective: {comparison.criterion}"
    with axes_of(ax, 5, 3.2) as axis:
        for name, style in zip(names, styles, strict=True):
            own = {row.network: vars(row) for row in rows if row.contrast == name}
            shown = [own.get(number, _MISSING) for number in range(1, len(comparison.at) + 1)]
            draw_line(axis, comparison.at, shown, _COLUMNS, style | {"label": plain(name)})
        said += legend(axis, names)
        label_axis(axis, MEASURES[measure].label if measure in MEASURES else label)
        axis.set_xlabel(plain(comparison.axis or ""))
        if all(row.value is None for row in rows):
            blank(axis, "no selective units")
        title(axis, layer, said)
        return axis


_COLUMNS = ("value", "low", "high")
_MISSING = dict.fromkeys(_COLUMNS)
