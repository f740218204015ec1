"""Responses of chosen units, gathered batch by batch and written in files of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import projection
from ..layer import Layer
from ..moments.memory_layout import Flat
from ..moments.plan import Batch, Run
from ..networks.units.reduction import Reduction, Reductions, reduce

# Bytes of a projection kept between batches; the rest is generated again.
_KEPT_BYTES = 64 * 2**20

WriteRows = Callable[[Layer, int, NDArray[np.float32]], None]
WriteMeans = Callable[[Layer, NDArray[np.float64]], None]


def held_bytes(rows: int, units: int, columns: int) -> int:
    """Peak bytes of a layer: ``units`` recorded in ``columns``, in files of ``rows``.

    The rows of a file being filled, of one being written and one being encoded; the positions of
    the units; and of a projection its kept part and a block.
    """
    projected = columns < units
    entries = min(4 * units * columns, _KEPT_BYTES) + 3 * 4 * projection.BLOCK * columns
    return 3 * 4 * rows * columns + 32 * units + (entries if projected else 0)


class LayerRecorder:
    """Rows of one layer: ``columns`` responses to each stimulus, or a projection of them.

    ``stimuli`` is the number of rows, ``rows`` that of a file; ``seed`` is for a projection.
    """

    def __init__(
        self,
        layer: Layer,
        units: NDArray[np.int64],
        columns: int,
        seed: int,
        stimuli: int,
        rows: int,
        device: torch.device,
        write: WriteRows,
    ) -> None:
        self.layer = layer
        self._units, self._columns, self._seed = units, columns, seed
        self._stimuli, self._rows, self._device, self._write = stimuli, rows, device, write
        self._flat = Flat(layer)
        self._positions: torch.Tensor | None = None
        self._means = np.empty(0)  # of the batch
        self._signs: dict[int, torch.Tensor] = {}
        self._first = 0  # first row of the buffer
        self._buffer = self._empty()
        self.means = np.full(stimuli if self._projects else 0, np.nan)

    @property
    def _projects(self) -> bool:
        return self._columns < len(self._units)

    def take(self, activation: torch.Tensor, batch: Batch) -> None:
        """Add an activation ``[stimulus, *layer.shape]``.

        ``batch.stimuli`` are consecutive rows; rows in no run stay NaN.
        """
        gathered = self._gathered(self._flat.rows(activation))
        first, size = int(batch.stimuli[0]), len(batch.stimuli)
        for run in batch.runs:
            for start, stop in self._cut(first, run):
                self._write_before(first + start)
                row = first + start - self._first
                self._buffer[row : row + stop - start] = gathered[start:stop]
                if self._projects:
                    self.means[first + start : first + stop] = self._means[start:stop]
        self._write_before(first + size)

    def finish(self) -> None:
        """Write the remaining rows; those of stimuli that were not shown are NaN."""
        while self._first < self._stimuli:
            self._write_buffer()

    def save(self) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
        """State for a checkpoint: a header, and the rows not yet written as bytes."""
        parts = (self._buffer, self.means)
        header = {"first": self._first, "memory_order": self._flat.order}
        return header, [part.reshape(-1).view(np.uint8) for part in parts]

    def resume(self, header: Mapping[str, Any], contents: Sequence[NDArray[np.uint8]]) -> None:
        """Restore the state of :meth:`save`."""
        self._first = header["first"]
        self._flat.order = header["memory_order"] and tuple(header["memory_order"])
        self._buffer = self._empty()
        for part, content in zip((self._buffer, self.means), contents, strict=True):
            part.reshape(-1).view(np.uint8)[...] = content

    def _empty(self) -> NDArray[np.float32]:
        rows = max(0, min(self._rows, self._stimuli - self._first))
        return np.full((rows, self._columns), np.nan, np.float32)

    def _cut(self, first: int, run: Run) -> list[tuple[int, int]]:
        """Rows of a run, split where files end."""
        bounds = [
            run.start,
            *range(self._next_file(first + run.start) - first, run.stop, self._rows),
        ]
        return [(a, b) for a, b in zip(bounds, [*bounds[1:], run.stop], strict=True) if a < b]

    def _next_file(self, row: int) -> int:
        return (row // self._rows + 1) * self._rows

    def _write_before(self, row: int) -> None:
        """Write all files that end before ``row``."""
        while row >= self._first + self._rows and self._first < self._stimuli:
            self._write_buffer()

    def _write_buffer(self) -> None:
        self._write(self.layer, self._first // self._rows, self._buffer)
        self._first += self._rows
        self._buffer = self._empty()

    def _gathered(self, rows: torch.Tensor) -> NDArray[np.float32]:
        """Recorded columns of a batch ``[stimulus, unit]``, gathered on its device."""
        if self._positions is None:
            positions = torch.from_numpy(self._flat.positions(self._units))
            self._positions = positions.to(self._device)
        if self._projects:
            return self._projected(rows, self._positions)
        chosen = rows.index_select(1, self._positions)
        return chosen.to(torch.float32).cpu().numpy()

    def _projected(self, rows: torch.Tensor, positions: torch.Tensor) -> NDArray[np.float32]:
        """Responses minus their mean over units, projected block by block.

        The mean is stored separately: a large one would bury differences between stimuli in
        rounding errors.
        """
        blocks = range(0, len(self._units), projection.BLOCK)
        own = [positions[start : start + projection.BLOCK] for start in blocks]
        sums = [rows.index_select(1, part).to(torch.float64).sum(1) for part in own]
        means = torch.stack(sums).sum(0) / len(self._units)
        found = torch.zeros(len(rows), self._columns, device=self._device)
        for number, part in enumerate(own):
            deviations = rows.index_select(1, part).to(torch.float64) - means[:, None]
            found += deviations.to(torch.float32) @ self._block(number, len(part))
        self._means = means.cpu().numpy()
        return (found / math.sqrt(self._columns)).cpu().numpy()

    def _block(self, number: int, units: int) -> torch.Tensor:
        """A block of the projection; the first ones are cached."""
        if number in self._signs:
            return self._signs[number]
        made = projection.signs(self._seed, number, units, self._columns)
        signs = torch.from_numpy(made).to(self._device)
        if (number + 1) * projection.BLOCK * self._columns * 4 <= _KEPT_BYTES:
            self._signs[number] = signs
        return signs


class Recorder:
    """Recorders of several layers, updated by batches and saved between them."""

    def __init__(
        self,
        layers: Sequence[LayerRecorder],
        write_means: WriteMeans,
        reductions: Reductions = MappingProxyType({}),
    ) -> None:
        self._layers = {one.layer.name: one for one in layers}
        self._write_means, self._reductions = write_means, reductions
        self._batch: Batch | None = None

    @property
    def layers(self) -> Mapping[str, LayerRecorder]:
        """Recorder of each layer, by name."""
        return self._layers

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""
        self._batch = batch

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Add a layer's activation ``[stimulus, ...]`` of the current batch."""
        assert self._batch is not None
        recorded = reduce(activation, self._reductions.get(layer, Reduction()))
        self._layers[layer].take(recorded, self._batch)

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
        """State for a checkpoint: a header per layer, and all arrays as bytes."""
        headers: dict[str, Any] = {}
        contents: dict[str, NDArray[np.uint8]] = {}
        for name, one in self._layers.items():
            headers[name], parts = one.save()
            contents |= {f"{name} {index}": part for index, part in enumerate(parts)}
        return headers, contents

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[np.uint8]]) -> None:
        """Restore the state of :meth:`save`, which may be empty."""
        for name, header in headers.items():
            self._layers[name].resume(header, [contents[f"{name} {index}"] for index in range(2)])

    def finish(self) -> None:
        """Write what is left, after the last stimulus."""
        for one in self._layers.values():
            one.finish()
            if len(one.means):
                self._write_means(one.layer, one.means)
