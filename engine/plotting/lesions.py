"""Plots of the effects of lesions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import shortened
from ..lesions.result import QUANTITIES, LesionEffects
from .axes import GREY, name_ticks, plain, style_of
from .palette import of_category
from .panel import NARROW, axes_of, legend, named, require, title, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the room between two categories, what the markers of all lesions take.
_ROOM = 0.5


def lesions(effects: LesionEffects, quantity: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Plot the change in every category by the lesion of selective units, and by its controls.

    Bars are 95 % intervals over resampled stimuli.

    Parameters
    ----------
    effects : LesionEffects
        A result of :func:`fusiform.measure_lesions`.
    quantity : str, optional
        A quantity of its readout; by default the first.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with a marker per category and lesion.

    Raises
    ------
    UserError
        A quantity is unknown; matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> request = fusiform.LesionRequest("faces", "layer4.1", top, controls="random", draws=1)
    >>> effects = fusiform.measure_lesions("r18.zarr", request, resamples=20)
    >>> axes = fusiform.plot.lesions(effects, "probability")
    >>> axes.get_ylabel()
    'change of probability'
    """
    require(effects, LesionEffects, "`measure_lesions`")
    known = effects.quantities
    quantity = known[0] if quantity is None else named(quantity, known, "quantity")
    rows = {(row.lesion, row.category): row for row in effects.effects if row.quantity == quantity}
    categories = list(dict.fromkeys(category for _, category in rows))
    names = list(dict.fromkeys(name for name, _ in rows))
    shifts = np.linspace(-_ROOM / 2, _ROOM / 2, len(names)) if len(names) > 1 else [0.0]
    with axes_of(ax, *NARROW) as axis:
        axis.axhline(0, color=GREY, linewidth=0.4)
        for number, (name, shift) in enumerate(zip(names, shifts, strict=True)):
            own = [rows[name, category] for category in categories]
            change = np.array([row.change for row in own])
            ends = np.array([(row.low, row.high) for row in own]).T
            style = _style(effects, number) | {"label": plain(name)}
            x = np.arange(len(own)) + shift
            axis.vlines(x, *ends, color=style["color"], linewidth=1)
            axis.plot(x, change, **style)
        axis.set_ylabel(f"change of {plain(quantity)}")
        name_ticks(axis, categories, width_of(axis) / 0.8)
        legend(axis, names)
        meaning = f"{quantity}: {QUANTITIES[quantity]}. " if quantity in QUANTITIES else ""
        said = f"{meaning}Units selected on {effects.selected_on}: {effects.criterion}"
        title(axis, f"Lesion: {effects.contrast}, {shortened(effects.layers)}", said)
        return axis


def _style(effects: LesionEffects, number: int) -> dict[str, Any]:
    """A marker without a line: the selective units in their category's colour, controls grey."""
    own = effects.contrast in effects.categories
    place = effects.categories.index(effects.contrast) if own else 0
    colour = of_category(place)["light"] if number == 0 else GREY
    return style_of(of_category(number)) | {
        "color": colour, "linestyle": "", "markerfacecolor": colour if number == 0 else "white",
    }  # fmt: skip
