"""Forward hooks: every chosen layer's activations, as they come out of the network."""

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
    """Raised inside the network once the last wanted layer has been seen."""


@contextmanager
def capture(
    model: nn.Module, layers: Collection[str], on_activation: OnActivation
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Hook ``layers`` of ``model`` and give a function that shows it a batch of images.

    ``on_activation(layer, activation)`` is called while the forward pass stands still right after
    the module, so that operations that later write into the same memory do no harm; the tensor must
    not be kept. The pass is left after the last wanted layer. Hooks are gone when the context ends.

    Raises
    ------
    UserError : in the forward pass, when a layer is called twice, not at all, or gives no tensor,
        or none with a row for every image
    """
    modules = dict(named_modules(model))
    seen: set[str] = set()
    rows = 0  # of the batch

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in seen:
                raise UserError(
                    f"a layer is recorded once per forward pass; {name} is called again: "
                    "name a module inside or around it"
                )
            activation = single_tensor(output)
            if activation is None:
                raise UserError(f"a layer gives one tensor; {name} gave {type(output).__name__}")
            if activation.ndim < 2 or len(activation) != rows:
                raise UserError(
                    f"a layer has a row for every image; {name} gave {list(activation.shape)} for "
                    f"a batch of {rows}: leave it out of --layers"
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
            # Not inference mode: what a network keeps of it, it could never be trained with.
            with torch.no_grad():
                model(images)
        except _Enough:
            return
        absent = [name for name in layers if name not in seen]
        raise UserError(
            f"a layer is recorded in every forward pass; {absent[0]} was not run in one"
        )

    hooks = [modules[name].register_forward_hook(hook_for(name)) for name in layers]
    try:
        yield show
    finally:
        for hook in hooks:
            hook.remove()
