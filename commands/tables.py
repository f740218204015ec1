"""Tables, JSON and numbers on stdout."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiform.engine.errors import shortened
from fusiform.engine.excerpt import MOST_ROWS, Excerpt, excerpt
from fusiform.engine.texts import number, printable
from fusiform.engine.urls import without_credentials
from fusiform.engine.values import Format, as_json

from . import fitting
from .notes import note, put

if TYPE_CHECKING:
    from fusiform.engine.analyses.tables import Printed
    from fusiform.engine.layer import Layer
    from fusiform.engine.responses.answer import Answer
    from fusiform.engine.table import Table

DESCRIPTION = ("shape", "dimensions", "type")
# Columns of numbers that are written as text have one of these in their name.
_INTERVALS = ("95", "chance", "ceiling")
# Columns of a recording's answer that list images.
_IMAGES = ("most", "least")


def print_json(value: Any) -> None:
    """An answer as JSON, on stdout."""
    print(as_json(value, indent=2))


def print_table(
    head: list[str],
    rows: list[list[str]],
    right: Collection[int],
    wrapped: Collection[int] = (),
    together: int = 1,
    kept: int = 0,
) -> None:
    """A table that fits the terminal, and a line that names what does not; see :func:`.fit`.

    Columns stand in the order of their importance; those in ``right`` are right-aligned.
    """
    table = [[printable(cell) for cell in row] for row in [head, *rows]]
    found = fitting.fit(table, right, wrapped, fitting.width_of(sys.stdout), together, kept)
    head, *rows = (list(row) for row in zip(*found.columns, strict=True))
    for row in [head, ["-" * width for width in found.widths], *rows]:
        _print_row(row, found.widths, right, wrapped)
    _print_left_out(found)


def description_of(layer: Layer) -> list[str]:
    """Shape, dimensions and type of a layer."""
    kind = f"{layer.kind} (passes on what it takes)" if layer.passes_on else layer.kind
    return [" x ".join(map(str, layer.shape)), ", ".join(layer.dims), cut(kind)]


def fits(table: Sequence[Sequence[str]], right: Collection[int], together: int) -> bool:
    """Whether all columns of a table, its first row the headings, fit the terminal."""
    table = [[printable(cell) for cell in row] for row in table]
    width = fitting.width_of(sys.stdout)
    return not fitting.fit(table, right, (), width, together).left_out


def _print_row(
    row: list[str], widths: list[int], right: Collection[int], wrapped: Collection[int]
) -> None:
    """A row, of several lines where a text is longer than its column."""
    cells = [fitting.wrap(cell, widths[place], 0).splitlines() if place in wrapped else [cell]
             for place, cell in enumerate(row)]  # fmt: skip
    for line in zip_longest(*cells, fillvalue=""):
        shown = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(shown).rstrip())


def _print_left_out(found: fitting.Fitted) -> None:
    said = []
    if found.left_out:
        said.append(f"columns not shown: {shortened(found.left_out)}")
    if found.is_shortened:
        said.append("names shortened")
    remedy = "a wider terminal" if fitting.is_wide.get() is None else "--wide"
    print_rest("; ".join(said), f"{remedy} shows all")


def print_titled(table: Printed) -> None:
    """A table under its title; numbers and intervals stand on the right."""
    print()
    put(table.title)
    print()
    numeric = {i for i in range(len(table.head))
               if not any(isinstance(row[i], str) for row in table.rows)}  # fmt: skip
    spans = {i for i, name in enumerate(table.head)
             if name[-1:].isdigit() or any(word in name for word in _INTERVALS)}  # fmt: skip
    rows = [[_cell(value) for value in row] for row in table.rows]
    print_table(table.head, rows, right=numeric | spans)
    print_rest(table.said)


def print_answer(found: Answer, every: bool) -> None:
    """An answer of a recording: every line, or an excerpt; images take several lines."""
    head, lines, said = (found.head, found.lines, "") if every else found.excerpt()
    right = {place for place, name in enumerate(head) if name not in found.words}
    images = {place for place, name in enumerate(head) if name in _IMAGES}
    print_table(head, lines, right, images - right)
    print_rest(said)


def of_stores(paths: list[str], tables: list[Iterator[Table]]) -> Iterator[Table]:
    """Tables of several stores, each with its name in a first column."""
    for path, parts in zip(paths, tables, strict=True):
        for part in parts:
            yield part.labelled("store", without_credentials(path)) if len(paths) > 1 else part


def excerpt_of(
    rows: Sequence[Any], every: bool, value: str = "share", noun: str = "contrasts"
) -> Excerpt:
    """The rows to show of those with a ``layer``, a ``contrast`` and a ``value``: all, if few."""
    values: dict[tuple[str, str], float] = {}
    for row in rows:
        key, own = (row.layer, row.contrast), getattr(row, value)
        values[key] = max(values.get(key, -math.inf), -math.inf if own is None else own)
    return excerpt(values, len(values) if every else MOST_ROWS, noun)


def print_rest(said: str, remedy: str = "--all shows all, --format csv has all") -> None:
    """A line that says what of a table is shown, and how to see the rest; none if all is."""
    if said:
        put(f"... {said}: {remedy}", indent=4)


@dataclass(frozen=True)
class Destination:
    """Where an answer goes, and in which format.

    Parameters
    ----------
    form
        Format; by default what the ending of --output tells, else table.
    output
        The file to write: .csv, .json, .parquet or .npz; else the answer is printed.
    guard_formulas
        In csv, put a ' before texts that a spreadsheet would run as formulas.

    Raises
    ------
    UserError : see :func:`.formats.format_of`
    """

    form: Format | None = None
    output: Path | None = None
    guard_formulas: bool = False

    def __post_init__(self) -> None:
        if self.form or self.output or self.guard_formulas:  # formats load NumPy
            from fusiform.engine.querying.formats import format_of

            form = format_of(self.form, self.output, self.guard_formulas)
            object.__setattr__(self, "form", form)

    @property
    def is_table(self) -> bool:
        """Whether the answer is printed as tables for people."""
        return self.form in (None, "table")


PRINTED = Destination()


def put_out(
    tables: Iterable[Table],
    to: Destination,
    every: bool = True,
    layers: Iterable[Layer] = (),
) -> None:
    """Print tables as one, an excerpt unless ``every``; or write them in another form.

    A printed table has shares in per cent, and no position along a dimension of length 1 of one of
    the ``layers``; files have fractions, and every position.
    """
    from fusiform.engine.table import is_index

    if to.form is not None and not to.is_table:
        from fusiform.engine.querying.formats import write

        written = write(tables, to.form, to.output, sys.stdout, to.guard_formulas)
        if to.output:
            note(f"wrote {written:,} rows to {to.output}")
        return
    table, rows = _leading(tables, every)
    said = ""
    if not every and rows > MOST_ROWS:
        table, said = _excerpt_of(table, rows)
    head, cells = _as_printed(table, layers)
    numbers = {name for name, values in table.columns.items() if values.dtype.kind in "fi"}
    right = {place for place, name in enumerate(head) if name in numbers or name == "%"}
    measures = [head.index(name) for name, own in table.stored.items()
                if name in head and name in numbers and not is_index(own)]  # fmt: skip
    print_table(head, cells, right, kept=min(measures, default=0) + 1)
    print_rest(said)


def _as_printed(table: Table, layers: Iterable[Layer]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a table for people."""
    lengths: dict[tuple[str, str], int] = {}
    for layer in layers:
        for dim, length in zip(layer.dims, layer.shape, strict=True):
            key = layer.name, dim
            lengths[key] = max(length if layer.units > 1 else 2, lengths.get(key, 0))
    names = list(table.stored)
    if "share" in names and "units" in names:
        names.insert(names.index("units"), names.pop(names.index("share")))

    def cell(row: Mapping[str, Any], name: str) -> str:
        if lengths.get((row.get("layer", ""), name)) == 1:
            return _cell(None)
        return _cell(100 * row[name] if name == "share" else row[name])

    rows = (dict(zip(table.stored, row, strict=True)) for row in table.rows())
    cells = [[cell(row, name) for name in names] for row in rows]
    return ["%" if name == "share" else name for name in names], cells


def _leading(tables: Iterable[Table], every: bool) -> tuple[Table, int]:
    """The rows that may be shown of a table in parts, and the number of all its rows."""
    from fusiform.engine.table import joined

    kept, rows = [], 0
    for table in tables:
        if every or _ranked(table):
            kept.append(table)
        elif not kept or rows < MOST_ROWS:
            kept.append(table.take(slice(MOST_ROWS - rows)))
        rows += len(table)
    return joined(kept), rows


def _ranked(table: Table) -> bool:
    """Whether a table has shares by which its contrasts are ranked."""
    return {"layer", "contrast", "share"} <= table.stored.keys()


def _excerpt_of(table: Table, rows: int) -> tuple[Table, str]:
    """Shares of the leading contrasts, or the first of the ``rows`` of any other table."""
    if not _ranked(table):
        return table, f"{MOST_ROWS:,} of {rows:,} rows"
    columns = table.columns
    keys = list(zip(columns["layer"], columns["contrast"], strict=True))
    values: dict[tuple[str, str], float] = {}
    for key, share in zip(keys, columns["share"].tolist(), strict=True):
        values[key] = max(share, values.get(key, 0.0))
    shown = excerpt(values)
    kept = [i for i, key in enumerate(keys) if shown.has(*key)]
    if len(kept) <= MOST_ROWS or len(values) == len(keys):
        return table.take(kept), shown.said
    return table.take(kept[:MOST_ROWS]), f"{MOST_ROWS:,} of {rows:,} rows"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def cut(text: str, longest: int = 300) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= longest else f"{text[:longest]}..."
