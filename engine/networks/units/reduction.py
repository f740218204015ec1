"""Units of a layer: its whole output, means, tokens, attention heads, or a function of it.

A reduced layer is a :class:`.Layer` with other dimensions, treated like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from ...errors import UserError, shortened
from ...layer import Layer, dims_of, is_function, refuse_units
from .functions import called, source_sha256
from .transformer import CLASS_TOKENS, Transformer, is_square

_TOKENS = ("token", "channel")
NO_TRANSFORMER = Transformer()
NO_CLASS_TOKEN = (
    f"warning: no parameter of the network is named {', '.join(CLASS_TOKENS)}: its first token "
    "may be a patch of the image like any other"
)


@dataclass(frozen=True)
class Reduction:
    """How an activation ``[stimulus, ...]`` becomes that of the recorded units.

    Parameters
    ----------
    units : see :data:`..layer.UNITS`
    axes : axes of the layer, from 0, that a mean is over
    token : axis of the layer that numbers its tokens, for ``patch``
    first : tokens before the patches, which are left out
    heads : attention heads that the channels belong to, in equal parts
    """

    units: str = "all"
    axes: tuple[int, ...] = ()
    token: int = 0
    first: int = 0
    heads: int = 0


# Layer name -> its reduction.
Reductions = Mapping[str, Reduction]


class Reduced(NamedTuple):
    """Layers as they are recorded, how each is reduced, and notes on exceptions."""

    layers: tuple[Layer, ...]
    reductions: dict[str, Reduction]
    notes: list[str]


def attributes_of(
    units: str, dims: Mapping[str, Sequence[str]], reductions: Reductions
) -> dict[str, Any]:
    """Attributes of a root on its units; none for all elements.

    Parameters
    ----------
    dims : layer -> dimensions of what its module returns
    """
    if units == "all":
        return {}
    first = {name: how.first for name, how in reductions.items() if how.first}
    return {
        "units": units,
        "dims": dims,
        **({"prefix_tokens": first} if first else {}),
        **({"units_sha256": source_sha256(units)} if is_function(units) else {}),
    }


def reduced(layers: Iterable[Layer], units: str, transformer: Transformer) -> Reduced:
    """Layers as a scan with these ``units`` records them; those of functions as they are.

    Raises
    ------
    UserError : unknown units, or units that no layer has
    """
    layers = tuple(layers)
    every = {layer.name: reduction_of(layer, units, transformer) for layer in layers}
    found = {name: how for name, how in every.items() if how}
    kept = tuple(reduced_layer(layer, found[layer.name]) for layer in layers if layer.name in found)
    left_out = [name for name in every if name not in found]
    if not kept:
        raise UserError(
            f"units {units} are taken from tokens; no layer has tokens "
            f'({shortened(left_out)}): choose transformer blocks, or `units="channel"`'
        )
    return Reduced(kept, found, _notes(layers, units, found, transformer))


def _notes(
    layers: tuple[Layer, ...], units: str, found: Reductions, transformer: Transformer
) -> list[str]:
    notes = []
    if left_out := [layer.name for layer in layers if layer.name not in found]:
        notes.append(f"units {units}: left out layers without tokens: {shortened(left_out)}")
    tokens = {one.name: one.shape[0] for one in layers if one.dims == _TOKENS}
    squares = [name for name, number in tokens.items() if number > 1 and is_square(number)]
    if units == "cls" and squares:
        notes.append(
            "warning: a square number of tokens, so the first may be an image patch: "
            f"{shortened(squares)}"
        )
    if units == "cls" and not transformer.has_class_token:
        notes.append(NO_CLASS_TOKEN)
    if units == "patch":
        notes += _notes_on_patches(layers, found, transformer)
    odd = [one.name for one in layers if "axis_0" in one.dims and "channel" not in one.dims]
    if units in ("channel", "token") and odd:
        notes.append(f"units {units}: unknown shape, recorded whole: {shortened(odd)}")
    return notes


def _notes_on_patches(
    layers: tuple[Layer, ...], found: Reductions, transformer: Transformer
) -> list[str]:
    """How many tokens are left out, and where that is a guess."""
    by_number: dict[int, list[str]] = {}
    guessed = []
    for layer in layers:
        if layer.name in found and "token" in layer.dims:
            how = found[layer.name]
            by_number.setdefault(how.first, []).append(layer.name)
            if transformer.before_patches(layer.shape[how.token])[1]:
                guessed.append(layer.name)
    notes = [
        f"units patch: of {shortened(names, 3)} the first {first} tokens are left out"
        for first, names in by_number.items()
        if first
    ]
    if guessed:
        notes.append(
            "warning: no name in the network tells how many tokens come before the patches; their "
            f"number does by the rest alone: {shortened(guessed)}"
        )
    return notes


def reduction_of(
    layer: Layer, units: str, transformer: Transformer = NO_TRANSFORMER
) -> Reduction | None:
    """How a scan with these ``units`` reduces a layer; None if the layer has none.

    Raises
    ------
    UserError : unknown units
    """
    refuse_units(units)
    dims = layer.dims
    if units == "cls":
        return Reduction(units) if dims == _TOKENS else None
    if units == "head":
        heads = transformer.heads.get(layer.name, 0)
        fits = heads and layer.shape[-1] % heads == 0
        return Reduction(units, heads=heads) if fits else None
    if units == "patch" and any(dim.startswith("axis_") for dim in dims):
        return None
    if units not in ("channel", "token", "patch") or "channel" not in dims:
        return Reduction(units if is_function(units) else "all")
    axes = tuple(axis for axis, dim in enumerate(dims) if (dim == "channel") == (units == "token"))
    if units == "patch" and "token" in dims:
        token = dims.index("token")
        first, _ = transformer.before_patches(layer.shape[token])
        return Reduction(units, axes, token, first)
    return Reduction(units, axes)


def reduced_layer(layer: Layer, how: Reduction) -> Layer:
    """A layer as it is recorded; that of a function as it is."""
    wide = "float64" if layer.dtype == "float64" else "float32"
    if how.units == "cls":
        return replace(layer, dims=("channel",), shape=layer.shape[1:])
    if how.units == "head":
        return replace(layer, dims=("head",), shape=(how.heads,), dtype=wide)
    if not how.axes:
        return layer
    kept = [axis for axis in range(len(layer.dims)) if axis not in how.axes]
    return replace(
        layer,
        dims=tuple(layer.dims[axis] for axis in kept),
        shape=tuple(layer.shape[axis] for axis in kept),
        dtype=wide,
    )


def reduce(activation: torch.Tensor, how: Reduction) -> torch.Tensor:
    """Reduce an activation ``[stimulus, *layer dims]`` to its recorded units, on its device.

    Means and norms are float32, or float64 for a float64 activation. The first token is a view.

    Raises
    ------
    UserError : the user's function fails
    """
    if how.units == "cls":
        return activation[:, 0]
    if is_function(how.units):
        return called(how.units, activation)
    if how.first:
        activation = activation.narrow(
            how.token + 1, how.first, activation.shape[how.token + 1] - how.first
        )
    if not how.axes and not how.heads:
        return activation
    wide = torch.float64 if activation.dtype == torch.float64 else torch.float32
    if activation.device.type == "cpu" and activation.dtype != wide:
        return _of_halves(activation, how, wide)
    return _summarised(activation, how, wide)


def _summarised(x: torch.Tensor, how: Reduction, wide: torch.dtype) -> torch.Tensor:
    if not how.heads:
        return x.mean([axis + 1 for axis in how.axes], dtype=wide)
    by_head = x.reshape(*x.shape[:-1], how.heads, -1)  # [stimulus, ..., head, channel of the head]
    norms: torch.Tensor = torch.linalg.vector_norm(by_head, dim=-1, dtype=wide)
    return norms.flatten(1, -2).mean(1) if norms.ndim > 2 else norms


def _of_halves(x: torch.Tensor, how: Reduction, wide: torch.dtype) -> torch.Tensor:
    """Summaries of half-precision activations on the CPU, one stimulus at a time.

    torch would widen the whole activation first, to a copy of twice its size.
    """
    widened = torch.empty_like(x[:1], dtype=wide)
    rows = [_summarised(widened.copy_(x[row : row + 1]), how, wide) for row in range(len(x))]
    return torch.cat(rows)


def spread(
    mask: torch.Tensor,
    name: str,
    shape: tuple[int, ...],
    units: str,
    transformer: Transformer = NO_TRANSFORMER,
) -> torch.Tensor | None:
    """Expand a ``mask`` of reduced units to the output ``shape`` of the layer they are of.

    To the whole map of a channel, all channels of a location, the channels of the first token, a
    channel of all patches, or the channels of a head. None if the mask does not fit the shape.
    """
    layer = Layer(name, "", dims_of(shape), shape, "float32")
    how = reduction_of(layer, units, transformer)
    if how is None or tuple(mask.shape) != reduced_layer(layer, how).shape:
        return None
    whole = torch.zeros(shape, dtype=torch.bool, device=mask.device)
    if how.units == "cls":
        whole[0] = mask
        return whole
    if how.heads:
        return mask.repeat_interleave(shape[-1] // how.heads).expand(shape)
    for axis in how.axes:
        mask = mask.unsqueeze(axis)
    left = shape[how.token] - how.first
    whole.narrow(how.token, how.first, left).copy_(
        mask.expand(shape).narrow(how.token, how.first, left)
    )
    return whole
