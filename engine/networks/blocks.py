"""Blocks of a network, found by structure so that any library works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile

from torch import nn

from ..layer import Layer

# Most modules between two blocks; where there are more, they are branches.
_BETWEEN = 2


def name_blocks(
    model: nn.Module, finished: Sequence[str], layers: Sequence[Layer]
) -> tuple[str, ...]:
    """Names of the stem, every block, what stands between two blocks, and the pooled output.

    Parameters
    ----------
    finished : all modules in the order in which a forward pass finished them
    layers : the recordable ones, in the same order

    Returns
    -------
    names in network order, including blocks that cannot be recorded; empty if no block can
    """
    modules = dict(model.named_modules())
    recordable = [layer.name for layer in layers]
    blocks = _recorded(find_blocks(model), modules, finished, recordable)
    inner = [name for name in blocks if name in recordable]
    if not inner:
        return ()
    body = _with_what_is_between(blocks, modules, finished, recordable)
    stem = _stem(finished, recordable, inner[0])
    return (*stem, *body, *_pooled(layers, modules, inner[-1]))


def find_blocks(model: nn.Module) -> list[str]:
    """Residual and transformer blocks, by structure.

    Blocks are the outermost composite modules that hold no stage and are members of a container or
    stage; single layers before the first of them belong to the stem. If there are none, they are
    the composite modules whose class occurs more than once.
    """
    members, elsewhere = _composites(model)
    large = {type(module) for module in (*members.values(), *elsewhere.values())
             if _has_weights(module, 2)}  # fmt: skip
    if not members:
        kinds = [type(module) for module in elsewhere.values()]
        often = {name: one for name, one in elsewhere.items() if kinds.count(type(one)) > 1}
        return [name for name, one in often.items() if type(one) in large] or list(often)
    names, kinds = list(members), list(map(type, members.values()))
    first = next((place for place, kind in enumerate(kinds) if kind in large), 0)
    if len(names) == 1 and _composites(members[names[0]])[0]:  # a network in a wrapper
        return [f"{names[0]}.{inner}" for inner in find_blocks(members[names[0]])]
    return names[first:]


def _composites(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The outermost composite modules without a stage: members of containers or stages, others."""
    stages = _stages(model)
    members: dict[str, nn.Module] = {}
    elsewhere: dict[str, nn.Module] = {}

    def descend(parent: nn.Module, prefix: str) -> None:
        is_around = _is_container(parent) or type(parent) in stages
        for name, child in parent.named_children():
            if _is_container(child) or type(child) in stages or _holds_stage(child):
                descend(child, f"{prefix}{name}.")
            elif _is_composite(child):
                (members if is_around else elsewhere)[prefix + name] = child

    descend(model, "")
    return members, elsewhere


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def _is_composite(module: nn.Module) -> bool:
    """Whether a module is made of others, with weights; norms and activations have none."""
    return not _is_container(module) and _has_parts(module)


def _has_parts(module: nn.Module) -> bool:
    """Whether a module or container is made of others, with weights."""
    return any(True for _ in module.children()) and _has_weights(module, 1)


def _is_block(module: nn.Module) -> bool:
    """Whether a composite module may be a block: two of its layers mix channels, or more."""
    return _is_composite(module) and _has_weights(module, 2, mixing=True)


def _stages(model: nn.Module) -> set[type[nn.Module]]:
    """Classes of stages that are no containers: made of blocks of one class alone."""
    found = set()
    for parent in model.modules():
        for module in () if _is_container(parent) else parent.children():
            parts = list(module.children())
            alike = len(parts) > 1 and len(set(map(type, parts))) == 1
            if alike and not _is_container(module) and all(map(_is_block, parts)):
                found.add(type(module))
    return found


def _holds_stage(module: nn.Module) -> bool:
    """Whether a container of blocks alone is inside; parts without parameters do not count."""
    for container in filter(_is_container, module.modules()):
        parts = [part for part in container.children() if any(True for _ in part.parameters())]
        if parts and all(map(_is_block, parts)):
            return True
    return False


def _has_weights(module: nn.Module, number: int, *, mixing: bool = False) -> bool:
    """Whether so many parts of a module have weights; ``mixing``: depthwise ones do not count."""
    found = 0
    for part in module.modules():
        is_depthwise = getattr(part, "groups", 1) == getattr(part, "in_channels", 0)
        weights = any(one.ndim > 1 for one in part.parameters(recurse=False))
        found += weights and not (mixing and is_depthwise)
        if found == number:
            return True
    return False


def _recorded(
    blocks: Iterable[str],
    modules: dict[str, nn.Module],
    finished: Sequence[str],
    recordable: Sequence[str],
) -> list[str]:
    """Blocks, with others in place of those that cannot be recorded.

    The others are the outermost inside; if none of them can be recorded, the module around it.
    """
    blocks = list(blocks)
    good = set(blocks).intersection(recordable)

    def others(block: str) -> list[str]:
        if block not in finished:  # only training runs it
            return []
        inside = [one for one in recordable if _is_in(one, block) and _has_parts(modules[one])]
        around = "" if inside else block.rpartition(".")[0]
        while around and not any(_is_in(one, around) for one in good):
            if around in recordable:
                return [around]
            around = around.rpartition(".")[0]
        return _outermost(inside) or [block]

    found = (name for block in blocks for name in ([block] if block in good else others(block)))
    return list(dict.fromkeys(found))


def _with_what_is_between(
    blocks: Sequence[str],
    modules: dict[str, nn.Module],
    finished: Sequence[str],
    recordable: Sequence[str],
) -> list[str]:
    """Blocks, and what stands between two of them, such as a downsampling."""
    place = {name: number for number, name in enumerate(finished)}
    run = [name for name in blocks if name in place]
    run.sort(key=place.__getitem__)
    between: dict[str, list[str]] = {}
    for before, after in pairwise(run):
        passed = finished[place[before] + 1 : place[after]]
        own = _outermost(
            name
            for name in passed
            if _has_parts(modules[name])
            and not any(_is_in(one, name) or _is_in(name, one) for one in run)
        )
        if len(own) <= _BETWEEN:
            between[before] = [name for name in own if name in recordable]
    return [one for name in blocks for one in (name, *between.get(name, ()))]


def _is_in(name: str, around: str) -> bool:
    return name.startswith(f"{around}.")


def _outermost(names: Iterable[str]) -> list[str]:
    """Names that are in none of the others."""
    names = list(names)
    return [name for name in names if not any(_is_in(name, around) for around in names)]


def _stem(finished: Sequence[str], recordable: Sequence[str], first: str) -> list[str]:
    """Input of the first block: the last recordable layer that finished before it began."""
    earlier = takewhile(lambda name: not f"{name}.".startswith(f"{first}."), finished)
    return [name for name in earlier if name in recordable][-1:]


def _pooled(layers: Sequence[Layer], modules: dict[str, nn.Module], last: str) -> list[str]:
    """Pooled output: the first layer after the last block with one vector per stimulus.

    Only layers before a classifier count, and none inside a module that returns more. If none has
    one vector per stimulus (a class token), the last of them is taken.
    """

    def classifies(layer: Layer) -> bool:
        return isinstance(modules.get(layer.name), nn.Linear) and layer.dims == ("unit",)

    def pools(layer: Layer) -> bool:
        return layer.dims != ("token", "channel") and max(layer.shape) == layer.units

    after = layers[[layer.name for layer in layers].index(last) + 1 :]
    # A container around the last block repeats the block's output.
    after = [layer for layer in after if not last.startswith(f"{layer.name}.")]
    body = list(takewhile(lambda layer: not classifies(layer), after))
    larger = [layer.name for layer in after if not pools(layer)]
    pooled = [
        layer
        for layer in body
        if pools(layer) and not any(_is_in(layer.name, around) for around in larger)
    ]
    return [layer.name for layer in pooled[:1] or body[-1:]]
