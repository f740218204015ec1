"""A store that is being filled, block by block, and committed from time to time."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..layer import Layer
from ..variables import EXTREMES, MOMENTS, SHUFFLED, VARIABLES
from .commits import Commit
from .cuts import slabs
from .filling import Filling, Part
from .layout import put, put_moments
from .reading import Store
from .slabs import SlabWriter, filled_up, write_file

# What a scan writes of a layer beside its moments.
_CONTRASTS = tuple(name for name in VARIABLES if name not in MOMENTS)


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

    def written(self, commit: Commit) -> Iterator[Part]:
        """Moments of groups whose stimuli were all shown to a layer, nulls and contrasts."""
        group = self.stimuli("stimulus_category"), self.stimuli("stimulus_fold")
        groups = list(np.ndindex(len(self.categories), self.folds))
        coming = self.order[commit.batches * self.provenance["batch_size"] :]
        unfinished = set(zip(*(column[coming].tolist() for column in group), strict=True))
        whole = self.layers if self.is_complete else self._named(commit.finished)
        live = self._named(commit.live)
        for layer in (*whole, *live):
            blocks = [one for one in groups if layer in whole or one not in unfinished]
            yield from ((f"{layer.name}/{name}", own) for name in MOMENTS for own in blocks)
        if self.shuffles:
            names = [f"{SHUFFLED}/{name}" for name in ("drawn_unit", *MOMENTS)]
            yield from ((f"{layer.name}/{name}", ()) for layer in whole for name in names)
        for layer in self.layers if self.is_complete else self.layers[: commit.contrasts]:
            yield from ((f"{layer.name}/{name}", ()) for name in (*_CONTRASTS, EXTREMES))

    def damaged_tasks(self, thoroughly: bool) -> dict[str, str]:
        """The tasks of workers whose results are missing, or damaged, and what of them is."""
        found = {}
        for stage in ("show", "merge", "contrast"):
            for task, record in self.records.of(stage).items():
                faults = (self._fault(*one, thoroughly) for one in self._results(task, record))
                kept = self._damaged_parts(task, record) if thoroughly else iter(())
                if fault := next(filter(None, (*faults, *kept)), ""):
                    found[task] = fault
        return found

    def _damaged_parts(self, task: str, record: Mapping[str, Any]) -> Iterator[str]:
        """The damage to the moments that a task has kept to be merged."""
        for key, seal in record.get("kept", {}).items():
            (layer,) = self._named([key.rpartition("/")[0]])
            if self.records.kept(f"{task}/{key}", layer, seal) is None:
                yield f"{self.records.folder}/{task}/{key}: is not what was written"

    def _results(self, task: str, record: Mapping[str, Any]) -> Iterator[Part]:
        """The parts of arrays that a task of workers has written."""
        stage, _, rest = task.partition("/")
        if stage == "contrast":
            layer = self.layers[int(rest)]
            yield from ((f"{layer.name}/{one}", ()) for one in (*_CONTRASTS, EXTREMES))
            return
        layers, groups = list(self.layers), [tuple(map(int, rest.replace("/", ".").split(".")))]
        if stage == "show":
            layers, groups = self._named(record["layers"]), record["finished"]
        for layer in layers:
            yield from ((f"{layer.name}/{m}", tuple(own)) for m in MOMENTS for own in groups)

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
