"""Units of a layer: its whole output, means over space or channels, or its first token.

A reduced layer is a :class:`.Layer` with other dimensions, treated like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isqrt

import torch
from torch import nn

from ..errors import UserError, shortened
from ..layer import Layer, dims_of, refuse_units

# Layer name -> axes that the mean is over.
Axes = Mapping[str, Sequence[int]]
_TOKENS = ("token", "channel")
# Names of the class token's parameter in torchvision, timm, open_clip and transformers.
_CLASS_TOKENS = ("class_token", "cls_token", "class_embedding")
NO_CLASS_TOKEN = (
    f"warning: no parameter of the network is named {', '.join(_CLASS_TOKENS)}: its first token "
    "may be a patch of the image like any other"
)


def reduced(layers: Iterable[Layer], units: str) -> tuple[tuple[Layer, ...], list[str]]:
    """Layers as a scan with these ``units`` records them, and notes on exceptions.

    Raises
    ------
    UserError : unknown units, or units that no layer has
    """
    layers = tuple(layers)
    found = {layer.name: reduced_layer(layer, units) for layer in layers}
    kept = tuple(layer for layer in found.values() if layer)
    left_out = [name for name, layer in found.items() if not layer]
    if not kept:
        raise UserError(
            f"units {units} are channels of the first token; no layer has tokens "
            f'({shortened(left_out)}): choose transformer blocks, or `units="channel"`'
        )
    notes = []
    if left_out:
        notes.append(f"units {units}: left out layers without tokens: {shortened(left_out)}")
    squares = [one.name for one in layers if one.dims == _TOKENS and _is_square(one.shape[0])]
    if units == "cls" and squares:
        notes.append(
            "warning: a square number of tokens, so the first may be an image patch: "
            f"{shortened(squares)}"
        )
    odd = [one.name for one in layers if "axis_0" in one.dims and "channel" not in one.dims]
    if units != "all" and odd:
        notes.append(f"units {units}: unknown shape, recorded whole: {shortened(odd)}")
    return kept, notes


def reduced_layer(layer: Layer, units: str) -> Layer | None:
    """A layer as a scan with these ``units`` records it; None if it has none.

    Raises
    ------
    UserError : unknown units
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
    """Reduce an activation ``[stimulus, *layer dims]`` to its recorded units, on its device.

    Means are over ``axes``, those of :func:`averaged`; by default they follow from the shape. They
    are float32, or float64 for a float64 activation. The first token is a view.
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
    """Expand a ``mask`` of reduced units to the output ``shape`` they were reduced from.

    To the whole map of a channel, all channels of a location, or the channels of the first token.
    None if the mask does not fit the shape.
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
    """Whether a network has a class token, judged by the names of its parameters."""
    return any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in model.named_parameters())


def _is_square(tokens: int) -> bool:
    return tokens > 1 and isqrt(tokens) ** 2 == tokens


def averaged(dims: Sequence[str], units: str) -> list[int]:
    """Axes of a layer that the mean is over: all but channels, or only channels; may be empty."""
    if units not in ("channel", "token") or "channel" not in dims:
        return []
    return [axis for axis, dim in enumerate(dims) if (dim == "channel") == (units == "token")]


def _means_of_halves(x: torch.Tensor, axes: Sequence[int], wide: torch.dtype) -> torch.Tensor:
    """Means of half-precision activations on the CPU, one stimulus at a time.

    torch would widen the whole activation first, to a copy of twice its size.
    """
    kept = [size for axis, size in enumerate(x.shape[1:]) if axis not in axes]
    means = torch.empty((len(x), *kept), dtype=wide)
    widened = torch.empty_like(x[0], dtype=wide)
    for row, mean in zip(x, means, strict=True):
        torch.mean(widened.copy_(row), list(axes), out=mean)
    return means
