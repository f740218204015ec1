"""Formats that tables are written in, batch by batch: CSV, JSON, Parquet and npz."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import UserError, explain_disk_errors, shortened
from ..files import new_file, output_path
from ..table import NOWHERE, Column, Labels, Table, in_batches, is_index
from ..values import Format, as_json

# Characters that begin a formula in spreadsheets.
_FORMULA = tuple("=+-@\t\r")
# Bytes of a table that waits in memory to be written as npz.
_IN_MEMORY = 64 * 2**20


def format_of(form: Format | None, output: Path | None, guard_formulas: bool = False) -> Format:
    """The format of an answer: as given, or by the ending of the output; else a table.

    Raises
    ------
    UserError : the ending tells no format, or another one; see :func:`refuse_form`
    """
    ending = output.suffix.removeprefix(".").lower() if output else ""
    told = next((one for one in _WRITERS if one == ending), None)
    if form is None and output and told is None:
        raise UserError(
            f"the ending of a file tells its format: {', '.join(f'.{one}' for one in _WRITERS)}; "
            f"got {output}: end it so, or choose `form`"
        )
    if told and form not in (None, "table", told):
        raise UserError(
            f"a file has the format that its ending tells; got {form} for {output}: leave out "
            f"`form`, or end the file in .{form}"
        )
    own = form or told or "table"
    refuse_form(own, output, guard_formulas)
    return own


def refuse_form(form: Format, output: Path | None, guard_formulas: bool = False) -> None:
    """Check format and output before any table is computed.

    Raises
    ------
    UserError : the format needs an output, or takes none; the output cannot be written to; formulas
        are guarded in a format other than CSV
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


def write(
    tables: Iterable[Table],
    form: Format,
    output: Path | None,
    stream: IO[str],
    guard_formulas: bool = False,
) -> int:
    """Write tables of the same columns one after the other; return the number of rows.

    A batch of them is in memory at a time. ``csv`` and ``json`` go to ``stream`` unless there is an
    ``output``; other formats need one. ``guard_formulas`` prefixes ``'`` in CSV to text that a
    spreadsheet would run as a formula, such as the name of an untrusted category: text that begins
    with =, +, -, @, a tab or CR.

    Raises
    ------
    UserError : see :func:`refuse_form`; the output cannot be written to
    """
    refuse_form(form, output, guard_formulas)
    tables = iter(tables)
    # Compute the first table before the output is opened: an invalid query raises here.
    batches = in_batches(_same_columns(chain(list(islice(tables, 1)), tables)))
    writer = partial(_write_csv, guarded=True) if guard_formulas else _WRITERS[form]
    if output is None:
        return writer(batches, stream)
    with new_file(output, "a table", text=form == "json") as file, explain_disk_errors(output):
        return writer(batches, file)


def _write_csv(tables: Iterable[Table], file: IO[Any], guarded: bool = False) -> int:
    """Write CSV of RFC 4180, with lines that end in LF.

    Numbers are in their shortest form that reads as the same value; a missing one (NaN) is empty,
    as R reads no "nan". Texts are quoted if one of a batch has to be.
    """
    import pyarrow
    from pyarrow import compute
    from pyarrow import csv as arrow_csv

    def put(content: Any) -> None:
        file.write(str(content, "utf-8") if isinstance(file, io.TextIOBase) else content)

    shown = _guarded if guarded else _encodable
    written, head = 0, True
    for table in tables:
        if head:
            line = io.StringIO()
            csv.writer(line, lineterminator="\r\n").writerow(map(shown, table.stored))
            put(line.getvalue().removesuffix("\r\n").encode() + b"\n")
            head = False
        columns = [_as_arrow(_as_texts(own), shown, True) for own in table.stored.values()]
        texts = [one.dictionary for one in columns if pyarrow.types.is_dictionary(one.type)]
        special = (compute.any(compute.match_substring_regex(one, '[",\r\n]')) for one in texts)
        options = arrow_csv.WriteOptions(
            include_header=False,
            quoting_style="needed" if any(one.as_py() for one in special) else "none",
        )
        buffer = pyarrow.BufferOutputStream()
        names = list(map(str, range(len(columns))))
        arrow_csv.write_csv(pyarrow.table(columns, names), buffer, options)
        put(buffer.getvalue())
        written += len(table)
    return written


def _as_texts(values: Column) -> Column:
    """A column with Python's words for true and false."""
    if isinstance(values, np.ndarray) and values.dtype == np.bool_:
        return Labels(values.astype(np.int32), ("False", "True"))
    return values


def _encodable(text: str) -> str:
    """A text that UTF-8 can hold: a path may have bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _guarded(text: str) -> str:
    """A text that no spreadsheet reads as a formula."""
    return f"'{_encodable(text)}" if text.startswith(_FORMULA) else _encodable(text)


def _as_arrow(
    values: Column, shown: Callable[[str], str] = _encodable, nan_is_null: bool = False
) -> Any:
    """A column as Arrow has it: texts as a dictionary, a missing text or index as null."""
    import pyarrow

    if isinstance(values, np.ndarray) and values.dtype == object:
        values = _labelled(values)
    if isinstance(values, Labels):
        texts = pyarrow.array(list(map(shown, values.texts)), pyarrow.string())
        index = pyarrow.array(values.index, mask=values.index == NOWHERE)
        return pyarrow.DictionaryArray.from_arrays(index, texts)
    mask = values == NOWHERE if is_index(values) else None
    return pyarrow.array(values, mask=mask, from_pandas=nan_is_null)


def _labelled(texts: NDArray[Any]) -> Labels:
    places: dict[str, int] = {}
    index = [NOWHERE if one is None else places.setdefault(one, len(places)) for one in texts]
    return Labels(np.array(index, np.int32), tuple(places))


def _write_json(tables: Iterable[Table], file: IO[str]) -> int:
    """Write an array of records, one per line."""
    written = 0
    file.write("[")
    for table in tables:
        names = list(table.stored)
        for row in table.rows():
            record = as_json(dict(zip(names, row, strict=True)))
            file.write(f",\n {record}" if written else f"\n {record}")
            written += 1
    file.write("\n]\n")
    return written


def _write_parquet(tables: Iterable[Table], file: IO[bytes]) -> int:
    """Write Parquet, a row group per batch; texts are read back as such."""
    import pyarrow
    from pyarrow import parquet

    written, writer = 0, None
    try:
        for table in tables:
            part = pyarrow.table({name: _as_arrow(own) for name, own in table.stored.items()})
            # The schema of Arrow would have them read as dictionaries.
            writer = writer or parquet.ParquetWriter(file, part.schema, store_schema=False)
            writer.write_table(part)
            written += len(table)
    finally:
        if writer:
            writer.close()
    return written


class _Piece(NamedTuple):
    """Values of a column in a temporary file; of texts, their places among the column's."""

    start: int
    number: int
    dtype: Any


def _write_npz(tables: Iterable[Table], file: IO[bytes]) -> int:
    """Write npz, whose columns lie one after the other: large tables wait in a temporary file."""
    written = 0
    pieces: dict[str, list[_Piece]] = {}
    places: dict[str, dict[str, int]] = {}
    where = str(Path(file.name).parent)
    with SpooledTemporaryFile(_IN_MEMORY, mode="w+b", dir=where) as spool:
        for table in tables:
            for name, values in table.stored.items():
                if isinstance(values, Labels) or values.dtype == object:
                    own = values if isinstance(values, Labels) else _labelled(values)
                    texts = (*own.texts, "")  # the last is that of missing texts, whose index is -1
                    known, moved = places.setdefault(name, {}), np.zeros(len(texts), np.int32)
                    for used in np.unique(own.index):
                        moved[used] = known.setdefault(texts[used], len(known))
                    values = moved[own.index]
                pieces.setdefault(name, []).append(_Piece(spool.tell(), len(values), values.dtype))
                spool.write(np.ascontiguousarray(values).data)
            written += len(table)
        with ZipFile(file, "w", ZIP_DEFLATED) as whole:
            for name, parts in pieces.items():
                with whole.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_pieces(member, spool, parts, places.get(name))
    return written


def _write_pieces(
    member: IO[bytes], spool: IO[bytes], pieces: Sequence[_Piece], texts: Iterable[str] | None
) -> None:
    """Write a column in the format of NumPy."""
    dtype, known = np.result_type(*(piece.dtype for piece in pieces)), None
    if texts is not None:
        known = np.array(list(texts), str)  # an array of objects would be pickled
        dtype = known.dtype
    shape = (sum(piece.number for piece in pieces),)
    head = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, head)
    for piece in pieces:
        spool.seek(piece.start)
        values = np.frombuffer(spool.read(piece.number * piece.dtype.itemsize), piece.dtype)
        member.write((values.astype(dtype) if known is None else known[values]).tobytes())


_WRITERS: Mapping[Format, Callable[[Iterable[Table], IO[Any]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
    "npz": _write_npz,
}


def _same_columns(tables: Iterable[Table]) -> Iterator[Table]:
    """Yield tables, and raise if their columns differ."""
    first: list[str] | None = None
    for table in tables:
        names = list(table.stored)
        first = names if first is None else first
        if names != first:
            different = sorted({*names} ^ {*first})
            raise UserError(
                f"a table has the same columns for all stores; {shortened(different)} are not in "
                "all of them: name other columns, or query the stores one by one"
            )
        yield table
