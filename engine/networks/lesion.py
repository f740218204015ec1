"""Lesions: units that are silenced while a network runs, to see what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import UserError, nearest
from .layers import named_modules, single_tensor
from .uncompiled import uncompiled
from .units import refuse_units, spread


@contextmanager
def lesion(
    model: nn.Module,
    masks: Mapping[str, NDArray[np.bool_]],
    to: float = 0.0,
    units: str = "all",
) -> Iterator[nn.Module]:
    """Silence units of a network while the context lasts.

    Parameters
    ----------
    model : a torch module; its weights are left alone, its layers' outputs are changed by hooks.
        What torch.compile made of it runs as it was before
    masks : layer name -> the units to silence, in the shape of the layer's output for one stimulus;
        :meth:`Result.mask <fusiform.engine.querying.result.Result.mask>` gives one
    to : what a silenced unit gives instead of its response
    units : what a mask is of, as the scan had it (``result.units``). All that goes into a unit of a
        reduced layer is silenced: of ``channel`` the whole feature map, of ``token`` all channels
        of a token or place, of ``cls`` a channel of the first token, and of no other

    Yields
    ------
    ``model``

    Raises
    ------
    UserError : the model has no such layer, a mask is not boolean, there are no such units; in the
        forward pass, when a mask has not the shape of the layer's output, or that of its reduction
        to ``units``, or the layer gives no single tensor

    Examples
    --------
    >>> faces = result.mask("faces", "layer4.1")  # doctest: +SKIP
    >>> with fusiform.lesion(model, {"layer4.1": faces}):  # doctest: +SKIP
    ...     logits = model(images)
    """
    refuse_units(units)
    network = uncompiled(model)
    modules = dict(named_modules(network))
    for name, mask in masks.items():
        if name not in modules:
            raise UserError(
                f"a lesion is in a layer; there is no {name!r}: {nearest(name, modules)}"
            )
        if np.asarray(mask).dtype != np.bool_:
            raise UserError(
                f"a mask is boolean; that of {name} is {np.asarray(mask).dtype}: compare it first"
            )
    hooks = [
        modules[name].register_forward_hook(
            _silence(name, torch.from_numpy(np.array(mask)), to, units)
        )
        for name, mask in masks.items()
    ]
    # Code that torch.compile has made knows nothing of hooks that came later.
    eager = nullcontext() if network is model else torch.compiler.set_stance("force_eager")
    try:
        with eager:
            yield model
    finally:
        for hook in hooks:
            hook.remove()


def _silence(
    name: str, mask: torch.Tensor, to: float, units: str
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        activation = single_tensor(output)
        if activation is None:
            raise UserError(f"a lesion is in one tensor; {name} gave {type(output).__name__}")
        shape = tuple(activation.shape[1:])
        whole = spread(mask, shape, units)
        if whole is None:
            wanted = f", reduced to units {units}" if units != "all" else ""
            remedy = ": if a scan reduced it, say its units" if mask.ndim < len(shape) else ""
            raise UserError(
                f"a mask has the shape of its layer{wanted}; {name} gives {list(shape)} "
                f"per stimulus, its mask is {list(mask.shape)}{remedy}"
            )
        silenced = activation.masked_fill(whole.to(activation.device), to)
        return _replaced(output, activation, silenced)

    return hook


def _replaced(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """``output`` with one tensor for another, in the container that it came in."""
    if output is old:
        return new
    kind: Any = type(output)
    if isinstance(output, dict):
        return kind({key: new if value is old else value for key, value in output.items()})
    values = [new if value is old else value for value in output]
    return kind(*values) if hasattr(output, "_fields") else kind(values)
