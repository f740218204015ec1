"""Figures for print over layers, and distributions in a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .axes import (
    COLUMN,
    FEW,
    GREY,
    HEIGHT,
    OTHERS,
    Json,
    asked_of,
    column,
    draw_line,
    fitted,
    legend,
    name_lines,
    name_ticks,
    note,
    panels,
    plain,
    rows_of,
    store_style,
    style_of,
)
from .matrices import layer_of
from .palette import THEMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of a panel's height, what remains for its axis; of the values, the margin on either side.
_AXIS, _MARGIN = 0.38, 0.05


class Line(NamedTuple):
    """A quantity over layers: its columns in a table, with an optional second line and band."""

    name: str
    table: str
    label: str
    value: str
    low: str | None
    high: str | None
    second: tuple[str, str, str] | None = None
    band: tuple[str, str] | None = None
    chosen: Callable[[Json], bool] = lambda _: True
    by_contrast: bool = False

    @property
    def has_means(self) -> bool:
        """Whether values are means over units, and not shares of them."""
        return self.table in ("specificity", "strength")

    def rows(self, store: Json, contrast: int) -> list[Json]:
        """Rows of a store's table for a contrast, by layer.

        Means of few units are left out. A row without numbers is where layers are missing, and
        between layers with positions and without: they do not compare.
        """
        rows: list[Json] = []
        for row in rows_of(store, self.table):
            few = self.has_means and row["units"] < FEW
            if few or row["contrast"] != contrast or not self.chosen(row):
                continue
            if rows and not _is_next(store, rows[-1], row):
                rows.append({**dict.fromkeys(row), "layer": row["layer"]})
            rows.append(row)
        return rows

    def limits(self, found: Json, also: Sequence[float] = ()) -> tuple[float, float] | None:
        """Low and high end of an axis, with a margin; None if there is nothing to draw.

        It covers 0, ``also`` and all points, but those of layers without positions only up to twice
        the others, which they would flatten (``valuesOf`` in page/lines.js).
        """
        names = [self.value, self.low, self.high, *(self.second or ()), *(self.band or ())]
        joined: list[float] = list(also)
        apart: list[float] = []
        for store, k in product(found["stores"], range(len(found["contrasts"]))):
            for row in self.rows(store, k):
                known = [row[name] for name in names if name and row[name] is not None]
                (apart if _is_placeless(store, row) else joined).extend(known)
        most = 2 * max(map(abs, joined), default=0)
        shown = [0.0, *joined, *(value for value in apart if not most or abs(value) <= most)]
        margin = _MARGIN * (max(shown) - min(shown))
        return (min(shown) - margin, max(shown) + margin) if margin else None


def _is_next(store: Json, before: Json, row: Json) -> bool:
    alike = _is_placeless(store, before) == _is_placeless(store, row)
    return alike and row["layer"] == before["layer"] + 1


def _is_placeless(store: Json, row: Json) -> bool:
    return row["layer"] in store["placeless"]


SHARE = Line("share-by-depth", "shares", "share of units selective", "share", "low", "high")
CSI = Line("csi-by-depth", "specificity", "CSI, held out", "mean", "low", "high",
           chosen=lambda row: row["measure"] == "csi")  # fmt: skip
LINES = (
    SHARE,
    CSI,
    Line("d-prime-by-depth", "specificity", "d', held out", "mean", "low", "high",
         chosen=lambda row: row["measure"] == "d_prime"),
    Line("spread-over-feature-maps", "spread", "share of feature maps with any", "share_with_any",
         None, None, band=("share_with_any_low", "share_with_any_high"), by_contrast=True),
    Line("gini-over-feature-maps", "spread", "Gini over feature maps", "gini", None, None,
         band=("gini_low", "gini_high"), by_contrast=True),
    Line("activation-strength", "strength", "response, held out (z in the layer)", "preferred",
         "preferred_low", "preferred_high", second=("others", "others_low", "others_high"),
         by_contrast=True),
)  # fmt: skip


def over_layers(found: Json, line: Line) -> Figure:
    """A panel for every store, or for every contrast with all stores in it, on one scale."""
    stores, contrasts = found["stores"], found["contrasts"]
    pairs = [(s, k) for s in range(len(stores)) for k in range(len(contrasts))]
    shown = {(s, k) for s, k in pairs if any(row[line.value] for row in line.rows(stores[s], k))}
    names = contrasts if line.by_contrast else stores
    own = [{pair[line.by_contrast] for pair in shown} & {index} for index in range(len(names))]
    kept = [index for index, one in enumerate(own) if one]
    figure, axes = panels(len(kept), 2, sharey=True)
    for index, axis in zip(kept, axes, strict=True):
        if line.by_contrast:
            _contrast_panel(axis, found, line, index)
        else:
            store_panel(axis, found, line, index)
        axis.yaxis.set_tick_params(labelleft=True)
    ends = store_letters(found) if line.by_contrast else contrast_names(found)
    limits = line.limits(found)
    for axis in axes:
        axis.set_ylim(limits)
        name_lines(axis, ends, _AXIS * HEIGHT)
    if axes:
        legend(figure, axes[0], "left", figure.get_figwidth())
    title = "name" if line.by_contrast else "label"
    missing = [one[title] for index, one in enumerate(names) if index not in kept]
    few = f" Means are of {FEW} units or more." if line.has_means else ""
    note(figure, f"selective: {found['criterion']}. Bands: 95 %.{not_joined(found)}{few}", missing)
    return figure


def not_joined(found: Json) -> str:
    """A sentence about layers without positions, if there are any."""
    names = [store["layers"][place] for store in found["stores"] for place in store["placeless"]]
    said = ", ".join(dict.fromkeys(names))
    return f" Not joined: layers without positions ({said})." if said else ""


def contrast_names(found: Json) -> dict[str, str]:
    """Names of contrasts by their label in a figure."""
    names = [plain(contrast["name"]) for contrast in found["contrasts"]]
    return dict(zip(names, names, strict=True))


def store_letters(found: Json) -> dict[str, str]:
    """Letters of stores by their label in a figure."""
    return {plain(store["label"]): store["letter"] for store in found["stores"]}


def store_panel(
    axis: Axes, found: Json, line: Line, s: int, inches: float = COLUMN, largest: float = 8
) -> None:
    """The lines of all contrasts in a store, in a panel of a width."""
    store = found["stores"][s]
    for k, contrast in enumerate(found["contrasts"]):
        rows = line.rows(store, k)
        x = [row["layer"] for row in rows]
        style = style_of(contrast) | {"label": plain(contrast["name"])}
        draw_line(axis, x, rows, (line.value, line.low, line.high), style)
    axis.set_title(fitted(store["label"], inches))
    axis.set_ylabel(line.label)
    name_ticks(axis, store["layers"], inches, largest)


def _contrast_panel(axis: Axes, found: Json, line: Line, k: int) -> None:
    """The lines of all stores for a contrast."""
    stores, contrast = found["stores"], found["contrasts"][k]
    by_depth = any(store["layers"] != stores[0]["layers"] for store in stores)
    for s, store in enumerate(stores):
        rows = line.rows(store, k)
        last = max(1, len(store["layers"]) - 1)
        x = [row["layer"] / last if by_depth else row["layer"] for row in rows]
        style = (
            style_of(contrast)
            | store_style(s, contrast["light"])
            | {"label": plain(store["label"])}
        )
        draw_line(axis, x, rows, (line.value, line.low, line.high), style)
        if line.second:
            others = {**store_style(s, GREY), **OTHERS, "label": "_" if s else "other categories"}
            draw_line(axis, x, rows, line.second, others)
        if line.band:
            low, high = (column(rows, name) for name in line.band)
            axis.fill_between(x, low, high, color=GREY, alpha=0.3, linewidth=0,
                              label="_" if s else "as many random units")  # fmt: skip
            dash = store_style(s, GREY)["linestyle"]
            axis.plot(x, (np.array(low) + high) / 2, color=GREY, linewidth=0.6, linestyle=dash,
                      label="_random")  # fmt: skip
    axis.set_title(fitted(contrast["name"], COLUMN))
    axis.set_ylabel(line.label)
    if by_depth:
        axis.set_xlabel("relative depth")
        axis.set_xlim(-0.04, 1.04)
    else:
        name_ticks(axis, stores[0]["layers"])


def distributions(found: Json, measure: str) -> Figure:
    """Held-out values of selective units in one layer, as stacked histograms."""
    edges, contrasts = found["edges"][measure], found["contrasts"]
    shown = []
    for store in found["stores"]:
        layer = layer_of(store, found)
        rows = {r["contrast"]: r for r in rows_of(store, "specificity")
                if r["layer"] == layer and r["measure"] == measure
                and r["histogram"] and r["units"] >= FEW}  # fmt: skip
        shown.append((f"{store['label']}: {store['layers'][layer]}", rows, asked_of(store)))
    drawn = [(title, rows) for title, rows, _ in shown if rows]
    figure, axes = panels(len(drawn), 2)
    for axis, (title, rows) in zip(axes, drawn, strict=True):
        names = []
        for base, k in enumerate(sorted(rows, reverse=True)):
            axis.axhline(base, color=THEMES["light"]["grid"], linewidth=0.6)
            counts = np.array(rows[k]["histogram"])
            axis.stairs(base + 0.85 * counts / counts.max(), edges, baseline=base, fill=True,
                        color=contrasts[k]["light"], alpha=0.6)  # fmt: skip
            axis.plot(rows[k]["quantiles"][2], base, "|", color="black")
            names.append(f"{plain(contrasts[k]['name'])}, n = {rows[k]['units']:,}")
        axis.set_yticks(range(len(names)), names)
        axis.set_title(fitted(title, COLUMN))
        axis.set_xlabel("CSI, held out" if measure == "csi" else "d', held out")
    missing = [title for title, rows, _ in shown if not rows] + [
        f"{contrasts[k]['name']} in {title}"
        for title, rows, asked in shown
        for k in sorted(asked - set(rows))
        if rows
    ]
    note(figure, f"selective: {found['criterion']}", missing)
    return figure
