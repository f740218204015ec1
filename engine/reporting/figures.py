"""The page's figures for print: SVG and PDF by matplotlib, the same bytes from the same stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..files import new_file, new_folders

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: a column of a journal is some 3.5 wide, a page 7.
_PANEL, _HEIGHT = 3.5, 2.5
_STYLE: Any = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False,
    "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "pdf.fonttype": 42, "svg.fonttype": "none",  # text stays text, to be edited
    "svg.hashsalt": "fusiform",
}  # fmt: skip
# In the order of the page's own.
_MARKERS = ("o", "s", "^", "D", "v", "P", "h", "_")
_LINES = ("-", "--", ":", "-.")
Found = Mapping[str, Any]


def require_matplotlib() -> None:
    """Refuse figures where nothing can draw them.

    Raises
    ------
    UserError : matplotlib is not installed
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'fusiform[figures]'") from None


def write_figures(found: Found, folder: Path) -> list[Path]:
    """Write every figure as NAME.svg and NAME.pdf, none before all are drawn; gives their paths.

    ``found`` is a value of :func:`.findings.findings`; figures of one layer are of its ``layer``.
    """
    from matplotlib import rc_context

    written = []
    with new_folders(folder), rc_context(_STYLE), ExitStack() as together:
        for name, figure in _figures(found):
            for kind, said in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
                written.append(folder / f"{name}.{kind}")
                file = together.enter_context(new_file(written[-1], "a figure"))
                figure.savefig(file, format=kind, metadata=said)
                figure.set_layout_engine("none")  # it is laid out, which takes longest
    return written


class _Line(NamedTuple):
    """A quantity over layers: its columns in a table, and the band of chance beside it."""

    name: str
    table: str
    label: str
    value: str
    low: str | None
    high: str | None
    second: tuple[str, str, str] | None = None
    band: tuple[str, str] | None = None
    chosen: Callable[[Found], bool] = lambda _: True
    apart: bool = False


_LINED = (
    _Line("share-by-depth", "shares", "share of units selective", "share", "low", "high"),
    _Line("csi-by-depth", "specificity", "CSI, held out", "mean", "low", "high",
          chosen=lambda row: row["measure"] == "csi"),
    _Line("d-prime-by-depth", "specificity", "d', held out", "mean", "low", "high",
          chosen=lambda row: row["measure"] == "d_prime"),
    _Line("spread-over-feature-maps", "spread", "share of feature maps with any", "share_with_any",
          None, None, band=("share_with_any_low", "share_with_any_high"), apart=True),
    _Line("gini-over-feature-maps", "spread", "Gini over feature maps", "gini", None, None,
          band=("gini_low", "gini_high"), apart=True),
    _Line("activation-strength", "strength", "response, held out (z in the layer)", "preferred",
          "preferred_low", "preferred_high", second=("others", "others_low", "others_high"),
          apart=True),
)  # fmt: skip


def _figures(found: Found) -> Iterator[tuple[str, Figure]]:
    for line in _LINED:
        yield line.name, _over_layers(found, line)
    yield "csi-in-layer", _distributions(found, "csi")
    yield "maps", _maps(found)
    if any(_rows(store, "confusion") for store in found["stores"]):
        yield "preferred-category-fold-by-fold", _matrices(found, _confusion, "share")
    yield (
        "consistency",
        _matrices(found, _consistency, "Spearman's rho of category RDMs"),
    )


def _rows(store: Found, table: str) -> list[dict[str, Any]]:
    """A table's rows, from its columns."""
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


def _over_layers(found: Found, line: _Line) -> Figure:
    """A panel for every store, or, of what has a band or a second line, for every contrast."""
    stores, contrasts = found["stores"], found["contrasts"]
    if line.apart:
        figure, axes = _panels(len(contrasts), 2, sharey=True)
        drawn = [(axis, s, k) for k, axis in enumerate(axes) for s in range(len(stores))]
        titles = [contrast["name"] for contrast in contrasts]
    else:
        figure, axes = _panels(len(stores), 2)
        drawn = [(axis, s, k) for s, axis in enumerate(axes) for k in range(len(contrasts))]
        titles = [store["label"] for store in stores]
    aligned = all(store["layers"] == stores[0]["layers"] for store in stores)
    for axis, s, k in drawn:
        store, contrast = stores[s], contrasts[k]
        rows = [r for r in _rows(store, line.table) if r["contrast"] == k and line.chosen(r)]
        ends = max(1, len(store["layers"]) - 1)
        own = {"marker": _MARKERS[contrast["marker"]],
               "linestyle": _LINES[s % 4 if line.apart else 0],
               "markerfacecolor": "white" if line.apart and s else contrast["light"]}  # fmt: skip
        x = [row["layer"] if aligned or not line.apart else row["layer"] / ends for row in rows]
        label = store["label"] if line.apart else contrast["name"]
        _line(axis, x, rows, (line.value, line.low, line.high), contrast["light"], label, own)
        if line.second:
            _line(axis, x, rows, line.second, "#555b66", f"{label}, others", own)
        if line.band:
            low, high = (_column(rows, name) for name in line.band)
            axis.fill_between(x, low, high, color="#555b66", alpha=0.3, linewidth=0)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(_plain(title))
        if aligned or not line.apart:
            layers = stores[0 if line.apart else titles.index(title)]["layers"]
            axis.set_xticks(
                range(len(layers)),
                map(_plain, layers),
                rotation=60,
                ha="right",
                rotation_mode="anchor",
            )
        else:
            axis.set_xlabel("relative depth")
        axis.set_ylabel(line.label)
    axes[0].legend(fontsize=7)
    figure.supxlabel(_plain(f"selective: {found['criterion']}"), fontsize=6)
    return figure


def _line(
    axis: Axes, x: Sequence[float], rows: Sequence[Found], names: Sequence[str | None], colour: str,
    label: str, style: Mapping[str, Any],
) -> None:  # fmt: skip
    value, low, high = names
    axis.plot(x, _column(rows, value), color=colour, label=_plain(label), **style)
    if low:
        axis.fill_between(x, _column(rows, low), _column(rows, high), color=colour, alpha=0.18,
                          linewidth=0)  # fmt: skip


def _column(rows: Sequence[Found], name: str | None) -> list[float]:
    return [float("nan") if name is None or row[name] is None else row[name] for row in rows]


def _distributions(found: Found, measure: str) -> Figure:
    """Held-out values of the selected in one layer, as histograms above each other."""
    edges, contrasts = found["edges"][measure], found["contrasts"]
    figure, axes = _panels(len(found["stores"]), 2)
    for axis, store in zip(axes, found["stores"], strict=True):
        layer = _layer_of(store, found)
        rows = {r["contrast"]: r for r in _rows(store, "specificity")
                if r["layer"] == layer and r["measure"] == measure and r["histogram"]}  # fmt: skip
        for k, contrast in enumerate(contrasts):
            base = len(contrasts) - 1 - k
            axis.axhline(base, color="#d9dce2", linewidth=0.6)
            if k in rows:
                counts = np.array(rows[k]["histogram"])
                axis.stairs(base + 0.85 * counts / counts.max(), edges, baseline=base, fill=True,
                            color=contrast["light"], alpha=0.6)  # fmt: skip
                axis.plot(rows[k]["quantiles"][2], base, "|", color="black")
        axis.set_yticks(range(len(contrasts)), [_plain(c["name"]) for c in reversed(contrasts)])
        axis.set_title(_plain(f"{store['label']}: {store['layers'][layer]}"))
        axis.set_xlabel("CSI, held out" if measure == "csi" else "d', held out")
    return figure


def _maps(found: Found) -> Figure:
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
            ramp = LinearSegmentedColormap.from_list("share", ["#f1f3f6", contrasts[k]["light"]])
            values = np.array(row["map"], np.float64)
            axis.imshow(values, cmap=ramp, vmin=0, vmax=np.nanmax(values, initial=0) or 1)
    figure.supxlabel(
        _plain("; ".join(f"{s['label']}: {s['layers'][_layer_of(s, found)]}" for s in stores)),
        fontsize=6,
    )
    return figure


_Matrix = tuple[Any, list[str], str]


def _matrices(
    found: Found,
    of: Callable[[Found, Found], _Matrix],
    label: str,
) -> Figure:
    """A matrix of shares or correlations of each store, with one scale."""
    figure, axes = _panels(len(found["stores"]), 2, height=3.2)
    matrices = [of(store, found) for store in found["stores"]]
    known = np.concatenate([np.array(values, np.float64).ravel() for values, *_ in matrices])
    negative = float(np.nanmin(known, initial=0)) < 0
    lowest, ramp = (-1.0, "PuOr") if negative else (0.0, "cividis")
    for axis, (values, names, title) in zip(axes, matrices, strict=True):
        shown = axis.imshow(np.array(values, np.float64), cmap=ramp, vmin=lowest, vmax=1)
        axis.set_title(_plain(title))
        axis.set_xticks(
            range(len(names)),
            map(_plain, names),
            rotation=60,
            ha="right",
            rotation_mode="anchor",
            fontsize=6,
        )
        axis.set_yticks(range(len(names)), map(_plain, names), fontsize=6)
        figure.colorbar(shown, ax=axis, label=label, shrink=0.7)
    return figure


def _confusion(store: Found, found: Found) -> _Matrix:
    names, layer = [contrast["name"] for contrast in found["contrasts"]], _layer_of(store, found)
    values = np.full((len(names), len(names)), np.nan)
    for row in _rows(store, "confusion"):
        if row["layer"] == layer and row["share"] is not None:
            values[row["category"], row["other"]] = row["share"]
    return values, names, f"{store['label']}: {store['layers'][layer]}"


def _consistency(store: Found, _: Found) -> _Matrix:
    return store["consistency"]["spearman"], store["layers"], store["label"]


def _layer_of(store: Found, found: Found) -> int:
    """The place of the layer that figures are of, or of the one as deep."""
    if found["layer"] in store["layers"]:
        return int(store["layers"].index(found["layer"]))
    first = found["stores"][0]["layers"]
    depth = first.index(found["layer"]) / max(1, len(first) - 1)
    place: int = round(depth * (len(store["layers"]) - 1))
    return place


def _plain(text: str) -> str:
    """A name that matplotlib takes for text, not for a formula."""
    return text.replace("$", r"\$")
