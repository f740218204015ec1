"""Feature maps and positions of a layer's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer
from ..store.chunking import Slab

# Dimensions of positions in an image or a sequence.
_PLACES = ("y", "x", "token")


def placeless(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Layers without positions, such as pooled ones, of a network that has others.

    Their units average over the image and are few: their shares do not compare with those of maps.
    """
    mapped = {layer.name for layer in layers if math.prod(Maps(layer).shape or ()) > 1}
    known = mapped.union(layer.name for layer in layers if layer.is_nameless)
    return tuple(layer.name for layer in layers if layer.name not in known) if mapped else ()


class Maps:
    """Counts units of slabs by feature map and by position.

    Feature maps are indices along the dimension ``channel``; without it, every unit is a map of its
    own. ``shape`` is the shape of the positions, None if the layer has none.
    """

    def __init__(self, layer: Layer) -> None:
        self.channel = layer.dims.index("channel") if "channel" in layer.dims else None
        self.number = layer.units if self.channel is None else layer.shape[self.channel]
        self._places = tuple(axis for axis, dim in enumerate(layer.dims) if dim in _PLACES)
        self.shape = tuple(layer.shape[axis] for axis in self._places) or None

    def count(self, counts: NDArray[np.int64], mask: NDArray[Any], slab: Slab, flat: slice
              ) -> None:  # fmt: skip
        """Add a slab's units in ``mask [row, unit]``, or numbers, to ``counts [row, map]``."""
        if self.channel is None:
            counts[:, flat] += mask
            return
        counts[:, slab[self.channel]] += _summed(mask, slab, (self.channel,))

    def count_places(self, counts: NDArray[np.int64], mask: NDArray[np.bool_], slab: Slab) -> None:
        """Add a slab's units in ``mask [row, unit]`` to ``counts [row, *positions]``."""
        places = tuple(slab[axis] for axis in self._places)
        counts[:, *places] += _summed(mask, slab, self._places)

    def of(self, units: NDArray[np.int64], slab: Slab, flat: slice) -> NDArray[np.int64]:
        """The map of each of some units, given by their index in a slab."""
        if self.channel is None:
            return np.asarray(units + flat.start)
        places = np.unravel_index(units, _lengths(slab))
        return np.asarray(places[self.channel] + slab[self.channel].start)


def maps_of(layer: Layer, flat: slice) -> NDArray[np.int64]:
    """The map of each unit in a slice of a flattened layer."""
    units = np.arange(flat.start, flat.stop)
    if "channel" not in layer.dims:
        return units
    axis = layer.dims.index("channel")
    return np.asarray(units // math.prod(layer.shape[axis + 1 :]) % layer.shape[axis])


def _lengths(slab: Slab) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in slab)


def _summed(mask: NDArray[Any], slab: Slab, kept: tuple[int, ...]) -> NDArray[np.int64]:
    """Numbers of units ``[row, *kept]`` along some axes of a slab."""
    lengths = _lengths(slab)
    summed = tuple(axis + 1 for axis in range(len(slab)) if axis not in kept)
    assert mask.shape[-1] == math.prod(lengths)
    return np.asarray(mask.reshape(len(mask), *lengths).sum(axis=summed, dtype=np.int64))
