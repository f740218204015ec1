"""A recording that is being filled: rows of responses, in the order in which stimuli are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from ..layer import Layer
from .commits import Commit
from .filling import Filling, Part
from .kinds import RECORDING
from .layout import WRITE_ALL, put
from .places import place_of
from .recording import Recorded, Units, cut_of_rows
from .slabs import write_file
from .writing import Way, create_root


class RecordingDraft(Filling, Recorded):
    """A recording that is being filled; see :class:`.filling.Filling`."""

    def from_the_start(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that are there before the first stimulus is shown."""
        yield from (f"{layer.name}/{name}" for name in ("unit", "chosen", "response"))

    def rows_of_a_file(self, layer: Layer) -> int:
        """How many stimuli are written together."""
        return cut_of_rows(self.schema.stimuli, self.schema.recorded[layer.name].columns)[0]

    def write_rows(self, layer: Layer, number: int, values: NDArray[np.float32]) -> None:
        """Write the ``number``-th file of a layer: responses ``[stimulus, column]`` of its rows."""
        key = f"{layer.name}/response"
        if key not in self._open:
            self._open[key] = self._draft[key]
        array = self._open[key]
        rows, width = array.chunks

        def chunk(start: int) -> NDArray[np.float32]:
            found = np.full((rows, width), np.nan, np.float32)
            part = values[:, start : start + width]
            found[: part.shape[0], : part.shape[1]] = part
            return found

        write_file(array, (number, 0), map(chunk, range(0, array.shape[1], width)))

    def write_means(self, layer: Layer, means: NDArray[np.float64]) -> None:
        """Write the mean response of every stimulus over the units of a projected layer."""
        group = self._draft[layer.name]
        assert isinstance(group, zarr.Group)
        put(group, "mean", means, ("stimulus",), "mean response over the projected units")

    def written(self, commit: Commit) -> Iterator[Part]:
        """Files of rows that are full, and of layers that are finished all of them."""
        # Rows stand in the order of showing; those of stimuli that are not shown come last.
        shown, stimuli = self._shown(commit), self.schema.stimuli
        names = [layer.name for layer in self.layers]
        whole = set(names if self.is_complete else commit.finished)
        for layer in self.layers:
            rows = self.rows_of_a_file(layer)
            begun = shown // rows * rows if layer.name in commit.live else 0
            done = stimuli if layer.name in whole else begun
            for key in (f"{layer.name}/unit", f"{layer.name}/chosen"):
                yield key, ()
            for start in range(0, done, rows):
                yield f"{layer.name}/response", (slice(start, min(start + rows, stimuli)),)
            if layer.name in whole and self.schema.recorded[layer.name].projected:
                yield f"{layer.name}/mean", ()


def recording_of(units: Units, chosen: Mapping[str, NDArray[np.bool_]]) -> Way:
    """How a recording of these units is begun: ``chosen [choice, unit]`` says by what they were."""
    return Way(RECORDING, RecordingDraft, partial(_create, units, chosen))


def _create(
    units: Units,
    chosen: Mapping[str, NDArray[np.bool_]],
    output: Path | str,
    *,
    layers: Sequence[Layer],
    **contents: Any,
) -> RecordingDraft:
    place = place_of(output)
    root = create_root(place, RECORDING, layers=layers, **contents)
    draft = RecordingDraft(place, root)
    for layer in layers:
        group, own = root.require_group(layer.name), draft.schema.recorded[layer.name]
        put(group, "unit", units[layer.name], ("unit",), "place of the unit in the flat layer")
        put(group, "chosen", chosen[layer.name], ("choice", "unit"), "what chose the unit")
        rows, width = cut_of_rows(draft.schema.stimuli, own.columns)
        dims = ("stimulus", "projected" if own.projected else "unit")
        group.create_array(
            "response",
            shape=(draft.schema.stimuli, own.columns),
            dtype="float32",
            chunks=(rows, width),
            shards=(rows, -(-own.columns // width) * width),
            compressors=[Crc32cCodec()],
            fill_value=np.nan,
            dimension_names=dims,
            attributes=_described(own.projected),
            config=WRITE_ALL,
        )
    return draft


def _described(projected: bool) -> dict[str, Any]:
    if not projected:
        return {"long_name": "response of the unit to the stimulus", "units": "1"}
    return {
        "long_name": "random projection of the responses less their mean over the units",
        "units": "1",
        "formula": "sum over units of (x - mean) r / sqrt(columns), r = 1 or -1 (Achlioptas 2003)",
    }
