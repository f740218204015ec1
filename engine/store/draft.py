"""A store that is being filled, block by block, and committed from time to time."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..errors import UserError
from ..spec import MOMENTS, SHUFFLED, VARIABLES, Layer
from .arrays import files_of
from .cuts import slabs
from .filling import Filling, unusable
from .layout import put, put_moments
from .reading import Store
from .slabs import SlabWriter, filled_up, write_file


class Draft(Filling, Store):
    """A store that is being filled; see :class:`.filling.Filling`."""

    def from_the_start(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that are there before the first stimulus is shown."""
        yield from (f"{layer.name}/{name}" for name in (*layer.dims, *MOMENTS))

    def write_moments(self, layer: Layer, category: int, fold: int, moments: Moments) -> None:
        """Write the finished moments of one category and fold, ``mean, m2 [*layer dims]``."""
        for variable, values in (("mean", moments.mean), ("m2", moments.m2)):
            key = f"{layer.name}/{variable}"
            if key not in self._open:
                self._open[key] = self._draft[key]
            array = self._open[key]
            chunk = array.chunks[2:]
            fill = np.full(math.prod(chunk), array.fill_value, array.dtype)
            # All of a file, also of one that an earlier run may have torn.
            write_file(
                array,
                (category, fold, *(0 for _ in chunk)),
                (
                    filled_up(values[slab], slab, chunk, fill)
                    for slab, _ in slabs(layer.shape, chunk)
                ),
            )

    def slab_writer(self, layer: Layer) -> SlabWriter:
        """What writes variables beside a layer's moments, slab by slab."""
        group = self._draft[layer.name]
        assert isinstance(group, zarr.Group)
        return SlabWriter(group, layer, self.chunk_shape(layer))

    def write_contrasts(self, layer: Layer, columns: Mapping[str, NDArray[Any]]) -> None:
        """Materialise variables ``[*leading, unit]`` of a whole layer, beside its moments."""
        writer = self.slab_writer(layer)
        for number, (_, units) in enumerate(self.slabs(layer)):
            write_slab(writer, number, {name: c[..., units] for name, c in columns.items()})
        writer.finish()

    def write_shuffled_moments(
        self, layer: Layer, units: NDArray[np.int64], mean: NDArray[Any], m2: NDArray[Any]
    ) -> None:
        """Write moments under shuffled labels ``[category, fold, shuffle, unit]``.

        ``units`` are those drawn, as places in the flattened layer.
        """
        # Overwritten: what an earlier run has left of it may be torn.
        group = self._draft.create_group(f"{layer.name}/{SHUFFLED}", overwrite=True)
        put(group, "drawn_unit", units, ("drawn_unit",), "place of the unit in the flat layer")
        for variable, values in (("mean", mean), ("m2", m2)):
            attributes = VARIABLES[variable].attributes()
            attributes["long_name"] += ", labels shuffled"
            dims = ("category", "fold", "shuffle", "drawn_unit")
            put_moments(group, variable, values, dims, attributes)

    def require_moments(self, layers: Iterable[Layer], blocks: Iterable[tuple[int, int]]) -> None:
        """Refuse a draft in which moments of a category and fold in ``blocks`` are missing.

        Raises
        ------
        UserError : a file of them is gone
        """
        blocks = list(blocks)
        for layer in layers:
            for variable in MOMENTS:
                key = f"{layer.name}/{variable}"
                array = self._opened(key).array
                with self._refusing(key):
                    for block in blocks:
                        for file in files_of(array, block):
                            self.arrays.require_file(key, file)

    def require_written(self, order: NDArray[np.int64]) -> None:
        """Refuse a draft that misses moments of a group whose stimuli were all shown to a layer."""
        group = self.stimuli("stimulus_category"), self.stimuli("stimulus_fold")
        groups = list(np.ndindex(len(self.categories), self.folds))
        coming = order[self.commit.batches * self.provenance["batch_size"] :]
        unfinished = set(zip(*(column[coming].tolist() for column in group), strict=True))
        whole = self.layers if self.is_complete else self._named(self.commit.finished)
        try:
            self.require_moments(whole, groups)
            live = self._named(self.commit.live)
            self.require_moments(live, [one for one in groups if one not in unfinished])
        except UserError as error:
            raise unusable(self.path, self.kind.work, str(error)) from None

    def _named(self, names: Collection[str]) -> list[Layer]:
        return [layer for layer in self.layers if layer.name in names]


def most_bytes(layers: Sequence[Layer], categories: int, folds: int, store_dtype: str) -> int:
    """What a scan will take on the disk, if nothing of it can be compressed."""
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
    """Write a slab of some of the variables that a scan leaves, ``[*leading, unit]``."""
    for name, values in columns.items():
        variable = VARIABLES[name]
        leading = dict(zip(variable.leading, values.shape, strict=False))
        writer.write(number, name, values.astype(variable.dtype), leading, variable.attributes())
