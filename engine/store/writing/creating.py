"""Creating stores and recordings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from numpy.typing import NDArray

from ...layer import Layer
from ...registry import MOMENTS, PLACED, STIMULUS_COLUMNS, VARIABLES
from ...urls import strip_credentials
from ...values import as_record
from ...waiting import groups_held
from ..chunking import Grid, chunk_shape, moments_grid, response_shape
from ..identity import fingerprint
from ..location import Location, location_of, zarr_store
from ..recording_reader import Units
from ..schema import RECORDING, STORE, Kind
from .array_writer import create_array, create_group, put, put_column, put_count
from .base_draft import BaseDraft
from .recording_draft import RecordingDraft
from .store_draft import StoreDraft

# Packages that numbers can depend on.
_PACKAGES = (
    *("fusiform", "torch", "torchvision", "open_clip_torch", "timm"),
    *("numpy", "numba", "scipy", "zarr", "pillow"),
)


@dataclass(frozen=True)
class Blueprint:
    """The contents of a new store or recording, known before the first stimulus is shown.

    Attributes
    ----------
    layers, categories : of the scan
    counts : number of stimuli ``[category, fold]``
    stimuli : the stimulus table, a column ``[stimulus]`` for each of ``registry.STIMULUS_COLUMNS``
    provenance : attributes of the root, plain JSON values
    """

    kind: ClassVar[Kind]
    draft_type: ClassVar[type[BaseDraft[Any]]]

    layers: Sequence[Layer]
    categories: Sequence[str]
    counts: NDArray[np.int64]
    stimuli: Mapping[str, Sequence[Any]]
    provenance: Mapping[str, Any]

    def create(self, output: Path | str) -> BaseDraft[Any]:
        """Create it, without results, in a new or empty folder or at a URL; give its draft."""
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        """The attributes of the root."""
        attributes: dict[str, Any] = {
            "schema": self.kind.schema,
            "schema_version": self.kind.version,
            "status": self.kind.under_way,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            **({"store_dtype": "float64"} if self.kind is STORE else {}),
            **strip_credentials(dict(self.provenance)),
            "versions": {
                **{name: version(name) for name in _PACKAGES},
                **self.provenance.get("versions", {}),
            },
            "categories": list(self.categories),
            "folds": int(self.counts.shape[1]),
            "layers": [as_record(layer) for layer in self.layers],
            "n_stimuli": len(self.stimuli["stimulus_path"]),
        }
        attributes["fingerprint"] = fingerprint(attributes, self.stimuli)
        as_read_back: dict[str, Any] = json.loads(json.dumps(attributes))
        return as_read_back

    def _create_root(self, location: Location) -> zarr.Group:
        """Create the root with its coordinates, counts and stimulus table."""
        store = zarr_store(location, read_only=False)
        root = zarr.create_group(store, zarr_format=3, attributes=self.attributes())
        names = np.array(self.categories, dtype=object)
        put(store, "category", names, ("category",), "stimulus category")
        put(store, "fold", np.arange(self.counts.shape[1]), ("fold",), "part of the stimuli")
        put_count(store, self.counts)
        for column in STIMULUS_COLUMNS:
            put_column(store, column, self.stimuli[column])
        return root


@dataclass(frozen=True)
class StoreBlueprint(Blueprint):
    """The contents of a new store; see :class:`Blueprint`.

    Attributes
    ----------
    coordinates : layer -> coordinate of its units -> values, a number for each
    """

    kind: ClassVar[Kind] = STORE
    draft_type: ClassVar[type[BaseDraft[Any]]] = StoreDraft

    coordinates: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)

    def create(self, output: Path | str) -> StoreDraft:
        """Create an empty store in a new or empty folder, or at a URL; give its draft."""
        location = location_of(output)
        root = self._create_root(location)
        store, counts = root.store, self.counts.shape
        dtype = np.dtype(str(root.attrs["store_dtype"]))
        held = groups_held(self.layers, math.prod(counts))
        for layer in self.layers:
            create_group(store, layer.name)
            slab = chunk_shape(layer, math.prod(counts))
            grid = moments_grid(layer, counts, slab, held[layer.name], dtype.itemsize)
            for name in MOMENTS:
                dims = (*VARIABLES[name].leading, *layer.dims)
                attributes = VARIABLES[name].attributes()
                create_array(store, f"{layer.name}/{name}", grid, dtype.name, dims, attributes)
            own = self.coordinates.get(layer.name, {})
            if own:
                create_group(store, f"{layer.name}/{PLACED}")
            for name, values in own.items():
                key = f"{layer.name}/{PLACED}/{name}"
                put(store, key, values.reshape(layer.shape), layer.dims, "coordinate of the unit")
        return StoreDraft(location, root)


@dataclass(frozen=True)
class RecordingBlueprint(Blueprint):
    """The contents of a new recording; see :class:`Blueprint`.

    Attributes
    ----------
    units : layer -> indices of the units to record
    chosen : layer -> the units that each choice chose ``[choice, unit]``
    """

    kind: ClassVar[Kind] = RECORDING
    draft_type: ClassVar[type[BaseDraft[Any]]] = RecordingDraft

    units: Units
    chosen: Mapping[str, NDArray[np.bool_]]

    def create(self, output: Path | str) -> RecordingDraft:
        """Create an empty recording in a new or empty folder, or at a URL; give its draft."""
        location = location_of(output)
        root = self._create_root(location)
        draft = RecordingDraft(location, root)
        schema = draft.reader.schema
        store = root.store
        for layer in self.layers:
            key, own = layer.name, schema.recorded[layer.name]
            create_group(store, key)
            units, chosen = self.units[key], self.chosen[key]
            put(store, f"{key}/unit", units, ("unit",), "place of the unit in the flat layer")
            put(store, f"{key}/chosen", chosen, ("choice", "unit"), "what chose the unit")
            shape = schema.stimuli, own.columns
            rows, width = response_shape(*shape)
            file = rows, -(-own.columns // width) * width
            grid = Grid(shape, file, (rows, width), 4, compressed=False, sharded=True)
            dims = "stimulus", "projected" if own.projected else "unit"
            attributes = _PROJECTED if own.projected else _SINGLE_UNITS
            create_array(store, f"{key}/response", grid, "float32", dims, attributes)
        return draft


_SINGLE_UNITS: dict[str, Any] = {
    "long_name": "response of the unit to the stimulus",
    "units": "1",
}
_PROJECTED: dict[str, Any] = {
    "long_name": "random projection of the responses less their mean over the units",
    "units": "1",
    "formula": "sum over units of (x - mean) r / sqrt(columns), r = 1 or -1 (Achlioptas 2003)",
}


def create_store(output: Path | str, **contents: Any) -> StoreDraft:
    """Create an empty store; ``contents`` are the fields of a :class:`StoreBlueprint`."""
    return StoreBlueprint(**contents).create(output)
