"""Modules of a network and their inputs, by the names of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from numbers import Number
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import UserError
from .inputs import Inputs, called

# Layer name of the whole network.
OUTPUT = "output"
# Ending of the name of a layer that is what a module takes, not what it returns.
INPUT = ".input"
# Messages of torch about mixed or unsupported precisions.
_DTYPES_CLASH = re.compile(
    r"dtype|scalar ?type|bfloat16|\bhalf\b|\b(input|weight|bias) type\b|can't be cast", re.I
)


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


def module_of(modules: Mapping[str, nn.Module], layer: str) -> nn.Module:
    """The module that returns a layer, or takes it."""
    return modules[layer if layer in modules else layer.removesuffix(INPUT)]


def is_layer(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether a name is that of a module, or of a module's input."""
    return name in modules or (name.endswith(INPUT) and name.removesuffix(INPUT) in modules)


def watch(
    modules: Mapping[str, nn.Module], layer: str, see: Callable[[Any], Any]
) -> RemovableHandle:
    """Call ``see`` with the output of a module, or with the tuple of its positional inputs.

    A value that ``see`` returns replaces them.
    """
    module = module_of(modules, layer)
    if layer in modules:
        return module.register_forward_hook(lambda _, __, output: see(output))
    return module.register_forward_pre_hook(lambda _, given: see(given))


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
