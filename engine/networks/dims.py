"""Names of a layer's dimensions, from its module, its shape, and what moves with the image.

Trial images are one scene without and with a patch in each corner. Along rows, columns and ordered
tokens the change moves with the patch; along channels it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import isqrt

import torch
from torch import nn

from ..errors import UserError, nearest, shortened
from ..layer import COORDINATES, Layer, dims_of
from ..values import listed

# Layer name or glob -> names of its dimensions.
Dims = Mapping[str, str | Sequence[str]]

_MAPS, _LAST, _TOKENS = ("channel", "y", "x"), ("y", "x", "channel"), ("token", "channel")
# Tokens in an unknown order, and dimensions about which the images say nothing.
_NO_ORDER, _UNKNOWN = ("axis_0", "channel"), ("axis_0", "axis_1")
# Shares of the change that move: at least this much along a map, more than channels can show; and
# the share that locates the patch.
_MOVES, _MOVES_FAR, _SHOWS = 0.05, 0.15, 0.2


def trial_images(crop: int) -> torch.Tensor:
    """A scene, then the same with a patch at the top left, top right, bottom left, bottom right."""
    own = torch.Generator().manual_seed(0)
    patch = torch.randn(3, crop, crop, generator=own)
    images = torch.randn(3, crop, crop, generator=own).repeat(5, 1, 1, 1)
    side = crop // 3
    if side:
        first, last = slice(side), slice(crop - side, crop)
        for image, (y, x) in zip(
            images[1:], ((first, first), (first, last), (last, first), (last, last)), strict=True
        ):
            image[:, y, x] = 2 * patch[:, :side, :side]
    return images


def name_dims(module: nn.Module, output: torch.Tensor) -> tuple[str, ...]:
    """Dimension names of a module's ``output`` for :func:`trial_images`, except the first.

    Unknown dimensions are named ``axis_N``.
    """
    shape = tuple(output.shape[1:])
    if len(shape) == 3:
        return _MAPS if _is_of(module, "2d") else _of_three(module, shape, _Changes(output))
    if len(shape) == 2:
        return _of_two(module, shape, _Changes(output))
    return dims_of(shape)


def _of_three(module: nn.Module, shape: tuple[int, ...], changes: _Changes) -> tuple[str, ...]:
    last = _channels_are_last(module)
    candidates = [_LAST] if last else [_MAPS, _LAST]
    supported = [dims for dims in candidates if changes.support(dims)]
    if len(supported) == 1:
        return supported[0]
    by_shape = dims_of(shape)
    if by_shape in candidates and not changes.contradict(by_shape):
        return by_shape
    return ("axis_0", "axis_1", "channel") if last else ("axis_0", "axis_1", "axis_2")


def _of_two(module: nn.Module, shape: tuple[int, ...], changes: _Changes) -> tuple[str, ...]:
    if _is_of(module, "1d"):
        token = not _may_be_map(shape[1]) or changes.are_patches(1)
        return ("channel", "token" if token else "axis_1")
    if changes.are_patches(0):
        return _TOKENS
    if changes.are_patches(1) and not _channels_are_last(module):
        return ("channel", "token")
    if not _may_be_map(shape[0]):
        return _TOKENS  # too few or not square: never drawn as a map
    return _NO_ORDER if changes.apart(0) > max(_SHOWS, 2 * changes.apart(1)) else _UNKNOWN


def join(layers: Iterable[Layer]) -> list[Layer]:
    """Name unknown dimensions after other layers with as many tokens.

    Attention can spread a change over all tokens, which then do not show their order.
    """
    layers = list(layers)
    in_order = {layer.shape[0] for layer in layers if layer.dims == _TOKENS}

    def named(layer: Layer) -> Layer:
        if layer.dims != _UNKNOWN:
            return layer
        return replace(layer, dims=_TOKENS if layer.shape[0] in in_order else _NO_ORDER)

    return [named(layer) for layer in layers]


def given_dims(layers: Sequence[Layer], dims: Dims) -> tuple[Layer, ...]:
    """Layers renamed by the user's ``dims``, by layer name or glob.

    Raises
    ------
    UserError : unknown layer or dimension, or the wrong number of dimensions
    """
    if not isinstance(dims, Mapping) or not all(isinstance(layer, str) for layer in dims):
        raise UserError(f"dimensions are {{layer: names}}; got {dims!r}: give a dict")
    found = {layer.name: layer for layer in layers}
    for pattern, given in dims.items():
        names = tuple(given.split(",") if isinstance(given, str) else listed(given))
        own = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
        if not own:
            raise UserError(
                f"dimensions are named for a recorded layer; there is no {pattern!r}: "
                f"{nearest(pattern, found)}"
            )
        for layer in own:
            axes = [f"axis_{axis}" for axis in range(len(layer.shape))]
            known = [*(dim for dim in COORDINATES if dim != "unit" or len(axes) == 1), *axes]
            if (
                len(names) != len(axes)
                or len(set(names)) != len(names)
                or not set(names) <= {*known}
            ):
                raise UserError(
                    f"{layer.name} has {len(axes)} dimensions {list(layer.shape)}, each with a "
                    f"name of its own ({', '.join(known)}); got {','.join(map(str, names))}"
                )
            found[layer.name] = replace(layer, dims=names)
    return tuple(found.values())


def nameless(layers: Sequence[Layer]) -> tuple[str, ...]:
    """A note on layers with unknown dimensions."""
    found = [layer for layer in layers if layer.is_nameless]
    if not found:
        return ()
    named = shortened(f"{one.name} {' x '.join(map(str, one.shape))}" for one in found)
    return (
        f"dimensions of {len(found)} layers are unknown by shape, module and what moves with the "
        f"image ({named}): their units have no map coordinates until the dimensions are named by "
        "`dims` (LAYER=channel,y,x)",
    )


class _Changes:
    """Where an output changes when a patch appears in a corner of the image.

    Holds, for every axis, the shares ``[corner, position]`` of the squared change.
    """

    def __init__(self, output: torch.Tensor) -> None:
        axes = range(1, output.ndim)
        scene, along = output[0].float(), []
        for with_patch in output[1:]:
            change = (with_patch.float() - scene).square_()
            along.append([change.sum([a - 1 for a in axes if a != axis]) for axis in axes])
        shares = [torch.stack(own).cpu().double() for own in zip(*along, strict=True)]
        self._along = [own / own.sum(1, keepdim=True).clamp_min(1e-300) for own in shares]

    def support(self, dims: Sequence[str]) -> bool:
        """Whether changes move along rows and columns of a square, or along a line."""
        along, _ = self._moved(dims)
        sides = {self._along[dims.index(dim)].shape[1] for dim in ("y", "x")}
        return (
            bool(along)
            and len(sides - {1}) == 1
            and min(along) > _MOVES
            and not self.contradict(dims)
        )

    def contradict(self, dims: Sequence[str]) -> bool:
        """Whether changes move along only one of rows and columns, or more along other axes."""
        along, across = self._moved(dims)
        if not along:
            return False  # a map of one location
        one_of_both = min(along) < _MOVES and max(along) > _MOVES_FAR
        return one_of_both or max(map(abs, across)) > max(_MOVES_FAR, min(along))

    def _moved(self, dims: Sequence[str]) -> tuple[list[float], list[float]]:
        """Movement along rows and columns with the patch, and along any other axis."""
        along, across = [], []
        for own, dim in zip(self._along, dims, strict=True):
            for name, move in zip(("y", "x"), _moves(own), strict=True):
                if dim != name:
                    across.append(move)
                elif own.shape[1] > 1:
                    along.append(move)
        return along, across

    def are_patches(self, axis: int) -> bool:
        """Whether an axis holds patches row by row, with or without a class token first."""
        own = self._along[axis]
        if not _may_be_map(own.shape[1]):
            return False
        side = isqrt(own.shape[1])
        grid = own[:, own.shape[1] - side**2 :].reshape(len(own), side, side)
        return _moves(grid.sum(2))[0] > _MOVES and _moves(grid.sum(1))[1] > _MOVES

    def apart(self, axis: int) -> float:
        """Largest difference between corners of the shares along an axis, from 0 to 1."""
        own = self._along[axis]
        return float(max((one - other).abs().sum() / 2 for one in own for other in own))


def _moves(along: torch.Tensor) -> tuple[float, float]:
    """Shift of shares ``[corner, position]`` towards the end as the patch moves down, and right.

    The smallest shift between corners; negative towards the beginning.
    """
    half = along.shape[1] // 2
    if not half:
        return 0.0, 0.0
    begin, end = along[:, :half].sum(1), along[:, -half:].sum(1)
    later = (end / (begin + end).clamp_min(1e-300)).tolist()
    top, bottom, left, right = later[:2], later[2:], later[::2], later[1::2]
    return _from_to(top, bottom), _from_to(left, right)


def _from_to(before: Sequence[float], after: Sequence[float]) -> float:
    if min(after) > max(before):
        return min(after) - max(before)
    return min(0.0, max(after) - min(before))


def _may_be_map(tokens: int) -> bool:
    """Whether ``tokens`` can be a square map of patches, with or without a class token.

    Not four or five: each patch would be in a corner.
    """
    return tokens > 5 and isqrt(tokens) ** 2 in (tokens, tokens - 1)


def _is_of(module: nn.Module, suffix: str) -> bool:
    """Whether a class name such as Conv2d tells the module's dimensions: channels come first."""
    return any(kind.__name__.endswith(suffix) for kind in type(module).__mro__)


def _channels_are_last(module: nn.Module) -> bool:
    norm = any(kind.__name__ in ("LayerNorm", "RMSNorm") for kind in type(module).__mro__)
    return isinstance(module, nn.Linear | nn.MultiheadAttention) or (
        norm and not _is_of(module, "2d")
    )
