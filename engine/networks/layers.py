"""Recordable layers of a network, found by forward passes over noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import UserError, nearest, shortened
from ..layer import DTYPES, Layer, dims_of, is_function, refuse_units
from ..limits import refuse_numbers
from ..preprocessing import Preprocessing
from ..registry import ROOT_NAMES
from ..spec import Network
from .backbones import load_backbone, overridden
from .blocks import name_blocks
from .dims import join, name_dims, trial_images
from .inputs import Inputs
from .lending import generators_kept, lent
from .libraries.given import own_preprocessing
from .modules import INPUT, module_of, named_modules, run, single_tensor, watch
from .placement import as_input
from .uncompiled import plain
from .units.reduction import reduced
from .units.transformer import Transformer, transformer_of

# Patterns that name groups of layers.
_GROUPS = ("blocks", "all", "leaf")
# Images of the trial pass, and of a second one: a layer may have as many rows by chance.
TRIAL_STIMULI, _OTHER_NUMBER = 5, 2


@dataclass(frozen=True)
class Recordable:
    """Result of :func:`fusiform.layers`.

    Attributes
    ----------
    layers : tuple of Layer
        The layers, in the order in which they finished.
    refused : dict of str to str
        Modules that cannot be recorded -> the reason.
    blocks : tuple of str
        Names of the layers of the pattern ``blocks``.
    leaves : tuple of str
        Names of the layers of the pattern ``leaf``.
    transformer : Transformer
        Tokens and attention heads, as far as names and shapes tell.
    """

    layers: tuple[Layer, ...]
    refused: dict[str, str]
    blocks: tuple[str, ...]
    leaves: tuple[str, ...]
    transformer: Transformer


def layers(
    network: Network | str | nn.Module, *, crop: int | None = None, units: str = "all"
) -> Recordable:
    """Recordable layers of a network, in network order.

    Parameters
    ----------
    network : Network, str or torch.nn.Module
        A network, or its name or torch module alone; by name it is built untrained: nothing is
        downloaded.
    crop : int, optional
        Side of the input in pixels; by default the network's own.
    units : str, default "all"
        List layers as a scan with these units records them, see :class:`fusiform.Design`.

    Returns
    -------
    Recordable
        The layers with their dimensions and shapes, and modules that cannot be recorded.

    Raises
    ------
    UserError
        The model is unknown, or does not run on images of this size; the units are unknown, or no
        layer has them.

    Examples
    --------
    >>> found = fusiform.layers("resnet18", crop=64)
    >>> [layer.name for layer in found.layers][:3]
    ['conv1', 'bn1', 'relu']
    >>> found.blocks[-1], found.layers[-1].shape
    ('avgpool', (1000,))
    """
    refuse_units(units)
    if is_function(units):
        raise UserError(
            f"units of a function are known of the layers that a scan gives it; got {units!r}: "
            "`plan` a scan, or list layers without `units`"
        )
    network = Network.of(network)
    if isinstance(network.model, str):
        given = network.preprocessing
        crop = given.get("crop") if crop is None and isinstance(given, Mapping) else crop
        if crop is not None:
            given = Preprocessing()  # the network's own may be unknown
        backbone = load_backbone(replace(network, weights="none", preprocessing=given))
        side = backbone.preprocessing.crop if crop is None else crop
        found = trial(backbone.model, side, units=units)
    else:
        with lent(network.model):
            model = plain(network.model)
            if crop is None:
                crop = overridden(own_preprocessing(model), network.preprocessing).crop
            found = trial(model, crop, units=units)
    taken = reduced(found.layers, units, found.transformer)
    left_out = [layer.name for layer in found.layers if layer.name not in taken.reductions]
    refused = {**found.refused, **dict.fromkeys(left_out, "has no tokens")}
    return replace(found, layers=taken.layers, refused=refused)


def trial(
    model: nn.Module, shown: int | Inputs, layers: Iterable[str] = (), units: str = "all"
) -> Recordable:
    """Run ``model``, in evaluation mode, on two batches to find its recordable layers.

    Parameters
    ----------
    shown : the side of images of noise; or some stimuli, where the network takes something else

    Inputs of modules are found where a pattern of ``layers`` names them. With units ``head`` the
    inputs of attention's output projections are the only layers.

    Raises
    ------
    UserError : the network does not run on these, or in its own precision; or there are no heads
    """
    images = noise(model, shown)
    modules = dict(named_modules(model))
    heads = transformer_of(model).heads if units == "head" else {}
    asked = [pattern for pattern in layers if isinstance(pattern, str) and pattern.endswith(INPUT)]
    inputs = [name for name in (module + INPUT for module in modules) if name not in modules
              and (name in heads or any(fnmatchcase(name, own) for own in asked))]  # fmt: skip
    with untouched(model):
        calls, found = _described(model, images, inputs)
        again, other = _described(model, images[:_OTHER_NUMBER], inputs)
    outputs = {name: _in_both(output, other.get(name, output)) for name, output in found.items()}
    names = [*modules, *inputs]
    sorted_out = _sort_out(model, names, {**again, **calls}, {**outputs, **other, **outputs})
    return _heads_alone(sorted_out, model) if units == "head" else sorted_out


def noise(model: nn.Module, shown: int | Inputs) -> torch.Tensor | Inputs:
    """Images of noise of a side, as the network takes them; other stimuli as they are.

    Raises
    ------
    UserError : the side is below 1
    """
    if isinstance(shown, Inputs):
        return shown
    refuse_numbers(crop=shown)
    if shown < 1:
        raise UserError(f"the side of an image is 1 pixel or more; got crop {shown}")
    return as_input(trial_images(shown), model)


def _heads_alone(found: Recordable, model: nn.Module) -> Recordable:
    """The inputs of attention's output projections.

    Raises
    ------
    UserError : there are none, or none can be recorded
    """
    heads = found.transformer.heads
    layers = tuple(layer for layer in found.layers if layer.name in heads)
    refused = {name: why for name, why in found.refused.items() if name in heads}
    if not layers:
        inside = [name for name, module in named_modules(model)
                  if isinstance(module, nn.MultiheadAttention)]  # fmt: skip
        why = (
            f"torch's MultiheadAttention computes it inside ({shortened(inside, 3)}): scan a "
            "network that calls it as a module, such as one of timm"
            if inside
            else f"{next(iter(refused))} {next(iter(refused.values()))}: choose other units"
            if refused
            else "this network has none with a known number of heads: choose other units"
        )
        raise UserError(f"units head come from the input of attention's output projection; {why}")
    names = tuple(layer.name for layer in layers)
    return replace(found, layers=layers, refused=refused, blocks=names, leaves=names)


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
    model: nn.Module, images: torch.Tensor | Inputs, inputs: Iterable[str]
) -> tuple[dict[str, int], dict[str, Layer | str]]:
    """Number of calls of every module, and its output: a layer, or the reason why it is none.

    The same of ``inputs``.
    """
    modules = dict(named_modules(model))
    calls: dict[str, int] = {}
    outputs: dict[str, Layer | str] = {}
    is_noise = len(images) == TRIAL_STIMULI and isinstance(images, torch.Tensor)

    def note(name: str, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        module = module_of(modules, name)
        outputs[name] = _describe(name, module, output, len(images), is_noise)

    hooks = [watch(modules, name, partial(note, name)) for name in (*modules, *inputs)]
    try:
        run(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, outputs


def _describe(name: str, module: nn.Module, output: Any, rows: int, is_noise: bool) -> Layer | str:
    tensor = single_tensor(output)
    does = "takes" if name.endswith(INPUT) and isinstance(output, tuple) else "returns"
    if tensor is None:
        inside = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
        return f"{does} a {type(output).__name__}{inside}, not one tensor"
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        return f"{does} {tensor.dtype}, not floating-point numbers of 16 bits or more"
    if tensor.ndim < 2 or tensor.shape[0] != rows:
        return f"{does} shape {list(tensor.shape)} for {rows} images: no row per image"
    shape = tuple(tensor.shape[1:])
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
    model: nn.Module, names: Iterable[str], calls: dict[str, int], outputs: dict[str, Layer | str]
) -> Recordable:
    modules = dict(named_modules(model))
    refused = {name: _not_run(modules, name) for name in names if name not in calls}
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
    returned = [layer for layer in layers if layer.name in modules]
    leaves = tuple(one.name for one in returned if not any(modules[one.name].children()))
    blocks = name_blocks(model, [name for name in outputs if name in modules], returned)
    transformer = transformer_of(model, layers)
    return Recordable(tuple(layers), refused, blocks, leaves, transformer)


def _not_run(modules: Mapping[str, nn.Module], name: str) -> str:
    around = modules.get(name.removesuffix(INPUT).rpartition(".")[0])
    inside = isinstance(around, nn.MultiheadAttention)
    why = ", as torch's MultiheadAttention computes it inside" if inside else ""
    return f"is not run by a forward pass{why}"


def choose(found: Recordable, patterns: Iterable[str]) -> tuple[tuple[Layer, ...], list[str]]:
    """Layers that match ``patterns``, in network order, and notes on what was left out.

    A pattern is ``blocks`` (see :func:`.blocks.name_blocks`; leaves where there are none), ``all``,
    ``leaf`` (modules without children), a dotted name, or a glob on dotted names. ``NAME.input`` is
    what a module takes.

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
            why = f"{left_out[0]} {found.refused[left_out[0]]}" if left_out else ""
            raise UserError(
                f"no layer matches {pattern!r}: {why or nearest(pattern, by_name)} "
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
