"""Activations as rows of units in memory order, and the position of a unit in a row."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..layer import Layer


class Flat:
    """Activations of a layer as ``[stimulus, unit]``, with units in memory order.

    ``order`` lists the layer's axes, from 1 on, as they lie in memory. It is taken from the first
    activation.
    """

    def __init__(self, layer: Layer, order: tuple[int, ...] | None = None) -> None:
        self._layer = layer
        self.order = order

    def rows(self, activation: torch.Tensor) -> torch.Tensor:
        """The activation as ``[stimulus, unit]``: a view if dense.

        Raises
        ------
        UserError : shape or precision differ from the trial pass
        """
        refuse_change(self._layer, activation)
        if self.order is None:
            self.order = memory_order(activation)
        return activation.permute(0, *self.order).contiguous().flatten(1)

    def positions(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in a row of units of the flat layer."""
        assert self.order is not None  # rows() has run
        coordinates = np.unravel_index(units, self._layer.shape)
        found = np.zeros(len(units), np.int64)
        for number, axis in enumerate(self.order):
            step = prod(self._layer.shape[later - 1] for later in self.order[number + 1 :])
            found += coordinates[axis - 1] * step
        return found


def refuse_change(layer: Layer, activation: torch.Tensor) -> None:
    """Raise if an activation ``[stimulus, ...]`` differs from the trial pass.

    Raises
    ------
    UserError : in shape or precision
    """
    if tuple(activation.shape[1:]) != layer.shape:
        raise UserError(
            f"a layer has one shape for all stimuli; {layer.name} had "
            f"{list(layer.shape)} and now has {list(activation.shape[1:])}"
        )
    if activation.dtype != getattr(torch, layer.dtype):
        raise UserError(
            f"a layer has one precision for all stimuli; {layer.name} had "
            f"{layer.dtype} and now has {activation.dtype}: scan without autocast inside"
        )


def memory_order(activation: torch.Tensor) -> tuple[int, ...]:
    """Axes of ``[stimulus, ...]`` except the first, as they lie in memory."""
    return tuple(sorted(range(1, activation.ndim), key=activation.stride, reverse=True))
