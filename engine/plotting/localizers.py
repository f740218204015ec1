"""Plots of two localizers on one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..comparing.localizers import LocalizerComparison, LocalizerOverlap
from .axes import GREY, blank, name_ticks, plain, style_of
from .curves import RANDOM_UNITS, Line, draw_quantity
from .palette import of_category
from .panel import WIDE, axes_of, chosen, few_enough, legend, named, require, title, width_of
from .tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DICE = Line("", "overlap", "overlap of selected units (Dice)", "dice", "dice_low", "dice_high",
             band=("chance_dice_low", "chance_dice_high"))  # fmt: skip
# Columns of chance by where units are drawn at random.
_CHANCE = {"maps": "map_chance", "units": "chance"}


def localizers(
    comparison: LocalizerComparison,
    contrasts: str | Sequence[str] | None = None,
    chance: Literal["maps", "units"] = "maps",
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the overlap of the units that two localizers select in every layer, against chance.

    The overlap is Dice's coefficient: twice the units that both select over the sum of what each
    selects, with its 95 % interval over feature maps. Dotted, in a band: as many units at random
    for each localizer.

    Parameters
    ----------
    comparison : LocalizerComparison
        A result of :func:`fusiform.compare_localizers`.
    contrasts : str or sequence of str, optional
        Some of its contrasts or their labels; by default all.
    chance : str, default "maps"
        Random units keep their number in each feature map (``maps``), or lie anywhere in the layer
        (``units``), as they always do in layers without several units in a map.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    UserError
        A contrast or chance is unknown; there are more than 24 contrasts; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> stores = ["r18.zarr", "r18-other.zarr"]
    >>> found = fusiform.compare_localizers(stores, top, resamples=20)
    >>> axes = fusiform.plot.localizers(found, "faces")
    >>> axes.get_ylabel()
    'overlap of selected units (Dice)'
    """
    require(comparison, LocalizerComparison, "`compare_localizers`")
    column = _CHANCE[named(chance, _CHANCE, "chance")]
    labels, rows = comparison.labels, comparison.overlap
    known = [labels.get(name, name) for name in dict.fromkeys(row.contrast for row in rows)]
    names = chosen(contrasts, known, labels)
    few_enough(names, "contrasts")
    layers = list(dict.fromkeys(row.layer for row in rows))
    with axes_of(ax, *WIDE) as axis:
        for name in names:
            own = [row for row in rows if labels.get(row.contrast, row.contrast) == name]
            x = [layers.index(row.layer) for row in own]
            style = style_of(of_category(known.index(name))) | {"label": plain(name)}
            beside = {"color": style["color"], "linestyle": ":", "label": "_"}
            draw_quantity(axis, _DICE, (x, [_row(one, column) for one in own]), style, beside)
        axis.fill_between([], [], [], color=GREY, alpha=0.3, linewidth=0, label=RANDOM_UNITS)
        axis.set_ylabel(_DICE.label)
        axis.set_ylim(bottom=0)
        name_ticks(axis, layers, width_of(axis) / 0.8)
        said = f"selective: {comparison.criterion}{legend(axis, names)}"
        if all(row.dice is None for row in rows):
            blank(axis, "no selective units")
        title(axis, " and ".join(map(short, comparison.stores)), said)
        return axis


def _row(one: LocalizerOverlap, column: str) -> dict[str, Any]:
    """A row with the interval of chance as Dice's coefficient, which is linear in the units."""
    row, total = dict(vars(one)), one.selective + one.other_selective
    for end in ("low", "high"):
        in_maps = row[f"{column}_{end}"]
        both = row[f"chance_{end}"] if in_maps is None else in_maps
        row[f"chance_dice_{end}"] = None if both is None or not total else 2 * both / total
    return row
