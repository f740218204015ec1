"""What a network can record: one forward pass over placeholder images tells, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from ..errors import UserError, nearest, shortened
from ..spec import ROOT_NAMES, Layer, Preprocessing, dims_of
from .backbones import load_backbone
from .blocks import name_blocks
from .plain import plain
from .reduce import reduced, reduced_layer, refuse_units

# The output of the network as a whole, where its modules need a name for it.
OUTPUT = "output"
# Patterns that mean groups of layers.
_GROUPS = ("blocks", "all", "leaf")
# Stimuli of the trial pass: an uncommon number, so that a dimension of this size is the batch.
TRIAL_STIMULI = 5


@dataclass(frozen=True)
class Recordable:
    """What the trial pass found.

    ``layers`` stand in the order in which they finished; ``refused`` modules cannot be recorded,
    for the reason given; ``blocks`` and ``leaves`` are the modules that these patterns mean.
    """

    layers: tuple[Layer, ...]
    refused: dict[str, str]
    blocks: tuple[str, ...]
    leaves: tuple[str, ...]


def list_layers(
    model: str | nn.Module, *, crop: int | None = None, units: str = "all"
) -> Recordable:
    """What ``model`` can record: its layers in the order of the network, and what each default is.

    Parameters
    ----------
    model : a name as :func:`fusiform.scan` takes it (built untrained: nothing is downloaded), or a
        torch module
    crop : side of the input in pixels; by default the model's own
    units : layers as a scan with these units records them, see :func:`fusiform.scan`

    Raises
    ------
    UserError : unknown model, or one that does not run on images of this size; unknown units, or
        units that no layer has

    Examples
    --------
    >>> [layer.name for layer in fusiform.list_layers("resnet18").layers][:3]
    ['conv1', 'bn1', 'maxpool']
    """
    refuse_units(units)
    if isinstance(model, str):
        backbone = load_backbone(model, "none")
        found = trial(backbone.model, backbone.preprocessing.crop if crop is None else crop)
    else:
        found = trial(plain(model), Preprocessing().crop if crop is None else crop)
    left_out = [layer.name for layer in found.layers if not reduced_layer(layer, units)]
    refused = {**found.refused, **dict.fromkeys(left_out, "has no tokens")}
    return replace(found, layers=reduced(found.layers, units)[0], refused=refused)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules by dotted name; the network itself is called ``output``, where that is free."""
    root = f"{OUTPUT}_" if OUTPUT in dict(model.named_children()) else OUTPUT
    for name, module in model.named_modules():
        yield name or root, module


def input_dtype(model: nn.Module) -> torch.dtype:
    """The precision in which a network takes its images: that of its parameters."""
    types = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    return types[0] if types else torch.float32


def single_tensor(output: Any) -> torch.Tensor | None:
    """The one tensor in a module's output: itself, or alone in a tuple, list or dict."""
    if isinstance(output, torch.Tensor):
        return output
    inside = list(output.values()) if isinstance(output, dict) else output
    if isinstance(inside, tuple | list):
        tensors = [item for item in inside if item is not None]
        if len(tensors) == 1 and isinstance(tensors[0], torch.Tensor):
            return tensors[0]
    return None


def trial(model: nn.Module, crop: int) -> Recordable:
    """Run ``model`` once on placeholder images and list what it can record.

    Parameters
    ----------
    model : in evaluation mode
    crop : side of the input in pixels

    Raises
    ------
    UserError : the network does not run on images of this size
    """
    if crop < 1:
        raise UserError(f"the side of an image is 1 pixel or more; got crop {crop}")
    calls: dict[str, int] = {}
    outputs: dict[str, Layer | str] = {}
    hooks = []

    def note(name: str, module: nn.Module, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs[name] = _describe(name, module, output)

    for name, module in named_modules(model):
        hooks.append(module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out)))
    device = next(model.parameters(), torch.empty(0)).device
    images = torch.zeros(TRIAL_STIMULI, 3, crop, crop, device=device, dtype=input_dtype(model))
    try:
        with torch.inference_mode():
            model(images)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the network has to run on images [batch, 3, {crop}, {crop}]; it fails with "
            f"{reason!r}: choose its input size with --crop"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return _sort_out(model, calls, outputs)


def _describe(name: str, module: nn.Module, output: Any) -> Layer | str:
    tensor = single_tensor(output)
    if tensor is None:
        inside = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
        return f"returns a {type(output).__name__}{inside}, not one tensor"
    if not tensor.is_floating_point():
        return f"returns {tensor.dtype}, not floating-point numbers"
    if tensor.ndim < 2 or tensor.shape[0] != TRIAL_STIMULI:
        return f"returns shape {list(tensor.shape)} for {TRIAL_STIMULI} images: no row per image"
    shape = tuple(tensor.shape[1:])
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Layer(name, type(module).__name__, dims_of(shape), shape, dtype)


def _sort_out(
    model: nn.Module, calls: dict[str, int], outputs: dict[str, Layer | str]
) -> Recordable:
    modules = dict(named_modules(model))
    refused = {name: "is not run by a forward pass" for name in modules if name not in calls}
    layers = []
    for name, output in outputs.items():
        if name in ROOT_NAMES:
            refused[name] = "has a name that the store keeps for itself"
        elif calls[name] > 1:
            refused[name] = f"is called {calls[name]} times in a forward pass"
        elif isinstance(output, str):
            refused[name] = output
        else:
            layers.append(output)
    names = [layer.name for layer in layers]
    leaves = tuple(name for name in names if not any(modules[name].children()))
    blocks = name_blocks(model, list(outputs), layers)
    return Recordable(tuple(layers), refused, blocks, leaves)


def choose(found: Recordable, patterns: Iterable[str]) -> tuple[tuple[Layer, ...], list[str]]:
    """Layers that ``patterns`` name, in the order of the network, and notes on what was left out.

    A pattern is ``blocks`` (every residual or transformer block, the stem before and the pooled
    output after them), ``all``, ``leaf`` (modules without children), a dotted name, or a glob on
    dotted names.

    Raises
    ------
    UserError : no pattern, one that matches nothing, or the name of a module that cannot be
        recorded
    """
    patterns = list(patterns)
    if not patterns:
        raise UserError("a scan records one layer or more; got none: name layers, or 'blocks'")
    by_name = {layer.name: layer for layer in found.layers}
    chosen: set[str] = set()
    notes = []
    for pattern in patterns:
        if pattern in found.refused and pattern not in _GROUPS:
            raise UserError(
                f"a layer gives one tensor, once, per forward pass; {pattern} "
                f"{found.refused[pattern]}: name a module inside or around it"
            )
        meant = _meant(found, pattern)
        matched = [name for name in meant if name in by_name]
        left_out = [name for name in meant if name in found.refused]
        if not matched:
            raise UserError(
                f"no layer matches {pattern!r}: {nearest(pattern, by_name)} "
                "('fusiform layers MODEL' lists them)"
            )
        if pattern == "blocks" and not found.blocks:
            notes.append("this network has no residual or transformer blocks: recording its leaves")
        if left_out:
            notes.append(
                f"layers {pattern!r}: left out {len(left_out)} that cannot be recorded "
                f"({shortened((f'{name} {found.refused[name]}' for name in left_out), 3)})"
            )
        chosen |= set(matched)
    return tuple(layer for layer in found.layers if layer.name in chosen), notes


def _meant(found: Recordable, pattern: str) -> list[str]:
    """Names of the modules that a pattern means, whether they can be recorded or not."""
    # Modules may be called like a group (a transformer's "blocks"): then the group is meant.
    if pattern == "blocks":
        return list(found.blocks or found.leaves)
    if pattern == "leaf":
        return list(found.leaves)
    everything = [*(layer.name for layer in found.layers), *found.refused]
    return [name for name in everything if pattern == "all" or fnmatchcase(name, pattern)]
