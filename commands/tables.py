"""Tables, JSON and numbers on stdout."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiform.engine.excerpt import MOST_ROWS, Excerpt, excerpt
from fusiform.engine.urls import without_credentials
from fusiform.engine.values import Format, as_json

from .notes import note, printable

if TYPE_CHECKING:
    from fusiform.engine.analyses.tables import Printed
    from fusiform.engine.table import Table

# Columns of numbers that are written as text have one of these in their name.
_INTERVALS = ("95", "chance", "ceiling")


def print_json(value: Any) -> None:
    """An answer as JSON, on stdout."""
    print(as_json(value, indent=2))


def print_table(head: list[str], rows: list[list[str]], right: set[int]) -> None:
    """A table; the columns in ``right`` are right-aligned."""
    head, *rows = [[printable(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def print_titled(table: Printed) -> None:
    """A table under its title; numbers and intervals stand on the right."""
    print(f"\n{printable(table.title)}\n")
    numeric = {i for i in range(len(table.head))
               if not any(isinstance(row[i], str) for row in table.rows)}  # fmt: skip
    spans = {i for i, name in enumerate(table.head)
             if name.isdigit() or any(word in name for word in _INTERVALS)}  # fmt: skip
    rows = [[_cell(value) for value in row] for row in table.rows]
    print_table(table.head, rows, right=numeric | spans)
    print_rest(table.said)


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
        print(f"... {printable(said)}: {remedy}")


@dataclass(frozen=True)
class Destination:
    """Where an answer goes, and in which format.

    Parameters
    ----------
    form : Format; by default what the ending of --output tells, else table.
    output : The file to write: .csv, .json, .parquet or .npz; else the answer is printed.
    guard_formulas : In csv, put a ' before texts that a spreadsheet would run as formulas.

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


def put_out(tables: Iterable[Table], to: Destination, every: bool = True) -> None:
    """Print tables as one, an excerpt unless ``every``; or write them in another form."""
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
    right = {i for i, values in enumerate(table.columns.values()) if values.dtype.kind in "fi"}
    print_table(list(table.columns), [[_cell(v) for v in row] for row in table.rows()], right)
    print_rest(said)


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
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def cut(text: str, longest: int = 300) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= longest else f"{text[:longest]}..."
