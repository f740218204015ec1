"""Recordable layers of a network, found by forward passes over noise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from numbers import Number
from typing import Any

import torch
from torch import nn

from ..errors import UserError, nearest, shortened
from ..layer import Layer, dims_of, refuse_units
from ..limits import refuse_numbers
from ..preprocessing import Preprocessing
from ..registry import ROOT_NAMES
from ..spec import Network
from .backbones import load_backbone, overridden
from .blocks import name_blocks
from .dims import join, name_dims, trial_images
from .inputs import Inputs, called
from .lending import generators_kept, lent
from .placement import as_input
from .uncompiled import plain
from .units import reduced, reduced_layer

# Layer name of the whole network.
OUTPUT = "output"
# Patterns that name groups of layers.
_GROUPS = ("blocks", "all", "leaf")
# Images of the trial pass, and of a second one: a layer may have as many rows by chance.
TRIAL_STIMULI, _OTHER_NUMBER = 5, 2
# Messages of torch about mixed or unsupported precisions.
_DTYPES_CLASH = re.compile(
    r"dtype|scalar ?type|bfloat16|\bhalf\b|\b(input|weight|bias) type\b|can't be cast", re.I
)


@dataclass(frozen=True)
class Recordable:
    """Result of the trial pass.

    ``layers`` are in the order in which they finished. ``refused`` maps modules that cannot be
    recorded to the reason. ``blocks`` and ``leaves`` are the modules of these patterns.
    """

    layers: tuple[Layer, ...]
    refused: dict[str, str]
    blocks: tuple[str, ...]
    leaves: tuple[str, ...]


def layers(
    network: Network | str | nn.Module, *, crop: int | None = None, units: str = "all"
) -> Recordable:
    """Recordable layers of a network, in network order.

    Parameters
    ----------
    network : a :class:`fusiform.Network`, or its name or torch module alone; by name it is built
        untrained: nothing is downloaded
    crop : side of the input in pixels; by default the network's own
    units : list layers as a scan with these units records them, see :class:`fusiform.Design`

    Raises
    ------
    UserError : unknown model, or one that does not run on images of this size; unknown units, or
        units that no layer has

    Examples
    --------
    >>> [layer.name for layer in fusiform.layers("resnet18").layers][:3]
    ['conv1', 'bn1', 'maxpool']
    """
    refuse_units(units)
    network = Network.of(network)
    if isinstance(network.model, str):
        given = network.preprocessing
        crop = given.get("crop") if crop is None and isinstance(given, Mapping) else crop
        if crop is not None:
            given = Preprocessing()  # the network's own may be unknown
        backbone = load_backbone(replace(network, weights="none", preprocessing=given))
        found = trial(backbone.model, backbone.preprocessing.crop if crop is None else crop)
    else:
        side = overridden(Preprocessing(), network.preprocessing).crop if crop is None else crop
        with lent(network.model):
            found = trial(plain(network.model), side)
    left_out = [layer.name for layer in found.layers if not reduced_layer(layer, units)]
    refused = {**found.refused, **dict.fromkeys(left_out, "has no tokens")}
    return replace(found, layers=reduced(found.layers, units)[0], refused=refused)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules by dotted name; the network itself is ``output``, or ``output_`` if taken."""
    root = f"{OUTPUT}_" if OUTPUT in dict(model.named_children()) else OUTPUT
    for name, module in model.named_modules():
        yield name or root, module


def single_tensor(output: Any) -> torch.Tensor | None:
    """The only tensor of a module's output, alone or beside plain values in a tuple or dict."""
    if isinstance(output, torch.Tensor):
        return output
    inside = list(output.values()) if isinstance(output, dict) else output
    if isinstance(inside, tuple | list):
        tensors = [item for item in inside if not _is_plain(item)]
        if len(tensors) == 1 and isinstance(tensors[0], torch.Tensor):
            return tensors[0]
    return None


def _is_plain(value: Any) -> bool:
    """Whether a value holds no tensor: a number, string, dtype or device, or several of them."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Number | str | torch.dtype | torch.device)


def trial(model: nn.Module, shown: int | Inputs) -> Recordable:
    """Run ``model``, in evaluation mode, on two batches to find its recordable layers.

    Parameters
    ----------
    shown : the side of images of noise; or some stimuli, where the network takes something else

    Raises
    ------
    UserError : the network does not run on these, or in its own precision
    """
    images: torch.Tensor | Inputs
    if isinstance(shown, Inputs):
        images = shown
    else:
        refuse_numbers(crop=shown)
        if shown < 1:
            raise UserError(f"the side of an image is 1 pixel or more; got crop {shown}")
        images = as_input(trial_images(shown), model)
    with untouched(model):
        calls, found = _described(model, images)
        again, other = _described(model, images[:_OTHER_NUMBER])
    outputs = {name: _in_both(output, other.get(name, output)) for name, output in found.items()}
    return _sort_out(model, {**again, **calls}, {**outputs, **other, **outputs})


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore a network's buffers, and the random generators of torch, NumPy and Python.

    Modules in training mode update their running statistics in every forward pass.
    """
    before = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with generators_kept(model.parameters()):
        try:
            yield
        finally:
            with torch.no_grad():
                for module, name, buffer, values in before:
                    module._buffers[name] = buffer
                    if not buffer.equal(values):
                        buffer.copy_(values)


def _described(
    model: nn.Module, images: torch.Tensor | Inputs
) -> tuple[dict[str, int], dict[str, Layer | str]]:
    """Number of calls of every module, and its output: a layer, or the reason why it is none."""
    calls: dict[str, int] = {}
    outputs: dict[str, Layer | str] = {}
    is_noise = len(images) == TRIAL_STIMULI and isinstance(images, torch.Tensor)

    def note(name: str, module: nn.Module, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs[name] = _describe(name, module, output, len(images), is_noise)

    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
        for name, module in named_modules(model)
    ]
    try:
        run(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, outputs


def run(model: nn.Module, images: torch.Tensor | Inputs) -> None:
    """Run ``model`` without gradients. Not in inference mode, or it could not be trained later.

    Raises
    ------
    UserError : the network does not run on these images
    """
    entered: list[str] = []
    hooks = []

    def leave(*_: Any) -> None:
        entered.pop()

    for name, module in named_modules(model):
        hooks += [
            module.register_forward_pre_hook(lambda *_, name=name: entered.append(name)),
            module.register_forward_hook(leave),
        ]
    try:
        with torch.no_grad():
            called(model, images)
    except (
        RuntimeError, ValueError, AssertionError, TypeError, LookupError, AttributeError
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(images, Inputs):
            raise UserError(
                f"the network must run on its stimuli as they are; it fails with {reason!r}: give "
                "it what it takes, a tuple for several arguments, a dictionary for named ones"
            ) from error
        if _DTYPES_CLASH.search(reason):
            dtype = str(images.dtype).removeprefix("torch.")
            raise UserError(
                f"a network with {dtype} input computes in it throughout; "
                f"{entered[-1] if entered else OUTPUT} does not, and fails with {reason!r}: choose "
                "another `precision`, or leave it out"
            ) from error
        crop = images.shape[-1]
        raise UserError(
            f"the network must run on images [batch, 3, {crop}, {crop}]; it fails with "
            f"{reason!r}: choose its input size with `crop`"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def _describe(name: str, module: nn.Module, output: Any, rows: int, is_noise: bool) -> Layer | str:
    tensor = single_tensor(output)
    if tensor is None:
        inside = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
        return f"returns a {type(output).__name__}{inside}, not one tensor"
    if not tensor.is_floating_point():
        return f"returns {tensor.dtype}, not floating-point numbers"
    if tensor.ndim < 2 or tensor.shape[0] != rows:
        return f"returns shape {list(tensor.shape)} for {rows} images: no row per image"
    shape = tuple(tensor.shape[1:])
    dtype = str(tensor.dtype).removeprefix("torch.")
    dims = name_dims(module, tensor) if is_noise else dims_of(shape)
    return Layer(name, type(module).__name__, dims, shape, dtype)


def _in_both(one: Layer | str, other: Layer | str) -> Layer | str:
    """Merge a module's outputs of two batches: a layer if shape and dtype per image agree."""
    if isinstance(one, str):
        return one
    if isinstance(other, str):
        return other
    if (one.shape, one.dtype) == (other.shape, other.dtype):
        return one
    return (
        f"returns {one.dtype} {list(one.shape)} for each of {TRIAL_STIMULI} images and "
        f"{other.dtype} {list(other.shape)} for each of {_OTHER_NUMBER}: not the same"
    )


def _sort_out(
    model: nn.Module, calls: dict[str, int], outputs: dict[str, Layer | str]
) -> Recordable:
    modules = dict(named_modules(model))
    refused = {name: "is not run by a forward pass" for name in modules if name not in calls}
    layers = []
    for name, output in outputs.items():
        if name in ROOT_NAMES:
            refused[name] = "has a name reserved by the store"
        elif calls[name] > 1:
            refused[name] = f"is called {calls[name]} times in a forward pass"
        elif isinstance(output, str):
            refused[name] = output
        else:
            layers.append(output)
    layers = join(layers)
    names = [layer.name for layer in layers]
    leaves = tuple(name for name in names if not any(modules[name].children()))
    blocks = name_blocks(model, list(outputs), layers)
    return Recordable(tuple(layers), refused, blocks, leaves)


def choose(found: Recordable, patterns: Iterable[str]) -> tuple[tuple[Layer, ...], list[str]]:
    """Layers that match ``patterns``, in network order, and notes on what was left out.

    A pattern is ``blocks`` (every residual or transformer block, the stem before and the pooled
    output after them), ``all``, ``leaf`` (modules without children), a dotted name, or a glob on
    dotted names.

    Raises
    ------
    UserError : no pattern, a pattern without a match, or a module that cannot be recorded
    """
    patterns = list(patterns)
    if not patterns:
        raise UserError("a scan records at least one layer; got none: name layers, or 'blocks'")
    by_name = {layer.name: layer for layer in found.layers}
    chosen: set[str] = set()
    notes = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UserError(f"layers are names or globs; got {pattern!r}: 'blocks' is the default")
        if pattern in found.refused and pattern not in _GROUPS:
            raise UserError(
                f"a layer returns one tensor, once, per forward pass; {pattern} "
                f"{found.refused[pattern]}: choose a module inside or around it"
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
    """Names of all modules that match a pattern, recordable or not."""
    # A module may have the name of a group (a transformer's "blocks"): the group wins.
    if pattern == "blocks":
        return list(found.blocks or found.leaves)
    if pattern == "leaf":
        return list(found.leaves)
    everything = [*(layer.name for layer in found.layers), *found.refused]
    return [name for name in everything if pattern == "all" or fnmatchcase(name, pattern)]
