"""Tables of results: named columns, printed or written as CSV, JSON, Parquet or npz."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from ..files import new_file, output_path, write_arrays
from ..values import as_json

if TYPE_CHECKING:
    import pandas

Format = Literal["table", "csv", "json", "parquet", "npz"]
# Characters that begin a formula in spreadsheets.
_FORMULA = tuple("=+-@\t\r")
# The index along a dimension that a layer lacks.
NOWHERE = -1


class Table:
    """Columns of equal length, in order: text, or numbers as numpy arrays."""

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        self.columns: dict[str, NDArray[Any]] = {
            name: values if isinstance(values, np.ndarray) else _column(values)
            for name, values in columns.items()
        }

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __repr__(self) -> str:
        return repr(self.frame())

    def _repr_html_(self) -> str:
        return str(self.frame()._repr_html_())  # pandas escapes names

    def take(self, rows: Any) -> Table:
        """Some of the rows."""
        return Table({name: values[rows] for name, values in self.columns.items()})

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Rows of plain Python values; None where a value is missing."""
        yield from zip(*map(_plain, self.columns.values()), strict=True)

    def frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(
            {
                name: pandas.array(_plain(values), dtype="Int32") if _is_index(values) else values
                for name, values in self.columns.items()
            }
        )


def joined(tables: Sequence[Table]) -> Table:
    """Concatenate tables; columns that only some have are filled with missing values."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    lengths = [len(table) for table in tables]

    def column(name: str) -> NDArray[Any]:
        known = next(table[name] for table in tables if name in table.columns)
        missing = np.array([NOWHERE if known.dtype.kind == "i" else np.nan]).astype(known.dtype)
        parts = [
            table.columns.get(name, np.broadcast_to(missing, length))
            for table, length in zip(tables, lengths, strict=True)
        ]
        return np.concatenate(parts)

    return Table({name: column(name) for name in names})


def refuse_form(form: Format, output: Path | None, guard_formulas: bool = False) -> None:
    """Check format and output before any table is computed.

    Raises
    ------
    UserError : the format needs an output, takes none, or lacks its library; the output cannot be
        written to; formulas are guarded in a format other than CSV
    """
    if guard_formulas and form != "csv":
        raise UserError(f"formulas are guarded in csv only; got {form}: leave it out")
    if output is None:
        if form in ("parquet", "npz"):
            raise UserError(f"{form} is written to a file; name one with `output`")
        return
    if form == "table":
        raise UserError(f"a table is printed; to write {output} choose `form`")
    output_path(output, "a table", "name a file, or leave out `output` and it is printed")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise UserError("parquet needs pyarrow: pip install 'fusiform[parquet]'")


def write(
    tables: Iterable[Table],
    form: Format,
    output: Path | None,
    stream: IO[str],
    guard_formulas: bool = False,
) -> int:
    """Write tables of the same columns one after the other; return the number of rows.

    ``csv`` and ``json`` go to ``stream`` unless there is an ``output``; other formats need one.
    ``guard_formulas`` prefixes ``'`` in CSV to text that a spreadsheet would run as a formula, such
    as the name of an untrusted category: text that begins with =, +, -, @, a tab or CR.

    Raises
    ------
    UserError : see :func:`refuse_form`; the output cannot be written to
    """
    refuse_form(form, output, guard_formulas)
    tables = iter(tables)
    # Compute the first table before the output is opened: an invalid query raises here.
    tables = chain(list(islice(tables, 1)), tables)
    writer = _WRITERS[form]
    if guard_formulas:
        writer = partial(_write_csv, shown=_guarded)
    if output is None:
        return writer(tables, stream)
    with new_file(output, "a table", text=form in ("csv", "json")) as file:
        return writer(tables, file)


class _Lines:
    """Ends lines in LF, while ``csv`` ends them in CRLF so that it quotes both characters."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def _guarded(row: Iterable[Any]) -> list[Any]:
    """A row whose text no spreadsheet reads as a formula."""
    return [f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v for v in row]


def _write_csv(
    tables: Iterable[Table],
    file: IO[str],
    shown: Callable[[Iterable[Any]], Sequence[Any]] = tuple,
) -> int:
    writer, written = csv.writer(_Lines(file), lineterminator="\r\n"), 0
    for index, table in enumerate(_same_columns(tables)):
        if index == 0:
            writer.writerow(shown(table.columns))
        writer.writerows(map(shown, table.rows()))
        written += len(table)
    return written


def _write_json(tables: Iterable[Table], file: IO[str]) -> int:
    """Write an array of records, one per line."""
    written = 0
    file.write("[")
    for table in _same_columns(tables):
        for row in table.rows():
            record = as_json(dict(zip(table.columns, row, strict=True)))
            file.write(f",\n {record}" if written else f"\n {record}")
            written += 1
    file.write("\n]\n")
    return written


def _write_parquet(tables: Iterable[Table], file: IO[bytes]) -> int:
    import pyarrow
    from pyarrow import parquet

    written, writer = 0, None
    try:
        for table in _same_columns(tables):
            arrays = {
                name: pyarrow.array(
                    values,
                    type=pyarrow.string() if values.dtype == object else None,
                    mask=values == NOWHERE if _is_index(values) else None,
                )
                for name, values in table.columns.items()
            }
            part = pyarrow.table(arrays)
            writer = writer or parquet.ParquetWriter(file, part.schema)
            writer.write_table(part)
            written += len(table)
    finally:
        if writer:
            writer.close()
    return written


def _write_npz(tables: Iterable[Table], file: IO[bytes]) -> int:
    whole = joined(list(tables))
    columns: dict[str, Any] = {
        # Arrays of objects would be pickled.
        name: values.astype(str) if values.dtype == object else values
        for name, values in whole.columns.items()
    }
    write_arrays(file, columns, compressed=True)
    return len(whole)


_WRITERS: Mapping[str, Callable[[Iterable[Table], IO[Any]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
    "npz": _write_npz,
}


def _same_columns(tables: Iterable[Table]) -> Iterator[Table]:
    """Yield tables, and raise if their columns differ."""
    first: list[str] | None = None
    for table in tables:
        names = list(table.columns)
        first = names if first is None else first
        if names != first:
            different = sorted({*names} ^ {*first})
            raise UserError(
                f"a table has the same columns for all stores; {shortened(different)} are not in "
                "all of them: name other columns, or query the stores one by one"
            )
        yield table


def _column(values: Sequence[Any]) -> NDArray[Any]:
    text = not values or isinstance(values[0], str)
    return np.array(values, object if text else None)


def _is_index(values: NDArray[Any]) -> bool:
    return values.dtype == np.int32


def _plain(values: NDArray[Any]) -> list[Any]:
    """Python values: None for a missing index, and the shortest digits of float32."""
    if values.dtype == np.float32:
        return [float(text) for text in values.astype(str)]
    listed: list[Any] = values.tolist()
    return (
        [None if value == NOWHERE else value for value in listed] if _is_index(values) else listed
    )
