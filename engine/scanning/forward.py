"""Forward passes: decoded batches in, activations handed to a taker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoding.ahead import Decoded, normalise
from ..layer import Layer
from ..moments.plan import Batch, Plan
from ..networks.backbones import Backbone
from ..networks.compiled import compiled
from ..networks.hooks import capture
from ..networks.inputs import Inputs
from ..networks.layers import untouched
from ..networks.out_of_memory import explained
from ..networks.placement import input_dtype, multiplied


class Taker(Protocol):
    """Takes the activations of some layers, batch by batch, and can be saved between batches."""

    @property
    def layers(self) -> Collection[str]:
        """Names of the layers."""

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Take a layer's activation ``[stimulus, ...]`` without keeping it."""

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything not written yet: records in JSON types, and arrays."""

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what :meth:`save` returned; empty values start from the beginning."""

    def finish(self) -> None:
        """Write what is left after the last stimulus."""


@contextmanager
def showing(
    backbone: Backbone,
    layers: Sequence[Layer],
    plan: Plan,
    device: torch.device,
    taker: Taker,
    sample: Inputs | None = None,
) -> Iterator[Callable[[Decoded], None]]:
    """Yield a function that shows the network one batch of ``plan`` and calls ``taker``.

    Failed stimuli still pass through the network, but are not counted. ``layers`` are those of the
    whole scan; ``taker`` may take some of them. ``sample`` are stimuli that are no images.
    """
    dtype = input_dtype(backbone.model)
    side = backbone.preprocessing.crop
    shape = (plan.batch_size, 3, side, side)
    with (
        untouched(backbone.model),
        multiplied(backbone.precision, device),
        explained(backbone.model, shape, dtype, device, sample),
        compiled(backbone.model, [layer.name for layer in layers] if backbone.compiled else []),
        capture(backbone.model, taker.layers, taker.take) as show,
    ):

        def shown(decoded: Decoded) -> None:
            taker.begin(decoded.batch.without(decoded.failed))
            pixels = _filled(decoded.pixels, plan)
            if isinstance(pixels, Inputs):
                show(pixels.to(device, dtype))
            else:
                show(normalise(pixels, backbone.preprocessing, device, dtype))

        yield shown


def _filled(
    pixels: NDArray[np.uint8] | torch.Tensor | Inputs, plan: Plan
) -> NDArray[np.uint8] | torch.Tensor | Inputs:
    """A short last batch filled up with its last image; the extra rows belong to no run.

    Networks round differently at another batch size: a constant unit would seem to vary.
    """
    missing = plan.batch_size - len(pixels)
    if not missing or plan.n_batches == 1:
        return pixels
    return pixels[[*range(len(pixels)), *[-1] * missing]]
