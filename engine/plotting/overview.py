"""The composed figure for a paper: tuning curves, category RDMs, shares and CSI on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import (
    FEW,
    GREY,
    LONGEST,
    Json,
    blank,
    fitted,
    in_lines,
    legend,
    name_lines,
    name_ticks,
    note,
    plain,
    store_style,
    style_of,
)
from .curves import CSI, SHARE, contrast_names, not_joined, store_panel
from .matrices import draw_matrix, layer_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches, and points of names and titles.
_WIDTH, _ROW, _RDM, _CURVE, _AROUND, _NAMES, _TITLES = 7.2, 0.62, 2.1, 2.0, 0.75, 6.0, 7.0
_COLUMNS = 4
# Of a panel's height, what remains for its axis.
_AXIS = 0.4
# Layers with tuning curves.
_LAYERS = 5


def layers_of(found: Json) -> list[str]:
    """Layers with tuning curves: at even steps of the first store's, and the one shown."""
    first = found["stores"][0]
    names = [first["layers"][place] for place in first["detailed"]]
    places = np.linspace(0, len(names) - 1, min(_LAYERS, len(names))).round().astype(int)
    shown = names.index(found["layer"])
    places[np.abs(places - shown).argmin()] = shown
    return [names[place] for place in dict.fromkeys(places.tolist())]


def layers_needed(store: Json, found: Json) -> list[str]:
    """Layers of a store that the composed figure shows."""
    places = {layer_of(store, found, name) for name in [*layers_of(found), found["layer"]]}
    return [store["layers"][place] for place in sorted(places)]


def overview(found: Json, details: Sequence[Json]) -> Figure:
    """The composed figure; ``details`` are those of :func:`.tuning.details`, by store."""
    from matplotlib.figure import Figure

    stores, contrasts = found["stores"], len(found["contrasts"])
    tuned = _tuned(found, details)
    rows, across = _rows_of_panels(len(stores)), len(stores) <= 2
    heights = [_AROUND + _ROW * max(1, len(tuned)), rows * _RDM]
    heights += [rows * _CURVE] if across else [rows * _CURVE] * 2
    figure = Figure((_WIDTH, sum(heights) + 0.3), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    curves = parts[2].subfigures(1, 2).ravel() if across else parts[2:]
    letters = zip("abcd", [parts[0], parts[1], *curves], strict=True)
    for letter, part in letters:
        part.text(0.002, 0.995, letter, fontsize=10, fontweight="bold", va="top")
    _draw_tuning(parts[0], found, details, tuned)
    _draw_rdms(parts[1], found, details)
    columns = len(stores) if across else min(_COLUMNS, len(stores))
    inches = _WIDTH / columns / (2 if across else 1)
    for part, line in zip(curves, (SHARE, CSI), strict=True):
        axes = _axes(part, len(stores), columns)
        for s, axis in enumerate(axes):
            store_panel(axis, found, line, s, 0.75 * inches, _NAMES)
            axis.tick_params(axis="y", labelsize=_NAMES)
            if line is SHARE and details[s]["chance"]:
                _draw_chance(axis, stores[s], details[s]["chance"])
            axis.set_title(fitted(stores[s]["label"], inches, _TITLES), fontsize=_TITLES)
            if s % columns:
                axis.set_ylabel("")
            if not any(
                row[line.value] for k in range(contrasts) for row in line.rows(stores[s], k)
            ):
                blank(axis, "few or none")
        limits = line.limits(found, _chances(found, details) if line is SHARE else ())
        for axis in axes:
            axis.set_ylim(limits)
            name_lines(axis, contrast_names(found), _AXIS * _CURVE)
    missing = [one["name"] for k, one in enumerate(found["contrasts"]) if k not in tuned]
    note(figure, _legend(found, details), missing, where=" in a")
    return figure


def _draw_chance(axis: Axes, store: Json, chance: Sequence[float]) -> None:
    """The share that shuffled labels reach; layers without positions are not joined with others."""
    placeless = np.isin(np.arange(len(chance)), store["placeless"])
    for apart, style in ((placeless, "."), (~placeless, ":")):
        values = np.where(apart, np.array(chance, float), np.nan)
        axis.plot(values, style, color=GREY, markersize=3, label="_chance")


def _chances(found: Json, details: Sequence[Json]) -> list[float]:
    """Chance in all layers with positions."""
    return [
        value
        for store, detail in zip(found["stores"], details, strict=True)
        for place, value in enumerate(detail["chance"] or ())
        if place not in store["placeless"]
    ]


def _rows_of_panels(number: int) -> int:
    return -(-number // _COLUMNS)


def _axes(part: Any, number: int, columns: int) -> list[Axes]:
    rows = -(-number // columns)
    axes = part.subplots(rows, columns, squeeze=False, sharey=True).ravel().tolist()
    for empty in axes[number:]:
        empty.remove()
    return list(axes[:number])


def _legend(found: Json, details: Sequence[Json]) -> str:
    known = [one["chance"] is not None for one in details]
    chance = (
        "c, dotted: the share that 5 % of shuffled labels reach, in the category where it is most"
        if all(known)
        else "c: chance is unknown where the scan shuffled no labels"
    )
    first = found["stores"][0]["layers"]
    same = all(store["layers"] == first for store in found["stores"])
    layers = "" if same else "layers of the first network, and of others at the same depth; "
    return (
        f"Selective: {found['criterion']}. a: {layers}units selected on one fold, their responses "
        "on the others; shaded: the preferred category; grey: all living units, what random units "
        f"give; 0 is the layer's mean. b: 1 - Pearson's r over living units. {chance}. "
        f"Bands: 95 %. Means are of {FEW} units or more.{not_joined(found)}"
    )


def _curve(found: Json, detail: Json, s: int, layer: str, k: int | None) -> dict[str, float]:
    """A store's curve by category in a layer: of a contrast, or of all living units."""
    store = found["stores"][s]
    curves = detail["layers"][store["layers"][layer_of(store, found, layer)]]["tuning"]
    name = None if k is None else found["contrasts"][k]["name"]
    if curves is None or (name is not None and name not in detail["contrasts"]):
        return {}
    values = curves[1] if name is None else curves[0][detail["contrasts"].index(name)]
    return {c: v for c, v in zip(detail["categories"], values, strict=True) if _known(v)}


def _known(value: Any) -> bool:
    return isinstance(value, int | float)


def _tuned(found: Json, details: Sequence[Json]) -> list[int]:
    """Contrasts that any unit of the layers with tuning curves is selective for."""
    return [
        k
        for k in range(len(found["contrasts"]))
        if any(_any_curve(found, details, layer, k) for layer in layers_of(found))
    ]


def _any_curve(found: Json, details: Sequence[Json], layer: str, k: int) -> bool:
    return any(_curve(found, detail, s, layer, k) for s, detail in enumerate(details))


def _draw_tuning(part: Any, found: Json, details: Sequence[Json], tuned: Sequence[int]) -> None:
    """A row of panels for every preferred category, a column for every layer."""
    layers = layers_of(found)
    if not tuned:
        part.suptitle(
            "No tuning curves: no or too few units are selective on one fold.", fontsize=_TITLES
        )
        return
    categories = list(dict.fromkeys(name for one in details for name in one["categories"]))
    axes = part.subplots(len(tuned), len(layers), squeeze=False, sharex=True, sharey=True)
    filled = np.array([[_any_curve(found, details, layer, k) for layer in layers] for k in tuned])
    for row, column in np.ndindex(*axes.shape):
        axis, contrast = axes[row, column], found["contrasts"][tuned[row]]
        if row == 0:
            axis.set_title(fitted(layers[column], _WIDTH / len(layers), _TITLES), fontsize=_TITLES)
        if column == 0:
            name = in_lines(contrast["name"], LONGEST, 1)
            axis.set_ylabel(name, color=contrast["light"], fontsize=_TITLES)
        if filled[row, column]:
            _draw_curves(axis, found, details, (layers[column], tuned[row]), categories)
            axis.tick_params(labelsize=_NAMES, labelleft=not filled[row, :column].any())
        else:
            blank(axis, "few or none")
    for axis in axes[-1]:
        name_ticks(axis, categories, _WIDTH / len(layers), _NAMES)
        axis.tick_params(labelbottom=True)
    part.supylabel("response, held out (z)", fontsize=_TITLES)
    first = axes[tuple(np.argwhere(filled)[0])]
    legend(part, first, "center", _WIDTH)


def _draw_curves(
    axis: Axes,
    found: Json,
    details: Sequence[Json],
    panel: tuple[str, int],
    categories: Sequence[str],
) -> None:
    layer, k = panel
    contrast, places = found["contrasts"][k], range(len(categories))
    axis.axhline(0, color=GREY, linewidth=0.4)
    if contrast["name"] in categories:
        at = categories.index(contrast["name"])
        axis.axvspan(at - 0.4, at + 0.4, color=contrast["light"], alpha=0.12, linewidth=0)
    for s, (store, detail) in enumerate(zip(found["stores"], details, strict=True)):
        style = store_style(s, contrast["light"])
        own, every = (_curve(found, detail, s, layer, one) for one in (k, None))
        chance = {"color": GREY, "linewidth": 0.7, "linestyle": style["linestyle"]}
        axis.plot(places, [every.get(name, np.nan) for name in categories], **chance,
                  label="_" if s else "all living units")  # fmt: skip
        style = style_of(contrast) | style | {"markersize": 3, "linewidth": 1}
        axis.plot(places, [own.get(name, np.nan) for name in categories], **style,
                  label=plain(store["label"]))  # fmt: skip


def _draw_rdms(part: Any, found: Json, details: Sequence[Json]) -> None:
    """The category RDM of every store in the layer shown, each to its largest value."""
    drawn: list[tuple[Any, list[str], str]] = []
    for store, detail in zip(found["stores"], details, strict=True):
        layer = store["layers"][layer_of(store, found)]
        rdm = detail["layers"][layer]["rdm"]
        if rdm is not None:
            values = np.array(rdm, np.float64)
            most = float(np.nanmax(values, initial=0)) or 1.0
            title = f"{fitted(store['label'], _RDM, _TITLES)}\n{fitted(layer, _RDM, _TITLES)}"
            title += f"\n0 to {most:.2g}"
            drawn.append((values / most, detail["categories"], title))
    if not drawn:
        part.suptitle("No RDMs: too many categories.", fontsize=_TITLES)
        return
    axes = _axes(part, len(drawn), min(_COLUMNS, len(drawn)))
    for axis, one in zip(axes, drawn, strict=True):
        shown = draw_matrix(axis, one, _RDM, _NAMES, cmap="cividis", vmin=0, vmax=1)
        axis.set_title(one[2], fontsize=_TITLES)
        axis.tick_params(labelleft=True)
    bar = part.colorbar(shown, ax=axes, shrink=0.8, ticks=[0, 1])
    bar.ax.set_yticklabels(["0", "each largest"], fontsize=_NAMES)
