"""Axes of a user's figure or of a new one, and the requests that name what is drawn in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import UserError, first_line, nearest
from ..values import listed
from .axes import GREY, LONGEST, SMALL, STYLE, bold_letters, in_lines, plain, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ONE_FOLD = "no held-out stimuli: the scan had one fold"
_T = TypeVar("_T")
# Inches of plots: of lines over many and over few places, of a map, and of a matrix, which is wide
# enough for its square to be as high as the names around it allow.
WIDE, NARROW, MAP, MATRIX = (6.0, 3.2), (5.0, 3.2), (3.6, 3.0), (5.4, 4.2)
# Lines of one panel that markers and dashes tell apart.
MOST_LINES = 24
# Names in a column of a legend, lines of all names, and lines of a title.
_COLUMN, _LINES, _TITLE = 12, 18, 3


def require_matplotlib() -> None:
    """Raise a ``UserError`` if matplotlib is not installed, or does not start."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'fusiform[figures]'") from None
    except Exception as error:  # whatever its settings, which it reads when imported, are
        raise UserError(
            f"matplotlib does not start ({first_line(error)}): mend or unset MPLBACKEND and your "
            "matplotlibrc"
        ) from None


@contextmanager
def axes_of(ax: Axes | None, width: float, height: float) -> Iterator[Axes]:
    """Axes to draw in: ``ax``, or those of a new figure, whose size is in inches.

    Settings of matplotlib hold within the context only.

    Raises
    ------
    UserError : matplotlib is missing, or ``ax`` are no axes
    """
    require_matplotlib()
    from matplotlib import rc_context, rcParams
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise UserError(f"`ax` are axes of matplotlib; got {type(ax).__name__}: leave it out")
    # A title of the user's takes the place of ours.
    with rc_context({**STYLE, "axes.titlelocation": rcParams["axes.titlelocation"]}):
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
        yield ax


def require(result: object, kind: type[_T], made_by: str) -> _T:
    """The result, if it is of a kind.

    Raises
    ------
    UserError : it is not
    """
    if not isinstance(result, kind):
        raise UserError(
            f"this figure shows a result of {made_by}; got {type(result).__name__}: call it first"
        )
    return result


def named(name: str, known: Iterable[str], what: str) -> str:
    """A name, if it is known.

    Raises
    ------
    UserError : it is not
    """
    known = list(known)
    if name not in known:
        raise UserError(f"there is no {what} {name!r} in this result: {nearest(str(name), known)}")
    return name


def width_of(axis: Axes) -> float:
    """Width of axes in inches, before the names around them are laid out."""
    return float(axis.get_window_extent().width / axis.figure.dpi)


def title(axis: Axes, text: str, said: str = "") -> None:
    """Write a title, and below it in small print what is shown."""
    from matplotlib import rcParams

    lines = wrapped(said, width_of(axis)) if said else ""
    rows = lines.count("\n") + 1 if lines else 0
    head = in_lines(text, bold_letters(width_of(axis)), _TITLE)
    axis.set_title(head, pad=7 + 1.4 * SMALL * rows)
    where = rcParams["axes.titlelocation"]
    axis.annotate(
        plain(lines), ({"left": 0, "center": 0.5, "right": 1}[where], 1), (0, 5),
        "axes fraction", "offset points", fontsize=SMALL, color=GREY, ha=where, va="bottom",
        annotation_clip=False, gid="said",
    )  # fmt: skip


def legend(axis: Axes, names: Sequence[str]) -> str:
    """Name the lines of axes to their right; return a sentence about names with nothing drawn."""
    drawn = {
        line.get_label() for line in axis.get_lines()
        if np.isfinite(np.asarray(line.get_ydata(), float)).any()
    }  # fmt: skip
    missing = [name for name in names if plain(name) not in drawn]
    left_out = {plain(name) for name in missing}
    handles, labels = axis.get_legend_handles_labels()
    shown = [pair for pair in zip(handles, labels, strict=True) if pair[1] not in left_out]
    if shown:
        lines = min(3, max(1, _LINES // len(shown)))
        said = {plain(name): in_lines(name, LONGEST, lines) for name in names}
        axis.legend(
            [handle for handle, _ in shown], [said.get(label, label) for _, label in shown],
            loc="upper left", bbox_to_anchor=(1.01, 1),
            borderaxespad=0, ncols=-(-len(shown) // _COLUMN), fontsize=7, handlelength=3,
        )  # fmt: skip
    return f". Not drawn, no or too few units: {', '.join(missing)}" if missing else ""


def chosen(
    contrasts: str | Sequence[str] | None, known: Sequence[str], labels: Mapping[str, str] = {}
) -> list[str]:
    """Contrasts of a result that are asked for, each once; by default all.

    Raises
    ------
    UserError : one is unknown, or none is named
    """
    asked = known if contrasts is None else listed(contrasts)
    if not asked:
        raise UserError("a figure shows one contrast at least; got none: name it in `contrasts`")
    by_label = [labels.get(one, one) if isinstance(one, str) else one for one in asked]
    return list(dict.fromkeys(named(one, known, "contrast") for one in by_label))


def few_enough(names: Sequence[str], what: str) -> None:
    """Raise a ``UserError`` if there are more names than lines that can be told apart."""
    if len(names) > MOST_LINES:
        raise UserError(
            f"a figure tells {MOST_LINES} {what} apart; got {len(names):,}: name some in `{what}`"
        )
