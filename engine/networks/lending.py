"""Networks that are lent by the program: used for a scan and given back as they were."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy


@contextmanager
def generators_kept(tensors: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Restore the random generators of torch, also on the devices of ``tensors``, NumPy, Python."""
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng({one.device for one in tensors if one.device.type == "cuda"}):
        try:
            yield
        finally:
            random.setstate(drawn)
            np.random.set_state(drawn_by_numpy)


@contextmanager
def lent(model: str | nn.Module) -> Iterator[None]:
    """Give a module back as it was: its mode, device and memory format, and random generators.

    Parameters
    ----------
    model : the user's module; the name of a network stands for one that nobody else has
    """
    if not isinstance(model, nn.Module):
        with generators_kept():
            yield
        return
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    buffers = [
        (module._buffers, name, buffer)
        for module, _ in modes
        if not isinstance(module, torch.jit.ScriptModule)
        for name, buffer in module._buffers.items()
    ]
    parameters = list(model.parameters())
    gradients = (one.grad for one in parameters if one.grad is not None)
    placed = [
        (one, one.device, one.stride())
        for one in chain(parameters, gradients)
        if one.layout == torch.strided and not is_lazy(one)
    ]
    with generators_kept(parameters):
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            for own, name, buffer in buffers:
                own[name] = buffer
            for tensor, device, stride in placed:
                if (tensor.device, tensor.stride()) != (device, stride):
                    as_it_was = torch.empty_strided(
                        tensor.shape, stride, dtype=tensor.dtype, device=device
                    )
                    tensor.data = as_it_was.copy_(tensor.data)
