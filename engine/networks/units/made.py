"""Layers as a function of the user makes their units, found by trying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ...errors import UserError
from ...layer import Layer
from ..hooks import capture
from ..inputs import Inputs
from ..layers import TRIAL_STIMULI, noise, untouched
from .functions import tried


def made(
    units: str, model: nn.Module, shown: int | Inputs, layers: Sequence[Layer]
) -> tuple[Layer, ...]:
    """Layers as a function of the user makes ``units`` of them, found by two passes.

    A vector for each stimulus has the dimension ``unit``, anything else ``axis_N``.

    Raises
    ------
    UserError : the function fails, or gives other units, or another number of them, for other
        stimuli beside the same
    """
    by_name = {layer.name: layer for layer in layers}
    found: dict[str, Layer] = {}

    def note(layer: str, activation: torch.Tensor) -> None:
        reduced = tried(units, activation)
        shape, dtype = tuple(reduced.shape[1:]), str(reduced.dtype).removeprefix("torch.")
        dims = ("unit",) if len(shape) == 1 else tuple(f"axis_{axis}" for axis in range(len(shape)))
        new = replace(by_name[layer], dims=dims, shape=shape, dtype=dtype)
        if (first := found.setdefault(layer, new)) != new:
            raise UserError(
                f"a function of units gives as many for any number of stimuli; {units} makes "
                f"{list(first.shape)} of {layer} for {TRIAL_STIMULI}, and {list(shape)} for "
                f"{len(activation)}: fix it"
            )

    images = noise(model, shown)
    with untouched(model), capture(model, list(by_name), note) as show:
        show(images)
        show(images[:2])
    return tuple(found[layer.name] for layer in layers)
