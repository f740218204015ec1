"""Figures for print over layers, and distributions in a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .axes import (
    COLUMN,
    FEW,
    GREY,
    HEIGHT,
    LONGEST,
    OTHERS,
    Json,
    asked_of,
    column,
    draw_line,
    fitted,
    in_lines,
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
# What lines and bands beside those of categories are.
OTHER_CATEGORIES, RANDOM_UNITS = "other categories", "as many random units"


class Line(NamedTuple):
    """A quantity over layers: its columns in a table, with an optional second line and band.

    ``name`` is that of its file for print; empty if it has none.
    """

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


def label_axis(axis: Axes, label: str) -> None:
    """Name the quantity at an axis, which shows shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_ylabel(label)
    if label.endswith("(%)"):
        axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))


def _is_next(store: Json, before: Json, row: Json) -> bool:
    alike = _is_placeless(store, before) == _is_placeless(store, row)
    return alike and row["layer"] == before["layer"] + 1


def _is_placeless(store: Json, row: Json) -> bool:
    return row["layer"] in store["placeless"]


def _spread(name: str, value: str, label: str) -> Line:
    band = f"{value}_low", f"{value}_high"
    return Line(name, "spread", label, value, None, None, band=band, by_contrast=True)


SHARE = Line("share-by-depth", "shares", "selective units (%)", "share", "low", "high")
CSI = Line("csi-by-depth", "specificity", "CSI, held out", "mean", "low", "high",
           chosen=lambda row: row["measure"] == "csi")  # fmt: skip
# By the name of the measure, as in comparisons.
MEASURES = {
    "share": SHARE,
    "share_of_living": Line("", "shares", "selective living units (%)", "share_of_living",
                            "living_low", "living_high"),
    "csi": CSI,
    "d_prime": Line("d-prime-by-depth", "specificity", "d', held out", "mean", "low", "high",
                    chosen=lambda row: row["measure"] == "d_prime"),
    "share_with_any": _spread("spread-over-feature-maps", "share_with_any",
                              "feature maps with any (%)"),
    "gini": _spread("gini-over-feature-maps", "gini", "Gini over feature maps"),
    "entropy": _spread("", "entropy", "normalised entropy over feature maps"),
    "strength": Line("activation-strength", "strength", "response, held out (z in the layer)",
                     "preferred", "preferred_low", "preferred_high",
                     second=("others", "others_low", "others_high"), by_contrast=True),
}  # fmt: skip
LINES = tuple(line for line in MEASURES.values() if line.name)


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
    names = [contrast["name"] for contrast in found["contrasts"]]
    return {plain(name): in_lines(name, LONGEST, 1) for name in names}


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
        beside = {"color": contrast["light"], "linestyle": ":", "label": "_"}
        draw_quantity(axis, line, (x, rows), style, beside)
    axis.set_title(fitted(store["label"], inches))
    label_axis(axis, line.label)
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
        beside = store_style(s, GREY) | {"color": GREY} | ({"label": "_"} if s else {})
        draw_quantity(axis, line, (x, rows), style, beside)
    axis.set_title(fitted(contrast["name"], COLUMN))
    label_axis(axis, line.label)
    if by_depth:
        axis.set_xlabel("relative depth")
        axis.set_xlim(-0.04, 1.04)
    else:
        name_ticks(axis, stores[0]["layers"])


def draw_quantity(
    axis: Axes,
    line: Line,
    points: tuple[Sequence[float], Sequence[Json]],
    style: Json,
    beside: Json,
) -> None:
    """A line, and beside it that of other categories and the band of random units."""
    x, rows = points
    draw_line(axis, x, rows, (line.value, line.low, line.high), style)
    if line.second:
        draw_line(axis, x, rows, line.second, {"label": OTHER_CATEGORIES, **OTHERS, **beside})
    if line.band:
        low, high = (column(rows, name) for name in line.band)
        colour, dash = beside["color"], beside["linestyle"]
        axis.fill_between(x, low, high, color=colour, alpha=0.3, linewidth=0,
                          label=beside.get("label", RANDOM_UNITS))  # fmt: skip
        axis.plot(x, (np.array(low) + high) / 2, color=colour, linewidth=0.6, linestyle=dash,
                  label="_random")  # fmt: skip


def distributions(found: Json, measure: str) -> Figure:
    """Held-out values of selective units in one layer, as stacked histograms."""
    contrasts, shown = found["contrasts"], []
    for store in found["stores"]:
        layer = layer_of(store, found)
        rows = distributed(store, measure, layer)
        shown.append((f"{store['label']}: {store['layers'][layer]}", rows, asked_of(store)))
    drawn = [(title, rows) for title, rows, _ in shown if rows]
    figure, axes = panels(len(drawn), 2)
    for axis, (title, rows) in zip(axes, drawn, strict=True):
        distribution_panel(axis, found, measure, rows)
        axis.set_title(fitted(title, COLUMN))
    missing = [title for title, rows, _ in shown if not rows] + [
        f"{contrasts[k]['name']} in {title}"
        for title, rows, asked in shown
        for k in sorted(asked - set(rows))
        if rows
    ]
    note(figure, f"selective: {found['criterion']}", missing)
    return figure


def distributed(store: Json, measure: str, layer: int) -> dict[int, Json]:
    """Rows of a layer with the distribution of enough units, by contrast."""
    return {
        row["contrast"]: row
        for row in rows_of(store, "specificity")
        if (row["layer"], row["measure"]) == (layer, measure)
        and row["histogram"]
        and row["units"] >= FEW
    }


def distribution_panel(axis: Axes, found: Json, measure: str, rows: Mapping[int, Json]) -> None:
    """A histogram for every contrast, each to its own largest count; its median is marked."""
    names, contrasts = [], found["contrasts"]
    for base, k in enumerate(sorted(rows, reverse=True)):
        axis.axhline(base, color=THEMES["light"]["grid"], linewidth=0.6)
        counts = np.array(rows[k]["histogram"])
        axis.stairs(base + 0.85 * counts / counts.max(), found["edges"][measure], baseline=base,
                    fill=True, color=contrasts[k]["light"], alpha=0.6)  # fmt: skip
        axis.plot(rows[k]["quantiles"][2], base, "|", color="black")
        name = in_lines(contrasts[k]["name"], LONGEST, 2)
        names.append(f"{name}, n = {rows[k]['units']:,}")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(MEASURES[measure].label)
