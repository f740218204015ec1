"""The page's figures for print, as reproducible SVG and PDF drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..excerpt import at_steps, step_over
from ..files import new_file, new_folders
from .palette import THEMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: a journal's column is about 3.5 wide, its page 7.
_PANEL, _HEIGHT = 3.5, 2.5
_STYLE: Any = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False,
    "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "pdf.fonttype": 42, "svg.fonttype": "none",  # keep text editable
    "svg.hashsalt": "fusiform",
}  # fmt: skip
# In the order of MARKERS in page/plot.js.
_MARKERS = ("o", "s", "^", "D", "v", "P", "h", "_")
_LINES = ("-", "--", ":", "-.")
# Names, and markers of a line, that an axis has room for.
_MOST_TICKS = 40
_GREY = THEMES["light"]["muted"]
Json = Mapping[str, Any]


def require_matplotlib() -> None:
    """Raise a ``UserError`` if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'fusiform[figures]'") from None


def write_figures(found: Json, folder: Path) -> list[Path]:
    """Write every figure as NAME.svg and NAME.pdf once all are drawn; return their paths.

    ``found`` is a value of :func:`.findings.findings`; figures of a single layer show its
    ``layer``.
    """
    from matplotlib import rc_context

    written = []
    with new_folders(folder), rc_context(_STYLE), ExitStack() as files:
        for name, figure in _figures(found):
            for kind, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
                written.append(folder / f"{name}.{kind}")
                file = files.enter_context(new_file(written[-1], "a figure"))
                figure.savefig(file, format=kind, metadata=metadata)
                figure.set_layout_engine("none")  # keep the layout, which is slow to compute
    return written


class _Line(NamedTuple):
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


_LINES_OVER_LAYERS = (
    _Line("share-by-depth", "shares", "share of units selective", "share", "low", "high"),
    _Line("csi-by-depth", "specificity", "CSI, held out", "mean", "low", "high",
          chosen=lambda row: row["measure"] == "csi"),
    _Line("d-prime-by-depth", "specificity", "d', held out", "mean", "low", "high",
          chosen=lambda row: row["measure"] == "d_prime"),
    _Line("spread-over-feature-maps", "spread", "share of feature maps with any", "share_with_any",
          None, None, band=("share_with_any_low", "share_with_any_high"), by_contrast=True),
    _Line("gini-over-feature-maps", "spread", "Gini over feature maps", "gini", None, None,
          band=("gini_low", "gini_high"), by_contrast=True),
    _Line("activation-strength", "strength", "response, held out (z in the layer)", "preferred",
          "preferred_low", "preferred_high", second=("others", "others_low", "others_high"),
          by_contrast=True),
)  # fmt: skip


def _figures(found: Json) -> Iterator[tuple[str, Figure]]:
    for line in _LINES_OVER_LAYERS:
        yield line.name, _over_layers(found, line)
    yield "csi-in-layer", _distributions(found, "csi")
    yield "maps", _maps(found)
    if any(_rows(store, "confusion") for store in found["stores"]):
        yield "preferred-category-fold-by-fold", _matrices(found, _confusion, "share")
    if all(store["consistency"] for store in found["stores"]):
        yield "consistency", _matrices(found, _consistency, "Spearman's rho of category RDMs")


def _rows(store: Json, table: str) -> list[dict[str, Any]]:
    """Rows of a table that is stored as columns."""
    columns = store["tables"][table]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _panels(
    number: int, columns: int, height: float = _HEIGHT, **shared: Any
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = max(1, min(number, columns))
    rows = -(-number // columns)
    figure = Figure((_PANEL * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
    for empty in axes[number:]:
        empty.set_axis_off()
    return figure, axes[:number]


def _over_layers(found: Json, line: _Line) -> Figure:
    """A panel for every store, or for every contrast with all stores in it."""
    stores, contrasts = found["stores"], found["contrasts"]
    if line.by_contrast:
        figure, axes = _panels(len(contrasts), 2, sharey=True)
        drawn = [(axis, s, k) for k, axis in enumerate(axes) for s in range(len(stores))]
        titles = [contrast["name"] for contrast in contrasts]
    else:
        figure, axes = _panels(len(stores), 2)
        drawn = [(axis, s, k) for s, axis in enumerate(axes) for k in range(len(contrasts))]
        titles = [store["label"] for store in stores]
    by_depth = line.by_contrast and any(s["layers"] != stores[0]["layers"] for s in stores)
    for axis, s, k in drawn:
        store, contrast = stores[s], contrasts[k]
        rows = [r for r in _rows(store, line.table) if r["contrast"] == k and line.chosen(r)]
        last = max(1, len(store["layers"]) - 1)
        style = {
            "marker": _MARKERS[contrast["marker"]],
            "linestyle": _LINES[s % 4 if line.by_contrast else 0],
            "markerfacecolor": "white" if line.by_contrast and s else contrast["light"],
        }
        x = [row["layer"] / last if by_depth else row["layer"] for row in rows]
        label = store["label"] if line.by_contrast else contrast["name"]
        own = {"color": contrast["light"], "label": _plain(label)}
        _line(axis, x, rows, (line.value, line.low, line.high), style | own)
        if line.second:
            other = {"color": _GREY, "label": _plain(f"{label}, others")}
            _line(axis, x, rows, line.second, style | other)
        if line.band:
            low, high = (_column(rows, name) for name in line.band)
            axis.fill_between(x, low, high, color=_GREY, alpha=0.3, linewidth=0)
    for index, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        axis.set_title(_plain(title))
        if by_depth:
            axis.set_xlabel("relative depth")
        else:
            _name_ticks(axis, stores[0 if line.by_contrast else index]["layers"])
        axis.set_ylabel(line.label)
    axes[0].legend(fontsize=7)
    figure.supxlabel(_plain(f"selective: {found['criterion']}"), fontsize=6)
    return figure


def _ticks(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places and names of at most as many ticks as an axis has room for."""
    places = at_steps(range(len(names)), step_over(len(names), _MOST_TICKS))
    return places, [_plain(names[place]) for place in places]


def _name_ticks(axis: Axes, names: Sequence[str], **style: Any) -> None:
    axis.set_xticks(
        *_ticks(names),
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        **style,
    )


def _line(
    axis: Axes,
    x: Sequence[float],
    rows: Sequence[Json],
    names: Sequence[str | None],
    style: Mapping[str, Any],
) -> None:
    value, low, high = names
    axis.plot(x, _column(rows, value), markevery=max(1, len(rows) // _MOST_TICKS), **style)
    if low:
        interval = _column(rows, low), _column(rows, high)
        axis.fill_between(x, *interval, color=style["color"], alpha=0.18, linewidth=0)


def _column(rows: Sequence[Json], name: str | None) -> list[float]:
    return [float("nan") if name is None or row[name] is None else row[name] for row in rows]


def _distributions(found: Json, measure: str) -> Figure:
    """Held-out values of selective units in one layer, as stacked histograms."""
    edges, contrasts = found["edges"][measure], found["contrasts"]
    figure, axes = _panels(len(found["stores"]), 2)
    for axis, store in zip(axes, found["stores"], strict=True):
        layer = _layer_of(store, found)
        rows = {r["contrast"]: r for r in _rows(store, "specificity")
                if r["layer"] == layer and r["measure"] == measure and r["histogram"]}  # fmt: skip
        for k, contrast in enumerate(contrasts):
            base = len(contrasts) - 1 - k
            axis.axhline(base, color=THEMES["light"]["grid"], linewidth=0.6)
            if k in rows:
                counts = np.array(rows[k]["histogram"])
                axis.stairs(base + 0.85 * counts / counts.max(), edges, baseline=base, fill=True,
                            color=contrast["light"], alpha=0.6)  # fmt: skip
                axis.plot(rows[k]["quantiles"][2], base, "|", color="black")
        axis.set_yticks(range(len(contrasts)), [_plain(c["name"]) for c in reversed(contrasts)])
        axis.set_title(_plain(f"{store['label']}: {store['layers'][layer]}"))
        axis.set_xlabel("CSI, held out" if measure == "csi" else "d', held out")
    return figure


def _maps(found: Json) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap

    stores, contrasts = found["stores"], found["contrasts"]
    figure, axes = _panels(len(stores) * len(contrasts), len(contrasts), height=1.9)
    figure.set_figwidth(1.6 * len(contrasts))
    panels = [(store, k) for store in stores for k in range(len(contrasts))]
    for axis, (store, k) in zip(axes, panels, strict=True):
        layer = _layer_of(store, found)
        row = next((r for r in _rows(store, "localisation")
                    if (r["layer"], r["contrast"]) == (layer, k)), None)  # fmt: skip
        title = [contrasts[k]["name"], store["letter"]]
        axis.set_title(_plain(", ".join(filter(None, title))))
        axis.set_axis_off()
        if row is not None:
            ramp = LinearSegmentedColormap.from_list(
                "share", [THEMES["light"]["ground"], contrasts[k]["light"]]
            )
            values = np.array(row["map"], np.float64)
            axis.imshow(values, cmap=ramp, vmin=0, vmax=np.nanmax(values, initial=0) or 1)
    figure.supxlabel(
        _plain("; ".join(f"{s['label']}: {s['layers'][_layer_of(s, found)]}" for s in stores)),
        fontsize=6,
    )
    return figure


_Matrix = tuple[Any, list[str], str]


def _matrices(found: Json, matrix: Callable[[Json, Json], _Matrix], label: str) -> Figure:
    """A matrix of shares or correlations for each store, on one scale."""
    figure, axes = _panels(len(found["stores"]), 2, height=3.2)
    matrices = [matrix(store, found) for store in found["stores"]]
    known = np.concatenate([np.array(values, np.float64).ravel() for values, *_ in matrices])
    negative = float(np.nanmin(known, initial=0)) < 0
    lowest, ramp = (-1.0, "PuOr") if negative else (0.0, "cividis")
    for axis, (values, names, title) in zip(axes, matrices, strict=True):
        shown = axis.imshow(np.array(values, np.float64), cmap=ramp, vmin=lowest, vmax=1)
        axis.set_title(_plain(title))
        _name_ticks(axis, names, fontsize=6)
        axis.set_yticks(*_ticks(names), fontsize=6)
        figure.colorbar(shown, ax=axis, label=label, shrink=0.7)
    return figure


def _confusion(store: Json, found: Json) -> _Matrix:
    names, layer = [contrast["name"] for contrast in found["contrasts"]], _layer_of(store, found)
    values = np.full((len(names), len(names)), np.nan)
    for row in _rows(store, "confusion"):
        if row["layer"] == layer and row["share"] is not None:
            values[row["category"], row["other"]] = row["share"]
    return values, names, f"{store['label']}: {store['layers'][layer]}"


def _consistency(store: Json, _: Json) -> _Matrix:
    names = [store["layers"][place] for place in store["detailed"]]
    return store["consistency"]["spearman"], names, store["label"]


def _layer_of(store: Json, found: Json) -> int:
    """Index of the layer shown, or of the one at the same relative depth."""
    own = [store["layers"][place] for place in store["detailed"]]
    if found["layer"] in own:
        return int(store["layers"].index(found["layer"]))
    first = found["stores"][0]["layers"]
    depth = first.index(found["layer"]) / max(1, len(first) - 1)
    place: int = min(store["detailed"], key=lambda i: abs(i - depth * (len(store["layers"]) - 1)))
    return place


def _plain(text: str) -> str:
    """Escape dollar signs, which begin a formula in matplotlib."""
    return text.replace("$", r"\$")
