"""What is taken as the units of a layer: all of its output, means of it, or its first token.

A layer that is reduced is a :class:`.Layer` of other dimensions; nothing behind knows a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isqrt

import torch
from torch import nn

from ..errors import UserError, shortened
from ..layer import Layer, dims_of, refuse_units

# Of layers by name, the axes that a mean is over.
Axes = Mapping[str, Sequence[int]]
_TOKENS = ("token", "channel")
# What libraries call the parameter that becomes the first token: torchvision, timm, open_clip.
_CLASS_TOKENS = ("class_token", "cls_token", "class_embedding")
NO_CLASS_TOKEN = (
    f"warning: no parameter of the network is called {', '.join(_CLASS_TOKENS)}: its first token "
    "may be a patch of the image like any other"
)


def reduced(layers: Iterable[Layer], units: str) -> tuple[tuple[Layer, ...], list[str]]:
    """The layers as a scan with these ``units`` records them, and notes on what is otherwise.

    Raises
    ------
    UserError : there are no such units, or no layer has them
    """
    layers = tuple(layers)
    found = {layer.name: reduced_layer(layer, units) for layer in layers}
    kept = tuple(layer for layer in found.values() if layer)
    left_out = [name for name, layer in found.items() if not layer]
    if not kept:
        raise UserError(
            f"units {units} are channels of the first token; no layer has tokens "
            f"({shortened(left_out)}): choose transformer blocks, or --units channel"
        )
    notes = []
    if left_out:
        notes.append(f"units {units}: left out, having no tokens: {shortened(left_out)}")
    squares = [one.name for one in layers if one.dims == _TOKENS and _is_square(one.shape[0])]
    if units == "cls" and squares:
        notes.append(
            "warning: as many tokens as a square image has patches, the first is then one: "
            f"{shortened(squares)}"
        )
    odd = [one.name for one in layers if "axis_0" in one.dims and "channel" not in one.dims]
    if units != "all" and odd:
        notes.append(f"units {units}: of no known shape, recorded whole: {shortened(odd)}")
    return kept, notes


def reduced_layer(layer: Layer, units: str) -> Layer | None:
    """A layer as a scan with these ``units`` records it; None where it has none.

    Raises
    ------
    UserError : there are no such units
    """
    refuse_units(units)
    if units == "cls":
        if layer.dims != _TOKENS:
            return None
        return replace(layer, dims=("channel",), shape=layer.shape[1:])
    axes = averaged(layer.dims, units)
    if not axes:
        return layer
    kept = [axis for axis in range(len(layer.dims)) if axis not in axes]
    return replace(
        layer,
        dims=tuple(layer.dims[axis] for axis in kept),
        shape=tuple(layer.shape[axis] for axis in kept),
        dtype="float64" if layer.dtype == "float64" else "float32",
    )


def reduce(activation: torch.Tensor, units: str, axes: Sequence[int] | None = None) -> torch.Tensor:
    """An activation ``[stimulus, *layer dims]`` as what is recorded of it, on its device.

    Means are over the layer's ``axes``, those of :func:`averaged`; by default as its shape tells.
    They are float32, or float64 of a float64 activation. The first token is a view.
    """
    if units == "cls":
        return activation[:, 0]
    if axes is None:
        axes = averaged(dims_of(tuple(activation.shape[1:])), units)
    if not axes:
        return activation
    wide = torch.float64 if activation.dtype == torch.float64 else torch.float32
    if activation.device.type == "cpu" and activation.dtype != wide:
        return _means_of_halves(activation, axes, wide)
    return activation.mean([axis + 1 for axis in axes], dtype=wide)


def spread(mask: torch.Tensor, shape: tuple[int, ...], units: str) -> torch.Tensor | None:
    """A ``mask`` of reduced units over the output ``shape`` that they come from: what went in.

    The whole map of a channel, all channels of a place, the channels of the first token. None where
    the mask is not one of such a layer.
    """
    dims = dims_of(shape)
    if units == "cls":
        if dims != _TOKENS or mask.shape != shape[1:]:
            return None
        whole = torch.zeros(shape, dtype=torch.bool, device=mask.device)
        whole[0] = mask
        return whole
    axes = averaged(dims, units)
    if tuple(mask.shape) != tuple(size for axis, size in enumerate(shape) if axis not in axes):
        return None
    for axis in axes:
        mask = mask.unsqueeze(axis)
    return mask.expand(shape)


def has_class_token(model: nn.Module) -> bool:
    """Whether a network has a class token, as far as the names of its parameters tell."""
    return any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in model.named_parameters())


def _is_square(tokens: int) -> bool:
    return tokens > 1 and isqrt(tokens) ** 2 == tokens


def averaged(dims: Sequence[str], units: str) -> list[int]:
    """The axes of a layer that a mean is over: all but its channels, or those; none without any."""
    if units not in ("channel", "token") or "channel" not in dims:
        return []
    return [axis for axis, dim in enumerate(dims) if (dim == "channel") == (units == "token")]


def _means_of_halves(x: torch.Tensor, axes: Sequence[int], wide: torch.dtype) -> torch.Tensor:
    """Means of half-precision activations on the CPU, one stimulus at a time.

    There torch widens all that it is to sum before it does: a copy of twice the activation.
    """
    kept = [size for axis, size in enumerate(x.shape[1:]) if axis not in axes]
    means = torch.empty((len(x), *kept), dtype=wide)
    widened = torch.empty_like(x[0], dtype=wide)
    for row, mean in zip(x, means, strict=True):
        torch.mean(widened.copy_(row), list(axes), out=mean)
    return means
