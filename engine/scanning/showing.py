"""Showing a network decoded batches, whose activations go into the live moments as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..spec import Layer
from .backbones import Backbone
from .capture import capture
from .compiled import compiled
from .decode import Decoded, normalise
from .faults import explained
from .layers import input_dtype
from .live import Live
from .plan import Plan
from .precision import multiplied


@contextmanager
def showing(
    backbone: Backbone, layers: Sequence[Layer], plan: Plan, device: torch.device, live: Live
) -> Iterator[Callable[[Decoded], None]]:
    """Give what shows the network one batch of ``plan`` and folds it into ``live``.

    Stimuli that have failed are shown as they are, and folded in nowhere. ``layers`` are all of the
    scan, of which ``live`` may hold some.
    """
    dtype = input_dtype(backbone.model)
    side = backbone.preprocessing.crop
    shape = (plan.batch_size, 3, side, side)
    with (
        multiplied(backbone.precision, device),
        explained(backbone.model, shape, dtype, device),
        compiled(backbone.model, [layer.name for layer in layers] if backbone.compiled else []),
        capture(backbone.model, live.layers, live.fold_in) as show,
    ):

        def fold_in(decoded: Decoded) -> None:
            live.begin(decoded.batch.without(decoded.failed))
            pixels = _filled(decoded.pixels, plan)
            show(normalise(pixels, backbone.preprocessing, device, dtype))

        yield fold_in


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
