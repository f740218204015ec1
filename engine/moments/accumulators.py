"""Accumulators of a scan: the current block of every bundle of layers, and the null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, takewhile
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..layer import Layer, columns
from ..networks.units.reduction import Reduction, Reductions, reduce
from .accumulate import LayerMoments, rounds_by_shape
from .finished import Finished
from .memory_layout import refuse_change
from .null import ShuffledMoments
from .plan import Batch, Block, Run, bundles

# Finished blocks of a bundle of layers, in order.
OnFinished = Callable[[Sequence[Layer], Sequence[Block], Finished], None]


class Bundle:
    """Moments of some layers. Those of several are added as those of one, when all have come."""

    def __init__(
        self, layers: Sequence[Layer], device: torch.device, on_finished: OnFinished
    ) -> None:
        self.layers = layers
        self._units, dtype = sum(layer.units for layer in layers), layers[0].dtype
        whole = Layer("bundle", "", ("unit",), (self._units,), dtype)
        self.moments = LayerMoments(
            whole if len(layers) > 1 else layers[0], device, partial(on_finished, layers)
        )
        self._columns = {layer.name: (layer, own) for layer, own in columns(layers)}
        # Activations of the current batch: [stimulus, unit], and the number of layers that came.
        self._rows: torch.Tensor | None = None
        self._came = 0

    def take(self, name: str, activation: torch.Tensor, runs: Sequence[Run]) -> None:
        """Add the activation ``[stimulus, ...]`` of a layer; the last of a batch adds them all."""
        if len(self.layers) == 1:
            self.moments.fold_in(activation, runs)
            return
        layer, own = self._columns[name]
        refuse_change(layer, activation)
        if self._rows is None:
            size, (dtype, device) = len(activation), (activation.dtype, activation.device)
            # Others cannot write to a tensor that was made in inference mode.
            with torch.inference_mode(False):
                self._rows = torch.empty(size, self._units, dtype=dtype, device=device)
        self._rows[:, own].view(activation.shape).copy_(activation)
        self._came += 1
        if self._came == len(self.layers):
            rows, self._rows, self._came = self._rows, None, 0
            self.moments.fold_in(rows, runs)


class Live:
    """Accumulators of all layers and the null, updated by batches and saved between them."""

    def __init__(
        self,
        layers: Sequence[Layer],
        device: torch.device,
        on_finished: OnFinished,
        shuffled: ShuffledMoments | None,
        write_null: Callable[[Layer, ShuffledMoments], None] = lambda *_: None,
        reductions: Reductions = MappingProxyType({}),
    ) -> None:
        self._recorded = tuple(layers)
        self._write_null = write_null
        # Bits must not depend on which layers a pass shows.
        alone = rounds_by_shape(device)
        some = [[layer] for layer in layers] if alone else bundles(layers)
        self.bundles = [Bundle(own, device, on_finished) for own in some]
        self._bundle_of = {one.name: bundle for bundle in self.bundles for one in bundle.layers}
        self._shuffled = shuffled
        self._reductions = reductions
        self._runs: tuple[Run, ...] = ()

    @property
    def layers(self) -> list[str]:
        """Names of the layers."""
        return list(self._bundle_of)

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""
        self._runs = batch.runs
        if batch.begins_shard:
            for bundle in self.bundles:
                bundle.moments.cut()
        if self._shuffled:
            self._shuffled.begin(batch.stimuli)

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Add a layer's activation ``[stimulus, ...]`` of the current batch."""
        activation = reduce(activation, self._reductions.get(layer, Reduction()))
        self._bundle_of[layer].take(layer, activation, self._runs)
        if self._shuffled:
            self._shuffled.fold_in(layer, activation)

    def finish(self) -> None:
        """Write the null after the last stimulus; groups were written when complete."""
        if self._shuffled:
            for layer in self._recorded:
                self._write_null(layer, self._shuffled)

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
        """State for a checkpoint: a header per layer, and all arrays as bytes.

        The first layer of a bundle stands for all of them.
        """
        headers: dict[str, Any] = {}
        contents: dict[str, NDArray[np.uint8]] = {}
        for bundle in self.bundles:
            first, *others = (layer.name for layer in bundle.layers)
            header, parts = bundle.moments.live()
            headers |= {first: {**header, "with": others}, **dict.fromkeys(others)}
            contents |= {f"{first} {index}": part for index, part in enumerate(parts)}
        for index, part in enumerate(self._shuffled.live() if self._shuffled else ()):
            contents[_null(index)] = part.reshape(-1).view(np.uint8)
        return headers, contents

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[np.uint8]]) -> None:
        """Restore the state of :meth:`save`, which may be empty.

        Raises
        ------
        UserError : another version of fusiform saved it, with other bundles
        """
        for bundle in self.bundles if headers else ():
            first, *others = (layer.name for layer in bundle.layers)
            header = headers[first]
            if not header or header.get("with") != others:
                raise UserError(
                    "the scan was begun by another version of fusiform: resume it with that one, "
                    "or discard it with `restart=True`"
                )
            parts = (f"{first} {index}" for index in count())
            own = [contents[part] for part in takewhile(contents.__contains__, parts)]
            bundle.moments.resume(header, own)
        if contents and self._shuffled:
            for index, part in enumerate(self._shuffled.live()):
                part[...] = contents[_null(index)].view(part.dtype).reshape(part.shape)


def _null(index: int) -> str:
    return f"/{index}"  # no layer has a name like this
