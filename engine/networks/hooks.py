"""Activations of the chosen layers, by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .layers import named_modules, single_tensor

OnActivation = Callable[[str, torch.Tensor], None]


class _Enough(Exception):
    """Raised inside the network after the last chosen layer, to skip the rest."""


@contextmanager
def capture(
    model: nn.Module, layers: Collection[str], on_activation: OnActivation
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Hook ``layers`` of ``model`` and yield a function that runs it on a batch of images.

    ``on_activation(layer, activation)`` is called right after the module and before later in-place
    operations can change the tensor, which must not be kept. The forward pass stops after the last
    chosen layer. Hooks are removed on exit.

    Raises
    ------
    UserError : in the forward pass, if a layer is called twice or not at all, or does not return a
        tensor with one row per image
    """
    modules = dict(named_modules(model))
    seen: set[str] = set()
    rows = 0  # of the batch

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in seen:
                raise UserError(
                    f"a layer is recorded once per forward pass; {name} is called twice: "
                    "choose a module inside or around it"
                )
            activation = single_tensor(output)
            if activation is None:
                raise UserError(
                    f"a layer returns one tensor; {name} returned {type(output).__name__}"
                )
            if activation.ndim < 2 or len(activation) != rows:
                raise UserError(
                    f"a layer returns one row per image; {name} returned "
                    f"{list(activation.shape)} for a batch of {rows}: leave it out of `layers`"
                )
            seen.add(name)
            on_activation(name, activation.detach())
            if len(seen) == len(layers):
                raise _Enough

        return hook

    def show(images: torch.Tensor) -> None:
        nonlocal rows
        seen.clear()
        rows = len(images)
        try:
            # Not inference mode: tensors that the network caches in it could never be trained with.
            with torch.no_grad():
                model(images)
        except _Enough:
            return
        absent = [name for name in layers if name not in seen]
        raise UserError(f"a layer runs in every forward pass; {absent[0]} was skipped in one")

    hooks = [modules[name].register_forward_hook(hook_for(name)) for name in layers]
    try:
        yield show
    finally:
        for hook in hooks:
            hook.remove()
