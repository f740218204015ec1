"""The arrays of a store or recording: dimensions, shapes and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..layer import Layer
from ..registry import (
    EXTREMES,
    MEASURE_TYPES,
    MOMENTS,
    PLACED,
    RECORDING_VERSION,
    SCHEMA_VERSION,
    SHUFFLED,
    STIMULUS_COLUMNS,
    VARIABLES,
)


@dataclass(frozen=True)
class Kind:
    """A kind of zarr store that fusiform writes.

    Attributes
    ----------
    schema, version : how its root identifies itself
    noun : its name in messages
    command : the command that makes it
    work : the process that fills it, for messages
    under_way : its status while it is filled
    """

    schema: str
    version: int
    noun: str
    command: str
    work: str
    under_way: str


STORE = Kind("fusiform", SCHEMA_VERSION, "store", "scan", "scan", "scanning")
RECORDING = Kind(
    "fusiform recording", RECORDING_VERSION, "recording", "record", "recording", "recording"
)


@dataclass(frozen=True)
class Expected:
    """The dimensions, shape and type that an array must have.

    Attributes
    ----------
    dims : names of the dimensions
    shape : sizes; None stands for the number of chunks of a layer
    dtype : a type, ``int`` for any width of integer, or ``str``
    split : number of leading dimensions along which the array may be split into files
    slabs : whether files may also split the other dimensions, in order
    """

    dims: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str
    split: int = 0
    slabs: bool = False

    def __str__(self) -> str:
        return describe_array(self.dtype, self.dims, self.shape)


Arrays = dict[str, Expected]


@dataclass(frozen=True)
class RootSchema:
    """Contents of a store or recording, as its root declares them."""

    categories: tuple[str, ...]
    folds: int
    layers: tuple[Layer, ...]
    stimuli: int
    _layers: dict[str, Layer] = field(init=False, repr=False, compare=False)
    _known: dict[str, Arrays] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_layers", {layer.name: layer for layer in self.layers})
        object.__setattr__(self, "_known", {})

    def expected(self, key: str) -> Expected | None:
        """The expected array at ``key``; None if the schema has no such array."""
        parts = key.split("/")
        for length in range(len(parts)):
            name = "/".join(parts[:length])
            if name not in self._known and (not length or name in self._layers):
                arrays = self.of_layer(self._layers[name]) if length else self.of_root()
                self._known[name] = arrays
            if key in self._known.get(name, {}):
                return self._known[name][key]
        return None

    def of_layer(self, layer: Layer) -> Arrays:
        """The arrays of a layer, by key."""
        raise NotImplementedError

    def of_root(self) -> Arrays:
        """The coordinates, the counts, and the stimulus table."""
        sizes = self._leading
        columns = {
            name: "int" if name in ("stimulus_category", "stimulus_fold") else "str"
            for name in STIMULUS_COLUMNS
        }
        return {
            "category": Expected(("category",), (sizes["category"],), "str"),
            "fold": Expected(("fold",), (sizes["fold"],), "int64"),
            "count": Expected(tuple(sizes), tuple(sizes.values()), "int64"),
            **{
                name: Expected(("stimulus",), (self.stimuli,), dtype)
                for name, dtype in columns.items()
            },
        }

    @property
    def _leading(self) -> dict[str, int]:
        return {"category": len(self.categories), "fold": self.folds}


@dataclass(frozen=True)
class StoreSchema(RootSchema):
    """Contents of a store; see :func:`.attributes.store_schema`."""

    store_dtype: str
    shuffles: int
    null_units: int
    saved: Mapping[str, Any]
    coordinates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_layer(self, layer: Layer) -> Arrays:
        """A layer's moments, contrasts, null, saved contrasts and coordinates."""
        scanned = {name: (one.leading, self.dtype(name)) for name, one in VARIABLES.items()}
        found = self._variables(layer, "", scanned)
        if self.shuffles:
            drawn = min(self.null_units, layer.units)
            within = f"{layer.name}/{SHUFFLED}"
            found[f"{within}/drawn_unit"] = Expected(("drawn_unit",), (drawn,), "int64")
            sizes = {**self._leading, "shuffle": self.shuffles, "drawn_unit": drawn}
            for name in MOMENTS:
                found[f"{within}/{name}"] = Expected(
                    tuple(sizes), tuple(sizes.values()), "float64", split=2
                )
        for name in self.coordinates.get(layer.name, ()):
            found[f"{layer.name}/{PLACED}/{name}"] = Expected(layer.dims, layer.shape, "float64")
        for name in self.saved:
            found |= self._variables(layer, name, self.saved_variables(name), self.group_of(name))
        return found

    def group_of(self, name: str) -> str:
        """The group, inside every layer, of a saved contrast: usually its name."""
        return str(self.saved[name].get("group", name))

    def compared(self, saved: str = "") -> list[str]:
        """The variables with stored extremes, of the scan or of a ``saved`` contrast."""
        if saved:
            typed = {name: dtype for name, (_, dtype) in self.saved_variables(saved).items()}
        else:
            typed = {name: self.dtype(name) for name in VARIABLES}
        return [n for n, dtype in typed.items() if dtype == "float32" and n not in MOMENTS]

    def saved_variables(self, name: str) -> dict[str, tuple[tuple[str, ...], str]]:
        """Leading dimensions and type of every variable of a saved contrast."""
        record = self.saved[name]
        category = ("category",) if record["each_category"] else ()
        measures = {m: (category, MEASURE_TYPES.get(m, "float32")) for m in record["measures"]}
        masks = {"selective": (category, "bool"), "selective_fold": ((*category, "fold"), "bool")}
        return {**measures, **masks}

    def dtype(self, name: str) -> str:
        """The type of a variable that a scan writes."""
        return self.store_dtype if name in MOMENTS else VARIABLES[name].dtype

    def _variables(
        self,
        layer: Layer,
        within: str,
        variables: Mapping[str, tuple[tuple[str, ...], str]],
        group: str = "",
    ) -> Arrays:
        folder = f"{layer.name}/{group}" if group else layer.name
        sizes = self._leading
        found = {
            f"{folder}/{name}": Expected(
                (*dims, *layer.dims),
                (*(sizes[dim] for dim in dims), *layer.shape),
                dtype,
                split=len(dims),
                slabs=name not in MOMENTS,
            )
            for name, (dims, dtype) in variables.items()
        }
        compared = self.compared(within)
        if compared:
            first = f"{within}_variable" if within else "variable"
            leading = {dim: sizes[dim] for dim in variables[compared[0]][0]}
            found[f"{folder}/{EXTREMES}"] = Expected(
                (first, "bound", *leading, "chunk"),
                (len(compared), 2, *leading.values(), None),
                "float32",
            )
        return found


@dataclass(frozen=True)
class RecordedLayer:
    """Recorded ``units`` of a layer, stored in ``columns``: fewer if they were projected."""

    units: int
    columns: int

    @property
    def projected(self) -> bool:
        """Whether columns are a projection of the units."""
        return self.columns < self.units


@dataclass(frozen=True)
class RecordingSchema(RootSchema):
    """Contents of a recording; see :func:`.attributes.recording_schema`."""

    recorded: Mapping[str, RecordedLayer]
    choices: tuple[str, ...]
    seed: int

    def of_layer(self, layer: Layer) -> Arrays:
        """The recorded units of a layer, the choices they came from, and their responses."""
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


def describe_array(dtype: str, dims: tuple[Any, ...], shape: tuple[Any, ...]) -> str:
    """An array in a few words."""
    sizes = ", ".join(
        f"{dim} {'chunks' if size is None else size}"
        for dim, size in zip(dims, shape, strict=False)
    )
    return f"{dtype} [{sizes}]"
