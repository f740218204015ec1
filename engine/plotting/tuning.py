"""Tuning curves of selective units: held-out mean responses to every category, and chance levels.

Alone, and for the composed figure, which needs more of a store than the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analyses.analyse import Analysis, analyse
from ..contrasts.chance import chance
from ..contrasts.evaluate import samples_of
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.select import select_slabs
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.store_reader import StoreReader
from .axes import FEW, GREY, blank, name_ticks, plain, style_of
from .palette import of_category
from .panel import NARROW, ONE_FOLD, axes_of, few_enough, legend, title, width_of
from .tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tuning(
    store: StoreReader | Path | str,
    layer: str,
    criterion: Criterion = DEFAULT,
    contrasts: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the mean response of a layer's selective units to every category, a line per contrast.

    Units are selected on one fold and measured on the others, in standard deviations of all
    responses of the layer; 0 is their mean. The grey line is of all living units, which is what as
    many random units give. Curves are of 10 units or more.

    Parameters
    ----------
    store : Store, str or path
        A store or its path.
    layer : str
        A layer of the store.
    criterion : Criterion, optional
        The criterion that selects units.
    contrasts : str or sequence of str, optional
        As in :func:`fusiform.summary`; by default every category.
    ax : matplotlib.axes.Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    UserError
        A layer or contrast is unknown; the scan has not finished; there are more than 24 contrasts;
        matplotlib is missing.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> axes = fusiform.plot.tuning("r18.zarr", "layer4.1", top, ["faces", "words"])
    >>> axes.get_ylabel()
    'response, held out (z in the layer)'
    """
    store = StoreReader.of(store)
    layer = store.layer(layer).name
    found = analyse(store, criterion, [layer], contrasts, "strength", resamples=1)
    few_enough(found.contrasts, "contrasts")
    with axes_of(ax, *NARROW) as axis:
        axis.axhline(0, color=GREY, linewidth=0.4)
        head, said = f"{short(found.store)}: {layer}", f"selective: {found.criterion}"
        curves = _standardised(store, found, criterion, store.layer(layer))
        if curves is None:
            blank(axis, ONE_FOLD if store.folds == 1 else "no unit lives, or all respond alike")
        else:
            axis.plot(curves[1], color=GREY, label="all living units")
            for k, values in enumerate(curves[0]):
                style = style_of(of_category(k)) | {"label": plain(found.contrasts[k])}
                axis.plot(values, **style)
            said += legend(axis, found.contrasts)
        axis.set_ylabel("response, held out (z in the layer)")
        name_ticks(axis, found.categories, width_of(axis) / 0.8)
        title(axis, head, said)
        return axis


def details(
    store: StoreReader, found: Analysis, criterion: Criterion, layers: Sequence[str]
) -> dict[str, Any]:
    """Parts of the composed figure that are not on the page.

    ``tuning`` has for every layer the curves ``[contrast][category]`` and that of all living units
    ``[category]``, standardised as in :mod:`..analyses.strength`; ``rdm`` its matrix of categories.
    ``chance`` has for every layer of the analysis the share of units that 5 % of the shuffles
    reach for any contrast; None if the scan shuffled no labels.
    """
    rdms = {one.layer: one.rdm for one in found.consistency.rdms} if found.consistency else {}
    shown = {}
    for layer in map(store.layer, layers):
        curves = _standardised(store, found, criterion, layer)
        plain_curves = [_plain(values) for values in curves] if curves else None
        shown[layer.name] = {"tuning": plain_curves, "rdm": rdms.get(layer.name)}
    return {
        "categories": list(found.categories),
        "contrasts": list(found.contrasts),
        "layers": shown,
        "chance": _chance(store, found, criterion) if store.shuffles else None,
    }


def _plain(values: NDArray[np.float64]) -> Any:
    """Values as lists, None for NaN."""
    return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]


def _standardised(
    store: StoreReader, found: Analysis, criterion: Criterion, layer: Layer
) -> list[NDArray[np.float64]] | None:
    """:func:`_responses` in standard deviations of a layer's responses; None for one fold."""
    scale = {row.layer: (row.layer_mean, row.layer_sd) for row in found.strength}
    mean, sd = scale.get(layer.name, (None, None))
    if store.folds == 1 or mean is None or not sd:
        return None
    return [(values - mean) / sd for values in _responses(store, layer, criterion, found.contrasts)]


def _responses(
    store: StoreReader, layer: Layer, criterion: Criterion, contrasts: Sequence[str]
) -> tuple[Any, Any]:
    """Mean responses ``[contrast, category]`` of selective units, and ``[category]`` of living."""
    parsed = parse_contrasts(contrasts, store.categories)
    sums = np.zeros((len(parsed), len(store.categories)))
    units = np.zeros((len(parsed), 1), np.int64)
    every, living = np.zeros(len(store.categories)), 0
    for _, slabs in select_slabs(store, criterion, parsed, [layer]):
        for (slab, _), chosen in zip(store.slabs(layer), slabs, strict=True):
            moments = store.moments(layer, slab)
            for index, fold in np.argwhere(chosen.selective_fold.any(axis=-1)):
                own = chosen.selective_fold[index, fold]
                sums[index] += held_out_sample(moments, int(fold), own).mean.sum(axis=1)
                units[index] += int(own.sum())
            alive = ~(chosen.dead | chosen.nonfinite)
            every += samples_of(moments)[0].mean[:, alive].sum(axis=1)
            living += int(alive.sum())
    with np.errstate(all="ignore"):
        return np.where(units < FEW, np.nan, sums / units), every / living


def _chance(store: StoreReader, found: Analysis, criterion: Criterion) -> list[float]:
    parsed = parse_contrasts(found.contrasts, store.categories)
    layers = [store.layer(name) for name in found.layers]
    return [
        float(np.quantile(shares, 0.95, axis=1).max())
        for _, shares in chance(store, criterion, parsed, layers)
    ]
