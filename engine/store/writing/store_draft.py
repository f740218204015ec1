"""A store that is being filled, group by group."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ....kernels.moments import Moments
from ...layer import Layer
from ...registry import EXTREMES, MOMENTS, SHUFFLED, VARIABLES
from ..chunking import slabs
from ..store_reader import StoreReader
from .array_writer import SlabWriter, padded, put, put_moments, write_file
from .base_draft import BaseDraft, Part
from .commits import Commit

# Variables that a scan writes beside the moments.
_CONTRASTS = tuple(name for name in VARIABLES if name not in MOMENTS)


class StoreDraft(BaseDraft[StoreReader]):
    """A store that is being filled; see :class:`.base_draft.BaseDraft`."""

    reader_type = StoreReader

    def initial_arrays(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that exist before the first stimulus is shown."""
        yield from (f"{layer.name}/{name}" for name in (*layer.dims, *MOMENTS))

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the moments of one category and fold, ``mean, m2 [*layer dims]``."""
        for variable, values in (("mean", moments.mean), ("m2", moments.m2)):
            key = f"{layer.name}/{variable}"
            if key not in self._open:
                self._open[key] = self._root[key]
            array = self._open[key]
            chunk = array.chunks[2:]
            fill = np.broadcast_to(array.dtype.type(array.fill_value), math.prod(chunk))
            # The whole file, because an earlier run may have torn it.
            write_file(
                array,
                (category, fold, *(0 for _ in chunk)),
                (padded(values[slab], slab, chunk, fill) for slab, _ in slabs(layer.shape, chunk)),
            )

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """A writer of variables beside a layer's moments."""
        group = self._root[layer.name]
        assert isinstance(group, zarr.Group)
        return SlabWriter(group, layer, self.reader.chunk_shape(layer))

    def write_contrasts(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write variables ``[*leading, unit]`` of a whole layer beside its moments."""
        writer = self.slab_writer(layer)
        for number, (_, units) in enumerate(self.reader.slabs(layer)):
            write_slab(writer, number, {name: c[..., units] for name, c in columns.items()})
        writer.finish()

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are indices of the flattened layer.
        """
        # Overwritten, because an earlier run may have torn it.
        group = self._root.create_group(f"{layer.name}/{SHUFFLED}", overwrite=True)
        put(group, "drawn_unit", units, ("drawn_unit",), "place of the unit in the flat layer")
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            put_moments(group, variable, values, dims, attributes)

    def written(self, commit: Commit) -> Iterator[Part]:
        """Moments of finished groups, nulls and contrasts."""
        reader = self.reader
        group = reader.stimulus_column("stimulus_category"), reader.stimulus_column("stimulus_fold")
        groups = list(np.ndindex(len(reader.categories), reader.folds))
        coming = self.order[commit.batches * self.provenance["batch_size"] :]
        unfinished = set(zip(*(column[coming].tolist() for column in group), strict=True))
        whole = self.layers if self.is_complete else self._named(commit.finished)
        live = self._named(commit.live)
        for layer in (*whole, *live):
            blocks = [one for one in groups if layer in whole or one not in unfinished]
            yield from ((f"{layer.name}/{name}", own) for name in MOMENTS for own in blocks)
        if reader.shuffles:
            names = [f"{SHUFFLED}/{name}" for name in ("drawn_unit", *MOMENTS)]
            yield from ((f"{layer.name}/{name}", ()) for layer in whole for name in names)
        for layer in self.layers if self.is_complete else self.layers[: commit.contrasts]:
            yield from ((f"{layer.name}/{name}", ()) for name in (*_CONTRASTS, EXTREMES))

    def written_by(self, task: str, entry: Mapping[str, Any]) -> Iterator[Part]:
        """The parts of arrays that a task of workers wrote."""
        stage, _, rest = task.partition("/")
        if stage == "contrast":
            layer = self.layers[int(rest)]
            yield from ((f"{layer.name}/{one}", ()) for one in (*_CONTRASTS, EXTREMES))
            return
        layers, groups = list(self.layers), [tuple(map(int, rest.replace("/", ".").split(".")))]
        if stage == "show":
            layers, groups = self._named(entry["layers"]), entry["finished"]
        for layer in layers:
            yield from ((f"{layer.name}/{m}", tuple(own)) for m in MOMENTS for own in groups)

    def damaged_moments(self, task: str, entry: Mapping[str, Any]) -> Iterator[str]:
        """The damage to moments that a task of workers kept for merging."""
        for key, seal in entry.get("kept", {}).items():
            (layer,) = self._named([key.rpartition("/")[0]])
            if self.tasks.kept(f"{task}/{key}", layer, seal) is None:
                yield f"{self.tasks.folder}/{task}/{key}: is not what was written"

    def _named(self, names: Collection[str]) -> list[Layer]:
        return [layer for layer in self.layers if layer.name in names]


def max_store_bytes(layers: Sequence[Layer], categories: int, folds: int, store_dtype: str) -> int:
    """Upper bound of the bytes that a scan takes on the disk, as if nothing was compressed."""
    moments = categories * folds * len(MOMENTS) * np.dtype(store_dtype).itemsize
    contrasts: int = sum(
        np.dtype(variable.dtype).itemsize
        * (categories if "category" in variable.leading else 1)
        * (folds if "fold" in variable.leading else 1)
        for name, variable in VARIABLES.items()
        if name not in MOMENTS
    )
    commits = 2 * sum(layer.state_bytes for layer in layers)
    return int(commits + (moments + contrasts) * sum(layer.units for layer in layers))


def write_slab(writer: SlabWriter, number: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a slab of some of the scan's variables, ``[*leading, unit]``."""
    for name, values in columns.items():
        variable = VARIABLES[name]
        leading = dict(zip(variable.leading, values.shape, strict=False))
        writer.write(number, name, values.astype(variable.dtype), leading, variable.attributes())
