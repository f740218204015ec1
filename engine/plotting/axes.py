"""Panels of figures for print, and what they have in common, in matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..excerpt import at_steps, step_over
from .palette import THEMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = Mapping[str, Any]
# Means over fewer units are in the tables only, as on the page.
FEW = 10
# Inches: a journal's column is about 3.5 wide, its page 7.
COLUMN, HEIGHT = 3.5, 2.5
STYLE: Any = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False,
    "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "pdf.fonttype": 42, "svg.fonttype": "none",  # keep text editable
    "svg.hashsalt": "fusiform",
    "text.usetex": False,  # names are no TeX
}  # fmt: skip
GREY = THEMES["light"]["muted"]
_BAR = ((-1.0, -0.3), (1.0, -0.3), (1.0, 0.3), (-1.0, 0.3), (-1.0, -0.3))
# In the order of MARKERS and DASHES in page/plot.js.
_MARKERS: tuple[Any, ...] = (
    "o", "s", "^", "D", "v", "P", "X", _BAR, "*", ">", "<", tuple((y, x) for x, y in _BAR),
)  # fmt: skip
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (6, 1, 1, 1, 1, 1)))
# The mean of other categories, beside a preferred one: a marker that no category has.
OTHERS: Json = {"color": GREY, "marker": ".", "markersize": 2.5, "linewidth": 0.8}
# Names, and markers of a line, that an axis has room for.
_MOST_TICKS = 40
# Letters of a name at an axis, and of a line of a legend.
LONGEST = 24
_POINTS = 72
# Small print: its points, and letters per inch.
SMALL, _LETTERS = 6, 21
# What marks the points beyond an axis, and the text of an empty panel.
_BEYOND, BLANK = "beyond", "blank"
# Width of a bold letter, in points of the font.
_BOLD = 0.68
# Of names below an axis: degrees, and points.
_SLANT, SMALLEST = 60, 4.5


def plain(text: str) -> str:
    """A text as it is: in matplotlib dollar signs begin a formula, and ``_`` a hidden label."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if text.startswith("_") else escaped


def style_of(contrast: Json) -> dict[str, Any]:
    """Style of a category's line among those of other categories."""
    marker, dash = _MARKERS[contrast["marker"]], _DASHES[contrast["dash"]]
    return {"color": contrast["light"], "marker": marker, "linestyle": dash}


def store_style(s: int, colour: str) -> dict[str, Any]:
    """Style of the ``s``-th store among others of one category: a dash, and filled or hollow."""
    hollow = (s + s // len(_DASHES)) % 2
    return {
        "linestyle": _DASHES[s % len(_DASHES)],
        "markerfacecolor": "white" if hollow else colour,
    }


def fitted(text: str, inches: float, points: float = 8) -> str:
    """A bold title with its middle left out if it is wider than its panel."""
    return plain(_clipped(text, bold_letters(inches, points)))


def bold_letters(inches: float, points: float = 8) -> int:
    """Letters that a bold line of a width has room for."""
    return max(8, int(inches * _POINTS / (_BOLD * points)))


def in_lines(text: str, letters: int, most: int) -> str:
    """A name in lines, its middle left out if it has more than ``most`` lines of letters."""
    return plain(textwrap.fill(_clipped(text, letters * most), letters, break_on_hyphens=False))


def _clipped(text: str, most: int) -> str:
    """A text with its middle left out if it has more than ``most`` letters."""
    tail = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[-tail:]}"


def legend(part: Any, axis: Axes, place: str, inches: float) -> None:
    """Draw the legend of an axis outside all panels, in as many columns as fit a width."""
    handles, labels = axis.get_legend_handles_labels()
    labels = [in_lines(label.replace(r"\$", "$"), 3 * LONGEST, 2) for label in labels]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    columns = max(1, int(inches * _LETTERS / (longest + 10)))
    part.legend(handles, labels, loc=f"outside upper {place}", ncols=columns, fontsize=7)


def rows_of(store: Json, table: str) -> list[dict[str, Any]]:
    """Rows of a table that is stored as columns."""
    columns = store["tables"][table]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def asked_of(store: Json) -> set[int]:
    """Contrasts that a store was asked for: others may have other categories."""
    return set(store["tables"]["shares"]["contrast"])


def column(rows: Sequence[Json], name: str | None) -> list[float]:
    """Values of a column; NaN where there is none."""
    return [float("nan") if name is None or row[name] is None else row[name] for row in rows]


def panels(
    number: int, columns: int, height: float = HEIGHT, width: float = COLUMN, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``number`` panels, at most ``columns`` side by side."""
    from matplotlib.figure import Figure

    columns = max(1, min(number, columns))
    rows = max(1, -(-number // columns))
    figure = Figure((width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
    for empty in axes[number:]:
        empty.remove()
    return figure, axes[:number]


def note(figure: Any, text: str, left_out: Sequence[str] = (), where: str = "") -> None:
    """Small print below a figure, with the names of panels in which nothing is drawn."""
    empty = f"not drawn{where}, no or too few selective units: {'; '.join(left_out)}"
    lines = [text, empty if left_out else ""]
    said = "\n".join(wrapped(line, figure.get_figwidth()) for line in lines if line)
    figure.supxlabel(plain(said), fontsize=SMALL)


def wrapped(text: str, inches: float) -> str:
    """Small print in lines of a width."""
    letters = max(20, int(inches * _LETTERS))
    return textwrap.fill(text, letters, break_on_hyphens=False)


def ticks(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places and names of at most as many ticks as an axis has room for."""
    places = at_steps(range(len(names)), step_over(len(names), _MOST_TICKS))
    return places, [plain(_clipped(names[place], LONGEST)) for place in places]


def name_ticks(
    axis: Axes, names: Sequence[str], inches: float = COLUMN, largest: float = 8
) -> None:
    """Name the places of a horizontal axis of a width, so that no name touches the next.

    The axis has all of them, also where nothing is drawn, and room for half a place at either end.
    """
    places, said = ticks(names)
    # Points between two names, across their slant; the axis takes four fifths of the width.
    room = math.sin(math.radians(_SLANT)) * 0.8 * inches * _POINTS / max(1, len(places))
    size = max(SMALLEST, min(largest, room / 1.15))
    every = max(1, math.ceil(1.15 * size / room))
    axis.set_xlim(-0.5, max(1, len(names)) - 0.5)
    axis.set_xticks(
        places[::every], said[::every], rotation=_SLANT, ha="right", rotation_mode="anchor",
        fontsize=size,
    )  # fmt: skip


def draw_line(
    axis: Axes, x: Sequence[float], rows: Sequence[Json], names: Sequence[str | None], style: Json
) -> None:
    """Draw a line of rows: their value, low and high ends. Points apart have a bar for a band."""
    value, low, high = names
    axis.plot(x, column(rows, value), markevery=max(1, len(rows) // _MOST_TICKS), **style)
    if low:
        interval = np.array([column(rows, low), column(rows, high)])
        axis.fill_between(x, *interval, color=style["color"], alpha=0.18, linewidth=0)
        known = np.pad(~np.isnan(interval).any(0), 1)
        alone = known[1:-1] & ~known[:-2] & ~known[2:]
        axis.vlines(np.array(x)[alone], *interval[:, alone], color=style["color"], alpha=0.18,
                    linewidth=3)  # fmt: skip


def blank(axis: Axes, text: str) -> None:
    """Write a text in place of an empty panel, which keeps its title and the label at its left."""
    axis.spines[:].set_visible(False)
    axis.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center",
              fontsize=SMALL, color=GREY, gid=BLANK)  # fmt: skip


def mark_beyond(axis: Axes) -> None:
    """Draw the points beyond an axis at its edge, with an arrow and their values.

    The marks of an earlier call, when the axis had other limits, are removed.
    """
    from matplotlib.ticker import PercentFormatter

    for earlier in [one for one in axis.get_children() if one.get_gid() == _BEYOND]:
        earlier.remove()
    scale = 100 if isinstance(axis.yaxis.get_major_formatter(), PercentFormatter) else 1
    low, high = axis.get_ylim()
    values: dict[tuple[float, float], list[float]] = {}
    for line in axis.get_lines():
        beyond = [(x, y) for x, y in _known(line) if not low <= y <= high]
        for x, y in beyond:
            values.setdefault((x, min(max(y, low), high)), []).append(y)
        if beyond:
            edges = [(x, min(max(y, low), high)) for x, y in beyond]
            (marker,) = axis.plot(*zip(*edges, strict=True))
            marker.update_from(line)
            marker.set(linestyle="", markevery=None, clip_on=False, label="_beyond", gid=_BEYOND)
    for place, one in values.items():
        said = ", ".join(f"{scale * value:.2g}" for value in sorted(one, reverse=True))
        axis.annotate(
            f"{'↑' if place[1] == high else '↓'} {said}", place, (-5, 0),
            textcoords="offset points", fontsize=SMALL, ha="right", va="center", gid=_BEYOND,
        )  # fmt: skip


def _known(line: Any) -> list[tuple[float, float]]:
    pairs = zip(*np.asarray(line.get_data(), float).tolist(), strict=True)
    return [(x, y) for x, y in pairs if y == y]


def name_lines(axis: Axes, names: Mapping[str, str], inches: float) -> None:
    """Write names at the ends of lines, by their labels, none on another, if there are several.

    ``inches`` is the height of the axis, whose limits must be final. Lines at 0 are not named.
    Points beyond the axis are drawn at its edge, with an arrow and their value.
    """
    ends = []
    for line in axis.get_lines():
        known = _known(line)
        if any(y for _, y in known) and line.get_label() in names:
            ends.append((known[-1], line))
    mark_beyond(axis)
    if len(ends) < 2:
        return
    low, high = axis.get_ylim()
    apart = 1.15 * SMALL / (inches * _POINTS)
    ends.sort(key=lambda end: end[0][1])
    places: list[float] = []
    for (_, y), _line in ends:
        place = (y - low) / ((high - low) or 1)
        places.append(max(place, places[-1] + apart) if places else place)
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], places[i + 1] - apart if i + 1 < len(places) else 1.0)
    for ((x, y), line), place in zip(ends, places, strict=True):
        edge = min(max(y, low), high)
        axis.annotate(
            names[str(line.get_label())], (x, edge), (1.03, place), textcoords="axes fraction",
            fontsize=SMALL, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.4,
                        "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip
