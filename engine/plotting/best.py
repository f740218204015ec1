"""Plots of the stimuli that drive the strongest recorded units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, require_path
from ..responses.driving import Driven, measured_folds, strongest
from ..responses.recording import Recording
from .axes import SMALL, plain
from .palette import of_category
from .panel import axes_of, named, title
from .pictures import thumbnails
from .tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

# Pixels of a picture; and room beside pictures, below them and for a frame, of a picture's side.
_PIXELS, _GAP, _BELOW, _FRAME = 112, 0.08, 0.3, 0.03
_MOST = 20


def best_images(
    recording: Recording | Path | str,
    contrast: str,
    layer: str | None = None,
    stimuli: Path | str | None = None,
    *,
    units: int = 3,
    images: int = 6,
    ax: Axes | None = None,
) -> Axes:
    """Show the stimuli with the largest responses of the units that separate a contrast best.

    A row per unit. The first fold chooses the units by their AUC, one per channel; AUC and stimuli
    are those of the other folds. A stimulus has its response below it, and a frame in the colour of
    its category.

    Parameters
    ----------
    recording : Recording, str or path
        A recording or its path.
    contrast : str
        A contrast of its categories, other than a weighted sum.
    layer : str, optional
        A recorded layer; by default the one whose best unit has the largest AUC.
    stimuli : str or path, optional
        Where the stimuli are, if not where the recording says.
    units : int, default 3
        Number of units, at most 20.
    images : int, default 6
        Number of stimuli per unit, at most 20.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with an image per stimulus.

    Raises
    ------
    UserError
        A contrast or layer is unknown; a layer was projected; no unit has an AUC; the stimuli are
        missing or changed; matplotlib is missing.

    Examples
    --------
    >>> axes = fusiform.plot.best_images(
    ...     "r18.responses.zarr", "faces", "layer4.1", units=2, images=2)
    >>> len(axes.images)
    4
    """
    recording = Recording.of(recording)
    if not isinstance(contrast, str):
        raise UserError(f"a contrast is a text, such as 'faces'; got {contrast!r}: name one")
    if stimuli is not None:
        require_path(stimuli)
    for number in (units, images):
        if not isinstance(number, int) or not 1 <= number <= _MOST:
            raise UserError(f"units and images are 1 to {_MOST}; got {units!r} and {images!r}")
    found = _units(recording, contrast, layer, units, images)
    rows = [one.row for unit in found for one in unit.most]
    pictures = dict(zip(rows, thumbnails(recording, rows, stimuli, _PIXELS), strict=True))
    if not any(pictures.values()):
        place = stimuli or recording.stimuli_place
        raise UserError(f"no stimulus is as recorded in {place}: `stimuli` says where they are")
    with axes_of(ax, 0.9 + 0.9 * images, 0.5 + 1.15 * len(found)) as axis:
        _draw(axis, recording, found, pictures)
        held_out = "on other folds than chose them" if measured_folds(recording) else "on all"
        said = f"units with the largest AUC for {contrast}, {held_out}; below: the response"
        title(axis, f"{short(str(recording.path))}: {found[0].layer}", said)
        return axis


def _units(
    recording: Recording, contrast: str, layer: str | None, units: int, images: int
) -> list[Driven]:
    """The strongest units of a layer, by default of the one with the largest AUC."""
    layers = [one.name for one in recording.layers]
    own = layers if layer is None else [named(layer, layers, "layer")]
    found = strongest(recording, contrast, own, units, images)
    if not found:
        raise UserError(f"no recorded unit has an AUC for {contrast}: name another contrast")
    best = max(found, key=lambda unit: unit.auc).layer
    return [unit for unit in found if unit.layer == best]


def _draw(
    axis: Axes, recording: Recording, units: list[Driven], pictures: dict[int, Image | None]
) -> None:
    """A row of pictures per unit, on axes whose unit is a picture's side."""
    from matplotlib.patches import Rectangle

    small: dict[str, Any] = {"fontsize": SMALL, "ha": "center"}
    frames: dict[str, Any] = {
        name: {"edgecolor": of_category(k)["light"], "label": plain(name), "fill": False}
        for k, name in enumerate(recording.categories)
    }
    shown: dict[str, Any] = {}
    for row, unit in enumerate(units):
        top = row * (1 + _BELOW)
        said = f"{recording.layer(unit.layer).where(unit.place)}\nAUC {unit.auc:.2f}"
        axis.text(-0.1, top + 0.5, said.replace(" y", "\ny"), ha="right", va="center", fontsize=7)
        for column, one in enumerate(unit.most):
            left, picture = column * (1 + _GAP), pictures[one.row]
            if picture is None:
                axis.text(left + 0.5, top + 0.5, "missing\nor changed", va="center", **small)
            else:
                axis.imshow(np.asarray(picture), extent=(left, left + 1, top + 1, top))
            frame = Rectangle((left, top), 1, 1, linewidth=2, **frames[one.category])
            shown.setdefault(one.category, axis.add_patch(frame))
            axis.text(left + 0.5, top + 1.04, f"{one.response:.3g}", va="top", **small)
    axis.set_axis_off()
    axis.set_aspect("equal")
    axis.set_xlim(-_FRAME, max(len(unit.most) for unit in units) * (1 + _GAP))
    axis.set_ylim(len(units) * (1 + _BELOW), -_FRAME)
    ordered = [shown[name] for name in recording.categories if name in shown]
    axis.legend(handles=ordered, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7,
                borderaxespad=0)  # fmt: skip
