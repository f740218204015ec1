"""Figures for print of one layer: maps of units, and matrices of categories and layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import Json, asked_of, fitted, name_ticks, note, panels, rows_of, ticks
from .palette import THEMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Values, names of their rows and columns, and a title.
Matrix = tuple[Any, list[str], str]
# Inches.
_SIDE, _MAP = 3.2, 1.6


def layer_of(store: Json, found: Json, name: str | None = None) -> int:
    """Index of the layer shown, or of the one at the same relative depth."""
    wanted = found["layer"] if name is None else name
    if wanted in [store["layers"][place] for place in store["detailed"]]:
        return int(store["layers"].index(wanted))
    first = found["stores"][0]["layers"]
    depth = first.index(wanted) / max(1, len(first) - 1)
    place: int = min(store["detailed"], key=lambda i: abs(i - depth * (len(store["layers"]) - 1)))
    return place


def maps(found: Json) -> Figure:
    """Shares of selective units by position, each map to its own largest share, which it names."""
    stores, contrasts = found["stores"], found["contrasts"]
    drawn, missing = [], []
    for store in stores:
        layer = layer_of(store, found)
        rows = {r["contrast"]: r for r in rows_of(store, "localisation") if r["layer"] == layer}
        for k in sorted(asked_of(store)):
            contrast = contrasts[k]
            values = np.array(rows[k]["map"] if k in rows else [[0.0]], np.float64)
            title = ", ".join(filter(None, [contrast["name"], store["letter"]]))
            if np.nanmax(values, initial=0) > 0:
                drawn.append((title, contrast["light"], values))
            else:
                missing.append(title)
    figure, axes = panels(len(drawn), min(len(contrasts), 6), height=1.9, width=_MAP)
    for axis, (title, colour, values) in zip(axes, drawn, strict=True):
        axis.set_title(f"{fitted(title, _MAP)}\n0 to {100 * draw_map(axis, values, colour):.3g} %")
    layers = "; ".join(f"{s['label']}: {s['layers'][layer_of(s, found)]}" for s in stores)
    note(figure, f"share of living units, from 0 to each map's largest; {layers}", missing)
    return figure


def draw_map(axis: Axes, values: Any, colour: str) -> float:
    """Draw shares by position in a category's colour, from 0 to the largest, which is returned."""
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("share", [THEMES["light"]["ground"], colour])
    most = float(np.nanmax(values))
    axis.set_axis_off()
    axis.imshow(values, cmap=ramp, vmin=0, vmax=most)
    return most


def matrices(found: Json, matrix: Callable[[Json, Json], Matrix], label: str) -> Figure:
    """A matrix of shares or correlations for each store, on one scale."""
    figure, axes = panels(len(found["stores"]), 2, height=_SIDE)
    drawn = [matrix(store, found) for store in found["stores"]]
    known = np.concatenate([np.array(values, np.float64).ravel() for values, *_ in drawn])
    negative = float(np.nanmin(known, initial=0)) < 0
    lowest, ramp = (-1.0, "PuOr") if negative else (0.0, "cividis")
    for axis, one in zip(axes, drawn, strict=True):
        shown = draw_matrix(axis, one, _SIDE, cmap=ramp, vmin=lowest, vmax=1)
        figure.colorbar(shown, ax=axis, label=label, shrink=0.7)
    return figure


def draw_matrix(axis: Axes, matrix: Matrix, inches: float, largest: float = 8, **scale: Any) -> Any:
    """Draw a matrix with its names on an axis of a width."""
    values, names, title = matrix
    shown = axis.imshow(np.array(values, np.float64), **scale)
    axis.set_title(fitted(title, inches))
    name_ticks(axis, names, 0.7 * inches, largest)
    size = axis.get_xticklabels()[0].get_fontsize() if names else None
    axis.set_yticks(*ticks(names), fontsize=size)
    return shown


def confusion(store: Json, found: Json) -> Matrix:
    """Shares of units by preferred category on two folds, in the layer shown."""
    names, layer = [contrast["name"] for contrast in found["contrasts"]], layer_of(store, found)
    values = np.full((len(names), len(names)), np.nan)
    for row in rows_of(store, "confusion"):
        if row["layer"] == layer and row["share"] is not None:
            values[row["category"], row["other"]] = row["share"]
    return values, names, f"{store['label']}: {store['layers'][layer]}"


def consistency(store: Json, _: Json, similarity: str = "spearman") -> Matrix:
    """Similarities of layers: Spearman's correlations between their category RDMs, or others."""
    names = [store["layers"][place] for place in store["detailed"]]
    return store["consistency"][similarity], names, store["label"]
