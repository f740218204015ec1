"""Blocks of a network, found by structure so that any library works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from torch import nn

from ..layer import Layer


def name_blocks(
    model: nn.Module, finished: Sequence[str], layers: Sequence[Layer]
) -> tuple[str, ...]:
    """Names of the stem, every residual or transformer block, and the pooled output.

    Parameters
    ----------
    finished : all modules in the order in which a forward pass finished them
    layers : the recordable ones, in the same order

    Returns
    -------
    names in network order, including blocks that cannot be recorded; empty if no block can
    """
    blocks = find_blocks(model)
    recordable = [layer.name for layer in layers]
    inner = [name for name in blocks if name in recordable]
    if not inner:
        return ()
    stem = _stem(finished, recordable, inner[0])
    return (*stem, *blocks, *_pooled(layers, dict(model.named_modules()), inner[-1]))


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def _is_composite(module: nn.Module) -> bool:
    return not _is_container(module) and any(True for _ in module.children())


def _is_one_layer(module: nn.Module) -> bool:
    """Whether one part of the module has weights, as in a convolution and its norm."""
    owners = [any(p.ndim > 1 for p in part.parameters(recurse=False)) for part in module.modules()]
    return sum(owners) == 1


def _are_layers(container: nn.Module) -> bool:
    """Whether most modules in a container are one layer each; others may gate channels."""
    single = [_is_one_layer(part) for part in container.children()]
    return 2 * sum(single) > len(single)


def _holds_blocks(module: nn.Module, repeated: bool) -> bool:
    """Whether the module holds a stage: a container of nothing but composite modules.

    Layers in a row, each with its norm, are a stage only in a module that is not ``repeated``: one
    that is, is itself the block (ResNets of transformers, Inception-v4).
    """
    return any(
        _is_container(part)
        and len(list(part.children()))
        and all(map(_is_composite, part.children()))
        and not (repeated and _are_layers(part))
        for part in module.modules()
    )


def find_blocks(model: nn.Module) -> list[str]:
    """Residual and transformer blocks, by structure.

    Blocks are the outermost composite modules that hold no stage and are members of a container. If
    no container has any, they are the composite modules whose class occurs more than once.
    """
    kinds = Counter(map(type, model.modules()))
    in_containers: list[str] = []
    elsewhere: dict[str, type[nn.Module]] = {}

    def descend(parent: nn.Module, prefix: str) -> None:
        for name, child in parent.named_children():
            repeated = _is_container(parent) and kinds[type(child)] > 1
            if _is_container(child) or _holds_blocks(child, repeated):
                descend(child, f"{prefix}{name}.")
            elif _is_composite(child) and _is_container(parent):
                in_containers.append(prefix + name)
            elif _is_composite(child):
                elsewhere[prefix + name] = type(child)

    descend(model, "")
    others = list(elsewhere.values())
    return in_containers or [name for name, kind in elsewhere.items() if others.count(kind) > 1]


def _stem(finished: Sequence[str], recordable: Sequence[str], first: str) -> list[str]:
    """Input of the first block: the last recordable layer that finished before it began."""
    earlier = takewhile(lambda name: not f"{name}.".startswith(f"{first}."), finished)
    return [name for name in earlier if name in recordable][-1:]


def _pooled(layers: Sequence[Layer], modules: dict[str, nn.Module], last: str) -> list[str]:
    """Pooled output: the first layer after the last block with one vector per stimulus.

    Only layers before a classifier count. If none has one vector per stimulus (a class token), the
    last of them is taken.
    """

    def classifies(layer: Layer) -> bool:
        return isinstance(modules.get(layer.name), nn.Linear) and layer.dims == ("unit",)

    def pools(layer: Layer) -> bool:
        return layer.dims != ("token", "channel") and max(layer.shape) == layer.units

    after = layers[[layer.name for layer in layers].index(last) + 1 :]
    # A container around the last block repeats the block's output.
    after = [layer for layer in after if not last.startswith(f"{layer.name}.")]
    body = list(takewhile(lambda layer: not classifies(layer), after))
    return [layer.name for layer in ([layer for layer in body if pools(layer)][:1] or body[-1:])]
