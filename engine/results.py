"""Results as tables in long form, a row per value, and their display in notebooks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .excerpt import MOST_COLUMNS, MOST_ROWS, excerpt
from .table import Labels, Table, is_index, joined
from .texts import number

if TYPE_CHECKING:
    import pandas
    from markupsafe import Markup

# Rows that a notebook shows.
_SHOWN = 10
# Columns of one text, which a notebook shows above the rows.
_OF_ALL = ("store", "recording", "criterion", "regions")


class Result(ABC):
    """A result that is a table in long form."""

    # How Python gives the rest of what a notebook shows.
    more = "frame()"

    @abstractmethod
    def tables(self) -> Iterator[Table]:
        """The result in long form, a row per value, in parts of the same columns."""

    def frame(self) -> pandas.DataFrame:
        """The result in long form, a row per value, as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            Columns ``quantity``, ``value``, mostly ``low`` and ``high``, and what they belong to:
            ``docs/reference/output.md`` lists them for every result.

        Examples
        --------
        >>> top = fusiform.Criterion("rest", "top 1%")
        >>> rows = fusiform.summary("r18.zarr", top, "layer4.1", "faces")
        >>> list(rows.frame().columns)
        ['store', 'criterion', 'layer', 'contrast', 'fold', 'quantity', 'value']
        """
        return joined(list(self.tables())).frame()

    def __repr__(self) -> str:
        # Short: a notebook keeps it beside the HTML.
        return f"<fusiform.{type(self).__name__}: {self.more}>"

    @property
    def _drawn_by(self) -> str:
        """Functions that draw the result."""
        return ""

    def _shares(self) -> Mapping[tuple[str, str], float]:
        """Shares of selective units by layer and contrast, if these sum up the result."""
        return {}

    def _repr_html_(self) -> str:
        """Shares of selective units, or the first rows; how to get all, and what draws it; escaped.

        Columns that are empty in these rows are left out; a text of all of them stands above.
        """
        from .markup import definitions, table, tag

        parts: list[Table] = []
        number = 0
        for part in self.tables():
            if number < _SHOWN:
                parts.append(part.take(slice(_SHOWN - number)))
            number += len(part)
        first = joined(parts)
        rows = list(first.rows())
        cells = {name: [_cell(row[i]) for row in rows] for i, name in enumerate(first.stored)}
        common = {n: own[0] for n, own in cells.items() if n in _OF_ALL and len({*own}) == 1}
        columns = {n: own for n, own in cells.items() if n not in common and (any(own) or not own)}
        shares = self._shares()
        shown = shares_html(shares) if shares else table(
            list(columns), list(zip(*columns.values(), strict=True))
        )  # fmt: skip
        said = "" if shares else f"{len(first):,} of {number:,} rows; "
        return tag(
            "div",
            tag("strong", f"fusiform.{type(self).__name__}"),
            f" {number:,} rows x {len(first.stored)} columns",
            definitions(common.items()),
            shown,
            tag("p", f"{said}all: {self.more}"),
            *([tag("p", f"figures: {self._drawn_by}")] if self._drawn_by else []),
        )


def shares_html(shares: Mapping[tuple[str, str], float]) -> Markup:
    """Shares of selective units by layer and contrast as a table in percent, shaded by share.

    Of many layers and contrasts those that lead are shown, see :func:`.excerpt.excerpt`.
    """
    from .markup import join, table, tag

    layers = {layer for layer, _ in shares}
    part = excerpt(shares, min(MOST_ROWS, MOST_COLUMNS * len(layers)))
    most = max(shares.values(), default=0) or 1
    rows: dict[str, list[Any]] = {}
    for (layer, contrast), share in shares.items():
        if part.has(layer, contrast):
            # Half transparent: a notebook's ground may be light or dark.
            shade = f"background: rgba(48, 108, 216, {0.6 * share / most:.2f})"
            rows.setdefault(layer, [layer]).append(tag("span", f"{100 * share:.2f}", style=shade))
    names = [name for name in dict.fromkeys(name for _, name in shares) if name in part.contrasts]
    said = [tag("p", part.said)] if part.said else []
    return join([table(["selective %", *names], rows.values()), *said])


def long_form(table: Table, intervals: Mapping[str, str] | None = None, before: str = "") -> Table:
    """A row per number of a table, beside its texts and indices: ``quantity``, ``value``.

    Columns ``X_low`` and ``X_high`` are the ends ``low`` and ``high`` of the interval of ``X``;
    ``intervals[X]`` is what their names begin with, if not ``X_``. Names of quantities begin with
    ``before``.
    """
    numbers = {
        name: own
        for name, own in table.stored.items()
        if isinstance(own, np.ndarray) and own.dtype != object and not is_index(own)
    }
    others = dict(intervals or {})
    begins = {name: f"{name}_" for name in numbers if f"{name}_" not in others.values()} | others
    ends = {name: (f"{begin}low", f"{begin}high") for name, begin in begins.items()}
    ends = {name: pair for name, pair in ends.items() if numbers.keys() >= {name, *pair}}
    inner = {end for pair in ends.values() for end in pair}
    names = [name for name in numbers if name not in inner]

    def stacked(of: Iterable[str | None]) -> NDArray[np.float64]:
        nothing = np.full(len(table), np.nan)
        columns = [nothing if name is None else numbers[name] for name in of]
        return np.stack(columns, axis=1).astype(np.float64).ravel()

    rows = np.repeat(np.arange(len(table)), len(names))
    return Table(
        {
            **table.without(*numbers).take(rows).stored,
            "quantity": Labels(
                np.tile(np.arange(len(names), dtype=np.int32), len(table)),
                tuple(f"{before}{name}" for name in names),
            ),
            "value": stacked(names),
            "low": stacked(ends.get(name, (None, None))[0] for name in names),
            "high": stacked(ends.get(name, (None, None))[1] for name in names),
        }
    )


def crossed(axes: Sequence[Table], **values: Any) -> Table:
    """A row per element of arrays: the columns of its place on every axis, and its values.

    ``axes`` describe the axes of all ``values``, in order: a row for every place on one.
    """
    shape = tuple(map(len, axes))
    places = np.unravel_index(np.arange(math.prod(shape)), shape)
    columns: dict[str, Any] = {}
    for axis, own in zip(axes, places, strict=True):
        columns |= axis.take(own).stored
    flat = {name: np.asarray(one, np.float64).reshape(-1) for name, one in values.items()}
    return Table(columns | flat)


def numbered(name: str, size: int) -> Table:
    """An axis of indices."""
    return Table({name: np.arange(size, dtype=np.int32)})


def named(name: str, texts: Sequence[str]) -> Table:
    """An axis of names."""
    return Table({name: Labels(np.arange(len(texts), dtype=np.int32), tuple(texts))})


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return number(value, 6) if isinstance(value, float) else str(value)
