"""Permutation null: moments under shuffled labels for a random sample of units, in one pass.

All shuffles of all categories are in memory at once, which thousands of units allow but millions do
not. The units are drawn from each layer before any activation is seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import cpu
from ...kernels.moments import Moments, read_out
from ..layer import Layer
from .memory_layout import memory_order


class ShuffledMoments:
    """Moments of the units drawn from every layer, under every shuffle of the labels.

    Parameters
    ----------
    layers : all recorded layers
    labels : category indices ``[shuffle, stimulus]`` of all stimuli of the catalogue
    fold_of : fold of every stimulus
    units : number of units to draw from a layer, at most all
    seed : of the draw
    shown : layers to accumulate; by default all
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        labels: NDArray[np.int32],
        fold_of: NDArray[np.int32],
        units: int,
        seed: int,
        shown: Sequence[Layer] | None = None,
    ) -> None:
        self._shuffles = len(labels)
        self._shape = (int(labels.max()) + 1, int(fold_of.max()) + 1, self._shuffles)
        # A group for every category, fold and shuffle, in the order of reading out.
        own = np.arange(self._shuffles)[:, np.newaxis]
        folds = np.maximum(fold_of, 0)  # any fold for stimuli that are never shown
        self._group_of = np.ravel_multi_index((labels, folds[np.newaxis], own), self._shape)
        groups = int(np.prod(self._shape))
        self._count = np.zeros(groups, np.int64)
        self._parts = cpu.parts_of(np.empty(0, np.int64), self._count)
        self.units = {
            layer.name: _draw(layer, min(units, layer.units), [seed, index])
            for index, layer in enumerate(layers)
        }
        # Positions of the units in memory, known from the first activation on.
        self._positions: dict[str, torch.Tensor] = {}
        self._state = {}
        for layer in layers if shown is None else shown:
            drawn = len(self.units[layer.name])
            pivot = np.zeros(
                (groups, drawn), layer.dtype if layer.dtype == "float64" else "float32"
            )
            self._state[layer.name] = (pivot, *np.zeros((2, groups, drawn)))

    def live(self) -> list[NDArray[Any]]:
        """Arrays of the state, not copied: save them, or write to them to restore it."""
        return [self._count, *(part for state in self._state.values() for part in state)]

    @property
    def state_bytes(self) -> int:
        """Bytes of the state."""
        return sum(part.nbytes for state in self._state.values() for part in state)

    def seconds_per_batch(self, batch_size: int) -> float:
        """Seconds per batch, measured on a batch of zeros whose counts are discarded."""
        count, seconds = self._count.copy(), []
        for _ in range(2):  # the first one compiles
            start = time.perf_counter()
            self.begin(np.arange(min(batch_size, self._group_of.shape[1])))
            for name, (pivot, s1, s2) in self._state.items():
                x = np.zeros((batch_size, len(self.units[name])), pivot.dtype)
                cpu.add_parts(x, self._parts, pivot, s1, s2)
            seconds.append(time.perf_counter() - start)
        self._count[:] = count
        return seconds[-1]

    def begin(self, stimuli: NDArray[np.int64]) -> None:
        """Begin a batch of ``stimuli``, with the same labels for all layers."""
        groups = self._group_of[:, stimuli]
        rows = np.broadcast_to(np.arange(len(stimuli)), groups.shape)
        self._parts = cpu.parts_of(groups.ravel(), self._count, rows.ravel())

    def fold_in(self, layer: str, activation: torch.Tensor) -> None:
        """Add a layer's activation ``[stimulus, ...]`` of the current batch."""
        order = memory_order(activation)
        if layer not in self._positions:
            self._positions[layer] = self._in_memory(layer, activation, order)
        rows = activation.permute(0, *order).flatten(1)
        drawn = rows.index_select(1, self._positions[layer])
        x = drawn.to("cpu", torch.float64 if drawn.dtype == torch.float64 else torch.float32)
        cpu.add_parts(x.numpy(), self._parts, *self._state[layer])

    def read_out(self, layer: str) -> Moments:
        """Moments of a layer's units: ``mean`` and ``m2 [category, fold, shuffle, unit]``."""
        pivot, s1, s2 = self._state[layer]
        with np.errstate(invalid="ignore"):
            count, mean, m2 = read_out(self._count[:, np.newaxis], pivot.astype(np.float64), s1, s2)
        return Moments(
            count.reshape(*self._shape, 1),
            mean.reshape(*self._shape, -1),
            m2.reshape(*self._shape, -1),
        )

    def _in_memory(
        self, layer: str, activation: torch.Tensor, order: tuple[int, ...]
    ) -> torch.Tensor:
        """Positions of the drawn units in a row of ``activation`` in memory order."""
        shape = activation.shape[1:]
        coordinates = np.unravel_index(self.units[layer], shape)
        axes = [axis - 1 for axis in order]
        flat = np.ravel_multi_index([coordinates[a] for a in axes], [shape[a] for a in axes])
        return torch.from_numpy(flat).to(activation.device)


def _draw(layer: Layer, units: int, seed: Sequence[int]) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).choice(layer.units, units, replace=False))
