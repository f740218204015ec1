"""A store that is being filled, group by group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ....kernels.moments import Moments
from ...layer import Layer
from ...registry import EXTREMES, MOMENTS, SHUFFLED, VARIABLES
from ...waiting import waiting_bytes
from ..chunking import Grid
from ..location import Location
from ..store_reader import StoreReader
from .array_writer import SlabWriter, create_array, create_group, put, write_file
from .base_draft import BaseDraft, Part
from .commits import Bytes, Commit
from .moments_writer import MomentsWriter

# Variables that a scan writes beside the moments.
_CONTRASTS = tuple(name for name in VARIABLES if name not in MOMENTS)


class StoreDraft(BaseDraft[StoreReader]):
    """A store that is being filled; see :class:`.base_draft.BaseDraft`."""

    reader_type = StoreReader

    def __init__(self, path: Location, root: zarr.Group) -> None:
        super().__init__(path, root)
        self.moments = MomentsWriter(self._store, self.reader)

    def initial_arrays(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that exist before the first stimulus is shown."""
        yield from (f"{layer.name}/{name}" for name in MOMENTS)

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the moments of one category and fold, ``mean, m2 [*layer dims]``."""
        group = category * self.reader.folds + fold
        self.write_groups([layer], group, *(part.reshape(1, -1) for part in moments[1:]))

    def write_groups(
        self, layers: Sequence[Layer], first: int, mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments ``[group, unit]`` of consecutive groups; layers' units are side by side.

        Groups are numbered category by category, fold by fold. They wait for the others of their
        file.
        """
        self.moments.add(layers, first, mean, m2)

    def save_live(self, live: Mapping[str, Bytes]) -> None:
        """Write the live moments of the next commit, and those that wait to be written."""
        super().save_live({**live, **self.moments.waiting()})

    def take_live(self) -> dict[str, Bytes]:
        """The live moments of the commit to continue from, which are then forgotten."""
        live = super().take_live()
        self.moments.resume(live)
        return live

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """A writer of variables beside a layer's moments."""
        return SlabWriter(self._store, layer.name, layer, self.reader.chunk_shape(layer))

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
        group = f"{layer.name}/{SHUFFLED}"
        create_group(self._store, group)
        named = ("drawn_unit",), "place of the unit in the flat layer"
        put(self._store, f"{group}/drawn_unit", units, *named)
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            grid = Grid(values.shape, values.shape, (1, 1, *values.shape[2:]), 8, True, True)
            key = f"{group}/{variable}"
            create_array(self._store, key, grid, "float64", dims, attributes)
            chunks = (part for row in values for part in row[:, np.newaxis, np.newaxis])
            write_file(self._store, key, grid, (0, 0, 0, 0), chunks)

    def written(self, commit: Commit) -> Iterator[Part]:
        """Moments of finished groups, nulls and contrasts."""
        reader = self.reader
        group = reader.stimulus_column("stimulus_category"), reader.stimulus_column("stimulus_fold")
        coming = self.order[commit.batches * self.provenance["batch_size"] :]
        unfinished = set(zip(*(column[coming].tolist() for column in group), strict=True))
        whole = self.layers if self.is_complete else self._named(commit.finished)
        live = self._named(commit.live)
        for layer in (*whole, *live):
            places = self.moments.places(layer, () if layer in whole else unfinished)
            yield from self._files(layer, places)
        if reader.shuffles:
            names = [f"{SHUFFLED}/{name}" for name in ("drawn_unit", *MOMENTS)]
            yield from ((f"{layer.name}/{name}", ()) for layer in whole for name in names)
        for layer in self.layers if self.is_complete else self.layers[: commit.contrasts]:
            yield from ((f"{layer.name}/{name}", ()) for name in (*_CONTRASTS, EXTREMES))

    def written_by(self, task: str, entry: Mapping[str, Any]) -> Iterator[Part]:
        """The parts of arrays that a task of workers wrote."""
        del task
        for layer in self.layers[slice(*entry.get("contrasts", (0, 0)))]:
            yield from ((f"{layer.name}/{one}", ()) for one in (*_CONTRASTS, EXTREMES))
        written = entry.get("written", {})
        for layer in self._named(written):
            yield from self._files(layer, written[layer.name])

    def _files(self, layer: Layer, places: Iterable[Sequence[int]]) -> Iterator[Part]:
        """The parts of a layer's moments in some files."""
        for place in places:
            region = self.moments.region_of(layer, place)
            yield from ((f"{layer.name}/{name}", region) for name in MOMENTS)

    def damaged_moments(self, task: str, entry: Mapping[str, Any]) -> Iterator[str]:
        """The damage to moments that a task of workers kept for merging."""
        kept = entry.get("kept", {})
        for layer in self._named(kept):
            for _, seal in kept[layer.name]:
                if self.tasks.kept(task, layer, seal) is None:
                    yield f"{self.tasks.folder}/{task}/{seal[2]}: is not what was written"

    def _named(self, names: Collection[str]) -> list[Layer]:
        chosen = set(names)
        return [layer for layer in self.layers if layer.name in chosen]


def max_store_bytes(layers: Sequence[Layer], categories: int, folds: int, store_dtype: str) -> int:
    """Upper bound of the bytes of a store, as if nothing was compressed."""
    moments = categories * folds * len(MOMENTS) * np.dtype(store_dtype).itemsize
    contrasts: int = sum(
        np.dtype(variable.dtype).itemsize
        * (categories if "category" in variable.leading else 1)
        * (folds if "fold" in variable.leading else 1)
        for name, variable in VARIABLES.items()
        if name not in MOMENTS
    )
    return int((moments + contrasts) * sum(layer.units for layer in layers))


def max_commit_bytes(layers: Sequence[Layer], groups: int) -> int:
    """Upper bound of the bytes of an unfinished scan's two commits, beside its store."""
    waiting = waiting_bytes(layers, groups)
    return 2 * sum(layer.state_bytes + waiting[layer.name] for layer in layers)


def write_slab(writer: SlabWriter, number: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a slab of some of the scan's variables, ``[*leading, unit]``."""
    for name, values in columns.items():
        variable = VARIABLES[name]
        leading = dict(zip(variable.leading, values.shape, strict=False))
        writer.write(number, name, values.astype(variable.dtype), leading, variable.attributes())
