"""A recording that is being filled: rows of responses, in the order in which stimuli are shown."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...layer import Layer
from ..chunking import response_shape
from ..recording_reader import RecordingReader
from .array_writer import put, write_file
from .base_draft import BaseDraft, Part
from .commits import Commit


class RecordingDraft(BaseDraft[RecordingReader]):
    """A recording that is being filled; see :class:`.base_draft.BaseDraft`."""

    reader_type = RecordingReader

    def initial_arrays(self, layer: Layer) -> Iterator[str]:
        """The arrays of a layer that exist before the first stimulus is shown."""
        yield from (f"{layer.name}/{name}" for name in ("unit", "chosen", "response"))

    def rows_per_file(self, layer: Layer) -> int:
        """Number of stimuli that are written together."""
        columns = self.reader.schema.recorded[layer.name].columns
        return response_shape(self.reader.schema.stimuli, columns)[0]

    def write_rows(self, layer: Layer, number: int, values: NDArray[np.float32]) -> None:
        """Write the ``number``-th file of a layer: responses ``[stimulus, column]`` of its rows."""
        key = f"{layer.name}/response"
        grid = self.reader.arrays.opened(key).grid
        rows, width = grid.chunk

        def chunk(start: int) -> NDArray[np.float32]:
            found = np.full((rows, width), np.nan, np.float32)
            part = values[:, start : start + width]
            found[: part.shape[0], : part.shape[1]] = part
            return found

        chunks = map(chunk, range(0, grid.shape[1], width))
        write_file(self._store, key, grid, (number, 0), chunks)

    def write_means(self, layer: Layer, means: NDArray[np.float64]) -> None:
        """Write the mean response to every stimulus over the units of a projected layer."""
        named = ("stimulus",), "mean response over the projected units"
        put(self._store, f"{layer.name}/mean", means, *named)

    def written(self, commit: Commit) -> Iterator[Part]:
        """The full files of live layers, and all files of finished ones."""
        # Rows stand in the order of showing; stimuli that are not shown come last.
        shown, stimuli = self.n_shown(commit), self.reader.schema.stimuli
        names = [layer.name for layer in self.layers]
        whole = set(names if self.is_complete else commit.finished)
        for layer in self.layers:
            rows = self.rows_per_file(layer)
            begun = shown // rows * rows if layer.name in commit.live else 0
            done = stimuli if layer.name in whole else begun
            for key in (f"{layer.name}/unit", f"{layer.name}/chosen"):
                yield key, ()
            for start in range(0, done, rows):
                yield f"{layer.name}/response", (slice(start, min(start + rows, stimuli)),)
            if layer.name in whole and self.reader.schema.recorded[layer.name].projected:
                yield f"{layer.name}/mean", ()
