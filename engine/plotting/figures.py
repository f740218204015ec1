"""Figures as reproducible SVG, PDF and PNG: the page's for print, and panels of results."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import UserError, shortened
from ..files import new_file, new_folders
from .axes import BLANK, STYLE, Json, panels, rows_of
from .curves import LINES, distributions, over_layers
from .matrices import confusion, consistency, maps, matrices
from .overview import overview
from .results import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Formats, and metadata that would differ from one time to the next.
_FORMATS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_DOTS_PER_INCH = 300
# Inches across a figure of panels, and the most panels.
_ACROSS, _MOST = 20, 24


# A function that draws on axes ``ax``, and what it measures: panels of one measure share an axis.
Panel = tuple[Callable[..., "Axes"], str | None]


def format_of(output: Path) -> str:
    """The format that a file's ending tells.

    Raises
    ------
    UserError : it tells none
    """
    ending = output.suffix.lower().removeprefix(".")
    if ending not in _FORMATS:
        raise UserError(
            f"the ending of a figure's name tells its format, {', '.join(_FORMATS)}; got "
            f"{output.name!r}: give it one of these endings"
        )
    return ending


def fit_in_a_figure(panels: int) -> None:
    """Raise a ``UserError`` for more panels than a figure has."""
    if panels > _MOST:
        raise UserError(
            f"a figure has up to {_MOST} panels; got {panels}: name fewer stores, `layers`, "
            "`contrasts` or `measures`"
        )


def write_panels(
    output: Path,
    shown: Sequence[Panel],
    inches: tuple[float, float],
    rows: int = 1,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a figure of panels of one size; its ending tells the format.

    Panels fill ``rows`` rows if these are not too wide, and otherwise as few as hold them.

    Raises
    ------
    UserError : the ending tells no format; too many panels, or nothing to draw in any
    """
    from matplotlib import rc_context

    form = format_of(output)
    fit_in_a_figure(len(shown))
    width, height = inches
    with rc_context(STYLE), new_file(output, "a figure") as file:
        least = math.ceil(len(shown) / (_ACROSS // width))
        columns = math.ceil(len(shown) / max(rows, least))
        figure, axes = panels(len(shown), columns, height, width)
        first: dict[str, Axes] = {}
        for axis, (draw, measure) in zip(axes, shown, strict=True):
            if measure is not None and first.setdefault(measure, axis) is not axis:
                axis.sharey(first[measure])
            draw(ax=axis)
        empty = [text.get_text() for axis in axes for text in axis.texts if text.get_gid() == BLANK]
        if len(empty) == len(axes):
            raise UserError(f"there is nothing to draw: {empty[0]}")
        with _letters_told(note):
            _save(figure, file, form)


def write_figures(
    found: Json,
    folder: Path,
    details: Sequence[Json] = (),
    results: Sequence[Any] = (),
    note: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write every figure as NAME.svg, NAME.pdf and NAME.png once all are drawn; return their paths.

    ``found`` is the data of a page, of :func:`..reporting.findings.findings`; figures of a single
    layer show its ``layer``. ``details`` of every store, of :func:`.tuning.details`, are for the
    composed figure, ``results`` those that the page shows beside analyses.
    """
    from matplotlib import rc_context

    written = []
    with new_folders(folder), rc_context(STYLE), _letters_told(note), ExitStack() as files:
        drawn = chain(_figures(found, details), figures(results, found["layer"]))
        for name, figure in drawn:
            for kind in _FORMATS:
                written.append(folder / f"{name}.{kind}")
                file = files.enter_context(new_file(written[-1], "a figure"))
                _save(figure, file, kind)
                figure.set_layout_engine("none")  # keep the layout, which is slow to compute
    return written


@contextmanager
def _letters_told(note: Callable[[str], None]) -> Iterator[None]:
    """Note once which letters the font lacks; matplotlib warns of each where it is drawn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    lacking: dict[str, None] = {}
    for one in caught:
        letter = re.match(r"Glyph (\d+) ", str(one.message))
        if letter is None:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        elif chr(int(letter[1])).isprintable():
            lacking[chr(int(letter[1]))] = None
    if lacking:
        note(
            f"the font of figures lacks {shortened(lacking)}: name one that has them as "
            "font.family in a matplotlibrc"
        )


def _save(figure: Figure, file: IO[bytes], form: str) -> None:
    figure.savefig(file, format=form, metadata=_FORMATS[form], dpi=_DOTS_PER_INCH)


def _figures(found: Json, details: Sequence[Json]) -> Iterator[tuple[str, Figure]]:
    if details:
        yield "overview", overview(found, details)
    for line in LINES:
        yield line.name, over_layers(found, line)
    yield "csi-in-layer", distributions(found, "csi")
    yield "maps", maps(found)
    if any(rows_of(store, "confusion") for store in found["stores"]):
        yield "preferred-category-fold-by-fold", matrices(found, confusion, "share")
    if all(store["consistency"] for store in found["stores"]):
        yield "consistency", matrices(found, consistency, "Spearman's rho of category RDMs")
