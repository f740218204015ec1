"""Accumulators of a scan: the current group of every layer, and the null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..layer import Layer
from ..networks.units import Axes, reduce
from .accumulate import LayerMoments, OnFinished
from .null import ShuffledMoments
from .plan import Batch, Run


class Live:
    """Accumulators of all layers and the null, updated by batches and saved between them."""

    def __init__(
        self,
        layers: Sequence[Layer],
        device: torch.device,
        on_finished: OnFinished,
        shuffled: ShuffledMoments | None,
        units: str = "all",
        write_null: Callable[[Layer, ShuffledMoments], None] = lambda *_: None,
        axes: Axes = MappingProxyType({}),
    ) -> None:
        self._recorded = tuple(layers)
        self._write_null = write_null
        self.layers = {layer.name: LayerMoments(layer, device, on_finished) for layer in layers}
        self._shuffled = shuffled
        self._units, self._axes = units, axes
        self._runs: tuple[Run, ...] = ()

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""
        self._runs = batch.runs
        if batch.begins_shard:
            for moments in self.layers.values():
                moments.cut()
        if self._shuffled:
            self._shuffled.begin(batch.stimuli)

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Add a layer's activation ``[stimulus, ...]`` of the current batch."""
        activation = reduce(activation, self._units, self._axes.get(layer))
        self.layers[layer].fold_in(activation, self._runs)
        if self._shuffled:
            self._shuffled.fold_in(layer, activation)

    def finish(self) -> None:
        """Write the null after the last stimulus; groups were written when complete."""
        if self._shuffled:
            for layer in self._recorded:
                self._write_null(layer, self._shuffled)

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
        """State for a checkpoint: a header per layer, and all arrays as bytes."""
        headers: dict[str, Any] = {}
        contents: dict[str, NDArray[np.uint8]] = {}
        for name, moments in self.layers.items():
            headers[name], parts = moments.live()
            contents |= {f"{name} {index}": part for index, part in enumerate(parts)}
        for index, part in enumerate(self._shuffled.live() if self._shuffled else ()):
            contents[_null(index)] = part.reshape(-1).view(np.uint8)
        return headers, contents

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[np.uint8]]) -> None:
        """Restore the state of :meth:`save`, which may be empty."""
        for name, header in headers.items():
            parts = (f"{name} {index}" for index in count())
            own = [contents[part] for part in takewhile(contents.__contains__, parts)]
            self.layers[name].resume(header, own)
        if contents and self._shuffled:
            for index, part in enumerate(self._shuffled.live()):
                part[...] = contents[_null(index)].view(part.dtype).reshape(part.shape)


def _null(index: int) -> str:
    return f"/{index}"  # no layer has a name like this
