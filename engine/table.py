"""Tables of results: named columns of text or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

# The index along a dimension that a layer lacks, or of a text that is missing.
NOWHERE = -1
# Bytes of the tables that are joined before they are written.
_BATCH = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Labels:
    """A column of texts that repeat: the texts, and the index of each row's; -1 if missing."""

    index: NDArray[np.int32]
    texts: tuple[str, ...]

    def array(self) -> NDArray[Any]:
        """The text of every row; None where it is missing."""
        return np.array([*self.texts, None], object)[self.index]


Column = NDArray[Any] | Labels


class Table:
    """Columns of equal length, in order: text, or numbers as numpy arrays.

    ``table[name]`` is a column, ``len(table)`` the number of rows.

    Attributes
    ----------
    columns : dict of str to array
        The columns by name.
    stored : dict of str to array or Labels
        The columns by name; texts that repeat are stored once.
    nbytes : int
        Bytes of the columns; a text counts as a pointer.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | Column]) -> None:
        self.stored: dict[str, Column] = {
            name: values if isinstance(values, np.ndarray | Labels) else _column(values)
            for name, values in columns.items()
        }

    @classmethod
    def of(cls, rows: Sequence[Any]) -> Table:
        """Dataclass instances as a table: a column per field that is a text or a number."""
        columns: dict[str, Any] = {}
        for field in fields(rows[0]) if rows else ():
            values = [getattr(row, field.name) for row in rows]
            known = [value for value in values if value is not None]
            if all(isinstance(value, str) for value in known) and known:
                columns[field.name] = np.array(values, object)
            elif all(isinstance(value, bool | int | float) for value in known):
                whole = len(known) == len(values)
                columns[field.name] = np.array(values, None if whole else np.float64)
        return cls(columns)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name."""
        return {name: array_of(values) for name, values in self.stored.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the columns; a text counts as a pointer."""
        return sum(_numbers(values).nbytes for values in self.stored.values())

    def __len__(self) -> int:
        return next((len(_numbers(values)) for values in self.stored.values()), 0)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return array_of(self.stored[name])

    def __repr__(self) -> str:
        return repr(self.frame())

    def _repr_html_(self) -> str:
        return str(self.frame()._repr_html_())  # pandas escapes names

    def take(self, rows: Any) -> Table:
        """Some of the rows."""
        return Table(
            {
                name: Labels(values.index[rows], values.texts)
                if isinstance(values, Labels)
                else values[rows]
                for name, values in self.stored.items()
            }
        )

    def labelled(self, name: str, text: str) -> Table:
        """The table behind a first column of one text."""
        return Table({name: Labels(np.zeros(len(self), np.int32), (text,)), **self.stored})

    def without(self, *names: str) -> Table:
        """The table without some columns."""
        return Table({name: own for name, own in self.stored.items() if name not in names})

    def arranged(self, columns: Mapping[str, type]) -> Table:
        """These ``columns``, in order: name -> ``str``, ``int`` (an index) or ``float``.

        One that the table lacks has missing values.

        Raises
        ------
        KeyError : the table has a column that is none of these
        """
        if others := self.stored.keys() - columns.keys():
            raise KeyError(f"columns that would be lost: {', '.join(sorted(others))}")
        return Table(
            {
                name: self.stored[name] if name in self.stored else _missing(kind, len(self))
                for name, kind in columns.items()
            }
        )

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Rows of plain Python values.

        Yields
        ------
        tuple
            The values of a row; None where a value is missing.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel == 0", "layer4.1")
        >>> list(query.counts("layer").rows())
        [('layer4.1', 4, 2048, 0.001953125)]
        """
        yield from zip(*map(_plain, self.columns.values()), strict=True)

    def frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            A column per column; missing indices are NA.

        Examples
        --------
        >>> query = fusiform.open_store("r18.zarr").query("faces: channel == 0", "layer4.1")
        >>> query.counts("layer").frame()
              layer  matching  units     share
        0  layer4.1         4   2048  0.001953
        """
        import pandas

        return pandas.DataFrame(
            {
                name: pandas.array(_plain(values), dtype="Int32") if is_index(values) else values
                for name, values in self.columns.items()
            }
        )


def of_rows(rows: Sequence[Any]) -> Table:
    """Dataclass instances as a table: a column per field that is a text or a number, or None."""
    columns: dict[str, Any] = {}
    for field in fields(rows[0]) if rows else ():
        kind, *may_be_none = str(field.type).split(" | ")
        if kind in ("str", "bool", "int", "float"):
            dtype = object if kind == "str" else np.float64 if may_be_none else kind
            columns[field.name] = np.array([getattr(row, field.name) for row in rows], dtype)
    return Table(columns)


def joined(tables: Sequence[Table]) -> Table:
    """Concatenate tables; columns that only some have are filled with missing values."""
    names = list(dict.fromkeys(name for table in tables for name in table.stored))
    return Table({name: _joined(name, tables) for name in names})


def in_batches(tables: Iterable[Table]) -> Iterator[Table]:
    """Tables of the same columns, joined until they are some MiB large; the first may be empty."""
    held: list[Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size >= _BATCH:
            yield joined(held)
            held, size = [], 0
    if held:
        yield joined(held)


def array_of(values: Column) -> NDArray[Any]:
    """A column as an array."""
    return values.array() if isinstance(values, Labels) else values


def is_index(values: Column) -> bool:
    """Whether a column is one of indices, which may be missing."""
    return isinstance(values, np.ndarray) and values.dtype == np.int32


def _missing(kind: type, rows: int) -> Column:
    """A column without values."""
    nothing = np.full(rows, NOWHERE, np.int32)
    if kind is str:
        return Labels(nothing, ())
    return nothing if kind is int else np.full(rows, np.nan)


def _joined(name: str, tables: Sequence[Table]) -> Column:
    own = [table.stored[name] for table in tables if name in table.stored]
    labels = [part for part in own if isinstance(part, Labels)]
    if len(labels) == len(tables) and all(part.texts is labels[0].texts for part in labels):
        return Labels(np.concatenate([part.index for part in labels]), labels[0].texts)
    known = array_of(own[0])
    nothing = {"i": NOWHERE, "O": None}.get(known.dtype.kind, np.nan)
    missing = np.array([nothing], known.dtype)
    return np.concatenate(
        [
            array_of(table.stored[name])
            if name in table.stored
            else np.broadcast_to(missing, len(table))
            for table in tables
        ]
    )


def _numbers(values: Column) -> NDArray[Any]:
    return values.index if isinstance(values, Labels) else values


def _column(values: Sequence[Any]) -> NDArray[Any]:
    text = not values or isinstance(values[0], str)
    return np.array(values, object if text else None)


def _plain(values: NDArray[Any]) -> list[Any]:
    """Python values: None for a missing index, and the shortest digits of float32."""
    if values.dtype == np.float32:
        return [float(text) for text in values.astype(str)]
    listed: list[Any] = values.tolist()
    return [None if value == NOWHERE else value for value in listed] if is_index(values) else listed
