"""Coordinates of units, such as places on a simulated cortical sheet, from a user's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, describe_failure, first_line, nearest, shortened
from ..layer import Layer
from ..registry import is_coordinate_name

# Layer -> coordinate -> values [unit].
Coordinates = Mapping[str, Mapping[str, NDArray[np.float64]]]
_KEYS = ("layer", "unit")


def read_coordinates(
    given: str | Path | Mapping[str, Any] | None, layers: Sequence[Layer]
) -> Coordinates:
    """Coordinates of the units of some of the ``layers``.

    Parameters
    ----------
    given : a ``.csv`` or ``.parquet`` file, or a mapping of columns: ``layer``, ``unit`` (the index
        in the flattened layer) and numbers, for every unit of every layer that it names

    Raises
    ------
    UserError : no such table, unknown layers, units that are missing or named twice, or values that
        are no finite numbers
    """
    if given is None:
        return {}
    said = "the coordinates" if isinstance(given, Mapping) else str(given)
    columns = dict(given) if isinstance(given, Mapping) else _file(Path(given))
    names = [name for name in columns if name not in _KEYS]
    if not set(_KEYS) <= columns.keys() or not names:
        raise UserError(
            "a table of coordinates has columns layer, unit and one or more of numbers; "
            f"{said} has {shortened(columns)}"
        )
    for name in names:
        if not is_coordinate_name(name):
            raise UserError(
                f"a coordinate has a name of letters, digits and _, and none that queries use; "
                f"{said} has {name!r}: call it x_mm, for example"
            )
    by_layer, units = _names(columns["layer"], said), _numbers(columns, "unit", said)
    numbers = {name: _numbers(columns, name, said) for name in names}
    if {len(by_layer), len(units), *map(len, numbers.values())} != {len(units)}:
        raise UserError(f"columns of coordinates are as long as each other; {said} has others")
    known = {layer.name: layer for layer in layers}
    found = {}
    for given_name in dict.fromkeys(by_layer.tolist()):
        name = str(given_name)  # that of a layer may be a number
        if name not in known:
            raise UserError(
                f"coordinates are of recorded layers; {said} has {name!r}: {nearest(name, known)}"
            )
        rows = np.flatnonzero(by_layer == given_name)
        order = rows[np.argsort(units[rows], kind="stable")]
        if not np.array_equal(units[order], np.arange(known[name].units)):
            raise UserError(
                f"coordinates are of every unit of a layer, from 0 to {known[name].units - 1:,}, "
                f"once; {said} has {len(rows):,} rows of {name}, from {units[rows].min():.15g} to "
                f"{units[rows].max():.15g}"
            )
        found[name] = {one: values[order] for one, values in numbers.items()}
    return found


def hashes_of(coordinates: Coordinates) -> dict[str, dict[str, str]]:
    """SHA-256 of the values of every coordinate, by layer, for the root of a store."""
    return {
        layer: {name: sha256(values.tobytes()).hexdigest() for name, values in own.items()}
        for layer, own in coordinates.items()
    }


def _names(given: Any, said: str) -> NDArray[Any]:
    names = np.asarray(given)
    if names.ndim != 1:
        raise UserError(f"coordinates have the name of a layer in each row; {said} has others")
    return names


def _numbers(columns: Mapping[str, Any], name: str, said: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(columns[name], np.float64)
    except (TypeError, ValueError, RuntimeError):  # of torch
        values = np.full(1, np.nan)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UserError(
            f"coordinates are finite numbers, one for each row; {said} has others in {name}"
        )
    return values


def _file(path: Path) -> dict[str, Any]:
    """The columns of a file."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"a table of coordinates is a .csv or .parquet file; got {path}")
    from pyarrow import ArrowException, csv, parquet, string

    try:
        if path.suffix == ".csv":
            names = csv.ConvertOptions(column_types={"layer": string()})  # 1.10 is not 1.1
            table = csv.read_csv(path, convert_options=names)
        else:
            table = parquet.read_table(path)
        repeated = [name for name in table.column_names if table.column_names.count(name) > 1]
    except (ArrowException, OSError, UnicodeError) as error:
        if not isinstance(error, FileNotFoundError) and describe_failure(error):
            raise
        raise UserError(f"cannot read the coordinates in {path} ({first_line(error)})") from error
    if repeated:
        raise UserError(
            f"columns of coordinates have different names; {path} has several {repeated[0]!r}"
        )
    return {
        name: column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
