"""A recording: the responses of chosen units to every stimulus. Never imports torch.

A group per layer with ``unit [unit]``, ``chosen [choice, unit]`` and ``response [stimulus, unit]``,
or of a layer that was projected ``response [stimulus, projected]`` and ``mean [stimulus]``; the
root holds what that of a store does. The schema: ``docs/store.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..layer import Layer
from .cuts import even
from .kinds import RECORDING
from .places import name_of
from .root import Root
from .schema import Expected, RootSchema, is_whole, require, root_of

# Values of a layer that are held until their file is full, and the fewest rows of a file.
_FILE_VALUES, _LEAST_ROWS = 2**21, 32
# Values of a chunk; and of a chunk's columns over all stimuli, which are read together.
_CHUNK_VALUES, _COLUMN_VALUES, _LEAST_COLUMNS = 2**18, 2**22, 16
# More than that nobody records.
_MOST_CHOICES, _LONGEST_CHOICE, _MOST_SEED = 1_000, 1_000, 2**63 - 1


# Of every layer, by its name, places in the flat layer.
Units = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Recordees:
    """How many ``units`` of a layer are recorded, in how many ``columns``: fewer if projected."""

    units: int
    columns: int

    @property
    def projected(self) -> bool:
        """Whether columns are a projection of the units."""
        return self.columns < self.units


@dataclass(frozen=True)
class RecordingSchema(RootSchema):
    """What the root of a recording says of its contents; see :func:`recording_schema_of`."""

    recorded: Mapping[str, Recordees]
    choices: tuple[str, ...]
    seed: int

    def of_layer(self, layer: Layer) -> dict[str, Expected]:
        """Which units of a layer were chosen and by what, and their responses."""
        own = self.recorded[layer.name]
        within = f"{layer.name}/"
        columns = "projected" if own.projected else "unit"
        found = {
            f"{within}unit": Expected(("unit",), (own.units,), "int64"),
            f"{within}chosen": Expected(("choice", "unit"), (len(self.choices), own.units), "bool"),
            f"{within}response": Expected(
                ("stimulus", columns), (self.stimuli, own.columns), "float32", split=1
            ),
        }
        if own.projected:
            found[f"{within}mean"] = Expected(("stimulus",), (self.stimuli,), "float64")
        return found


def recording_schema_of(attributes: Mapping[str, Any]) -> RecordingSchema:
    """What the attributes of a root say a recording holds.

    Raises
    ------
    UserError : they are not what fusiform record writes
    """
    root = root_of(attributes)
    projection = attributes.get("projection")
    dim, seed = None, 0
    if projection is not None:
        dim, seed = _projection(projection)
    choices: Any = attributes.get("choices")
    require(
        isinstance(choices, list)
        and 1 <= len(choices) <= _MOST_CHOICES
        and all(isinstance(one, str) and len(one) <= _LONGEST_CHOICE for one in choices),
        "choices",
        "names of choices of units",
        choices,
    )
    records: Any = attributes.get("recorded")
    require(
        isinstance(records, dict) and records.keys() == {layer.name for layer in root.layers},
        "recorded",
        "a record for every layer",
        records,
    )
    recorded = {}
    for layer in root.layers:
        record = records[layer.name]
        require(isinstance(record, dict), f"recorded of {layer.name}", "a record", record)
        units = record.get("units")
        rule = f"a whole number from 1 to {layer.units:,}"
        require(is_whole(units, 1, layer.units), f"recorded units of {layer.name}", rule, units)
        recorded[layer.name] = Recordees(units, columns_of(units, dim))
    return RecordingSchema(
        root.categories, root.folds, root.layers, root.stimuli, recorded, tuple(choices), seed
    )


def columns_of(units: int, dim: int | None) -> int:
    """In how many columns so many units are recorded, where more than ``dim`` are projected."""
    return units if dim is None else min(units, dim)


def _projection(record: Any) -> tuple[int, int]:
    require(isinstance(record, dict), "projection", "dim and seed", record)
    dim, seed = record.get("dim"), record.get("seed")
    require(is_whole(dim, 1, 2**31 - 1), "dim of the projection", "a whole number from 1", dim)
    require(is_whole(seed, 0, _MOST_SEED), "seed of the projection", "a whole number", seed)
    return dim, seed


def recorded_as(units: Units) -> dict[str, Any]:
    """The units of every layer as they stand among the attributes: their number, and their hash."""
    return {
        name: {
            "units": len(own),
            "sha256": hashlib.sha256(own.astype("<i8").tobytes()).hexdigest(),
        }
        for name, own in units.items()
    }


def cut_of_rows(stimuli: int, columns: int) -> tuple[int, int]:
    """How a layer's responses are cut: rows of a file, which are those of a chunk, and its columns.

    Files are written one after the other as stimuli are shown. A chunk's columns are read over all
    stimuli: with more of these there are fewer of them.
    """
    rows = even(max(stimuli, 1), max(_LEAST_ROWS, _FILE_VALUES // columns))
    most = max(_LEAST_COLUMNS, _COLUMN_VALUES // max(stimuli, 1))
    return rows, even(columns, max(1, min(most, _CHUNK_VALUES // rows)))


class Recorded(Root):
    """A recording as it lies in its store; numbers are read when they are asked for."""

    kind = RECORDING
    schema: RecordingSchema
    _schema_of = staticmethod(recording_schema_of)

    def __repr__(self) -> str:
        units = sum(own.units for own in self.schema.recorded.values())
        return (
            f"<fusiform.{type(self).__name__} {name_of(self.path)}: {self.provenance['model']} "
            f"({self.provenance['weights']}), {units:,} units of {len(self.layers)} layers, "
            f"{self.schema.stimuli:,} stimuli>"
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """What units were chosen by: contrasts as written, ``random``, ``mask``, ``all``."""
        return self.schema.choices

    def recordees(self, layer: str) -> Recordees:
        """How many units of a layer are recorded, and in how many columns."""
        return self.schema.recorded[self.layer(layer).name]

    def units(self, layer: str) -> NDArray[np.int64]:
        """The recorded units of a layer ``[unit]``, as places in the flat layer, in its order."""
        own = self.layer(layer)
        key = f"{own.name}/unit"
        units: NDArray[np.int64] = self._part(key)
        in_order = (np.diff(units) > 0).all()
        if not in_order or units[0] < 0 or units[-1] >= own.units:
            raise self._unreadable(key, "they are no places in their layer, in order")
        return units

    def chosen(self, layer: str) -> NDArray[np.bool_]:
        """Which units each of ``choices`` has chosen ``[choice, unit]``."""
        return self._part(f"{self.layer(layer).name}/chosen")

    def means(self, layer: str) -> NDArray[np.float64]:
        """Of a projected layer, every stimulus's mean response over the units ``[stimulus]``."""
        return self._part(f"{self.layer(layer).name}/mean")

    def part(
        self, layer: str, columns: slice = slice(None), rows: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Some columns of a layer's responses ``[stimulus, column]``, of all stimuli or some rows.

        NaN where a stimulus was not shown.
        """
        return self._part(f"{self.layer(layer).name}/response", (rows, columns))

    def blocks(self, layer: str) -> Iterator[slice]:
        """The columns of a layer, cut where its chunks are: what is best read together."""
        own = self.layer(layer).name
        width = self._opened(f"{own}/response").cut.chunk[1]
        columns = self.schema.recorded[own].columns
        for start in range(0, columns, width):
            yield slice(start, min(start + width, columns))

    def require_units(self, layer: str) -> None:
        """Refuse a layer that was projected where single units are asked for.

        Raises
        ------
        UserError : it was
        """
        own = self.recordees(layer)
        if own.projected:
            raise UserError(
                f"single units are asked of what was recorded of them; of {layer} there is a "
                f"projection of {own.units:,} units to {own.columns:,} dimensions: record fewer "
                "units, or without --project"
            )
