"""Showing a network decoded batches, whose activations are taken as they come."""

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
from ..networks.layers import input_dtype, untouched
from ..networks.out_of_memory import explained
from ..networks.precision import multiplied


class Taker(Protocol):
    """What takes the activations of some layers, batch by batch, and can be saved between two."""

    @property
    def layers(self) -> Collection[str]:
        """Their names."""

    def begin(self, batch: Batch) -> None:
        """A batch begins: its activations come next, layer by layer."""

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """A layer's activation ``[stimulus, ...]``, which must not be kept."""

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What is not written yet: what its bytes do not say, and its bytes."""

    def go_on(self, records: Mapping[str, Any], contents: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what :meth:`save` gave; from nothing, where nothing was saved."""

    def finish(self) -> None:
        """All stimuli were shown: what is left is written."""


@contextmanager
def showing(
    backbone: Backbone, layers: Sequence[Layer], plan: Plan, device: torch.device, taker: Taker
) -> Iterator[Callable[[Decoded], None]]:
    """Give what shows the network one batch of ``plan`` and has ``taker`` take it.

    Stimuli that have failed are shown as they are, and taken nowhere. ``layers`` are all of the
    scan, of which ``taker`` may take some.
    """
    dtype = input_dtype(backbone.model)
    side = backbone.preprocessing.crop
    shape = (plan.batch_size, 3, side, side)
    with (
        untouched(backbone.model),
        multiplied(backbone.precision, device),
        explained(backbone.model, shape, dtype, device),
        compiled(backbone.model, [layer.name for layer in layers] if backbone.compiled else []),
        capture(backbone.model, taker.layers, taker.take) as show,
    ):

        def shown(decoded: Decoded) -> None:
            taker.begin(decoded.batch.without(decoded.failed))
            pixels = _filled(decoded.pixels, plan)
            show(normalise(pixels, backbone.preprocessing, device, dtype))

        yield shown


def _filled(
    pixels: NDArray[np.uint8] | torch.Tensor, plan: Plan
) -> NDArray[np.uint8] | torch.Tensor:
    """The last, short batch, filled up with its last image, whose extra rows belong to no run.

    Networks round differently at another batch size: a unit that is constant would seem to vary.
    """
    missing = plan.batch_size - len(pixels)
    if not missing or plan.n_batches == 1:
        return pixels
    return pixels[[*range(len(pixels)), *[-1] * missing]]
