"""Tables, JSON and numbers on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiform.engine.urls import without_credentials
from fusiform.engine.values import as_json

from .notes import note, printable

if TYPE_CHECKING:
    from fusiform.engine.analyses.tables import Printed
    from fusiform.engine.querying.table import Format, Table

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


def of_stores(paths: list[str], tables: list[Iterator[Table]]) -> Iterator[Table]:
    """Tables of several stores, each with its name in a first column."""
    from fusiform.engine.querying.table import Table

    for path, parts in zip(paths, tables, strict=True):
        for part in parts:
            named = {"store": [without_credentials(path)] * len(part)} if len(paths) > 1 else {}
            yield Table({**named, **part.columns})


def put_out(
    tables: Iterator[Table], form: Format, output: Path | None, guard_formulas: bool
) -> None:
    """Print tables as one, or write them in another form."""
    from fusiform.engine.querying.table import joined, write

    if form != "table":
        written = write(tables, form, output, sys.stdout, guard_formulas)
        if output:
            note(f"wrote {written:,} rows to {output}")
        return
    table = joined(list(tables))
    right = {i for i, values in enumerate(table.columns.values()) if values.dtype.kind in "fi"}
    print_table(list(table.columns), [[_cell(v) for v in row] for row in table.rows()], right)


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
