"""Forward hooks: capture the activations of layers, or silence units (a lesion)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import UserError, nearest
from ..layer import is_function, refuse_units
from .inputs import Inputs, called
from .modules import is_layer, named_modules, single_tensor, watch
from .uncompiled import uncompiled
from .units.reduction import spread
from .units.transformer import Transformer, transformer_of

OnActivation = Callable[[str, torch.Tensor], None]


class _Enough(Exception):
    """Raised inside the network after the last chosen layer, to skip the rest."""


@contextmanager
def capture(
    model: nn.Module, layers: Collection[str], on_activation: OnActivation
) -> Iterator[Callable[[torch.Tensor | Inputs], None]]:
    """Hook ``layers`` of ``model`` and yield a function that runs it on a batch of images.

    ``on_activation(layer, activation)`` is called right after the module, for its input right
    before, and before later in-place operations can change the tensor, which must not be kept. The
    forward pass stops after the last chosen layer. Hooks are removed on exit.

    Raises
    ------
    UserError : in the forward pass, if a layer is called twice or not at all, or does not return a
        tensor with one row per image
    """
    modules = dict(named_modules(model))
    seen: set[str] = set()
    rows = 0  # of the batch

    def hook_for(name: str) -> Callable[[Any], None]:
        def hook(output: Any) -> None:
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

    def show(images: torch.Tensor | Inputs) -> None:
        nonlocal rows
        seen.clear()
        rows = len(images)
        try:
            # Not inference mode: tensors that the network caches in it could never be trained with.
            with torch.no_grad():
                called(model, images)
        except _Enough:
            return
        absent = [name for name in layers if name not in seen]
        raise UserError(f"a layer runs in every forward pass; {absent[0]} was skipped in one")

    hooks = [watch(modules, name, hook_for(name)) for name in layers]
    try:
        yield show
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def lesion(
    model: nn.Module,
    masks: Mapping[str, NDArray[np.bool_]],
    to: float = 0.0,
    units: str = "all",
) -> Iterator[nn.Module]:
    """Silence units of a network inside the context.

    Parameters
    ----------
    model : torch.nn.Module
        Hooks change the outputs of its layers; its weights stay as they are. A compiled module runs
        uncompiled meanwhile.
    masks : mapping of str to array of bool
        Layer name -> units to silence, in the shape of the layer's output for one stimulus, as
        :meth:`Store.mask` and :meth:`Store.lesions` return them.
    to : float, default 0.0
        Value of a silenced unit.
    units : str, default "all"
        The units of the masks, as in the scan (``store.units``). Everything behind a unit of a
        reduced layer is silenced: for ``channel`` the whole feature map, for ``token`` all channels
        of a token or location, for ``cls`` a channel of the first token only, for ``patch`` a
        channel of all patches, for ``head`` all channels of an attention head.

    Yields
    ------
    torch.nn.Module
        ``model``.

    Raises
    ------
    UserError
        A layer or the units are unknown, or a mask is not boolean; in the forward pass, if a mask
        does not have the shape of the layer's output (reduced to ``units``), or the layer does not
        return one tensor.

    See Also
    --------
    measure_lesions : Measure what a lesion changes, and what controls change.

    Examples
    --------
    >>> import numpy as np, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).eval()
    >>> with torch.no_grad(), fusiform.lesion(model, {"0": np.array([True, True, False])}):
    ...     output = model(torch.ones(1, 2))
    >>> output[0, :2]
    tensor([0., 0.])
    """
    refuse_units(units)
    refuse_functions(units)
    network = uncompiled(model)
    modules, transformer = dict(named_modules(network)), transformer_of(network)
    for name, mask in masks.items():
        if not is_layer(modules, name):
            raise UserError(
                f"a lesion is in a layer; there is no {name!r}: {nearest(name, modules)}"
            )
        if np.asarray(mask).dtype != np.bool_:
            raise UserError(
                f"a mask is boolean; the mask of {name} is {np.asarray(mask).dtype}: use a "
                "comparison such as t > 3"
            )
    hooks = [
        watch(
            modules, name, _silence(name, torch.from_numpy(np.array(mask)), to, units, transformer)
        )
        for name, mask in masks.items()
    ]
    # Compiled code does not run hooks added later.
    eager = nullcontext() if network is model else torch.compiler.set_stance("force_eager")
    try:
        with eager:
            yield model
    finally:
        for hook in hooks:
            hook.remove()


def refuse_functions(units: str) -> None:
    """Raise for units that a user's function makes: they are no elements of a layer.

    Raises
    ------
    UserError : they are
    """
    if is_function(units):
        raise UserError(
            f"a lesion silences elements of a layer; which of them a unit of {units} depends on is "
            "not known: scan other `units`, or change the network with hooks of your own"
        )


def _silence(
    name: str, mask: torch.Tensor, to: float, units: str, transformer: Transformer
) -> Callable[[Any], Any]:
    def hook(output: Any) -> Any:
        activation = single_tensor(output)
        if activation is None:
            raise UserError(f"a lesion needs one tensor; {name} returned {type(output).__name__}")
        shape = tuple(activation.shape[1:])
        whole = spread(mask, name, shape, units, transformer)
        if whole is None:
            reduction = f", reduced to units {units}" if units != "all" else ""
            remedy = ": pass the scan's `units` if it reduced it" if mask.ndim < len(shape) else ""
            raise UserError(
                f"a mask has the shape of its layer{reduction}; {name} returns {list(shape)} "
                f"per stimulus, its mask is {list(mask.shape)}{remedy}"
            )
        silenced = activation.masked_fill(whole.to(activation.device), to)
        return _replaced(output, activation, silenced)

    return hook


def _replaced(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """``output`` with one tensor replaced, in the same container."""
    if output is old:
        return new
    kind: Any = type(output)
    if isinstance(output, dict):
        return kind({key: new if value is old else value for key, value in output.items()})
    values = [new if value is old else value for value in output]
    return kind(*values) if hasattr(output, "_fields") else kind(values)
