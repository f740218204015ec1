"""Networks that are lent by the program: used for a scan and given back as they were."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import UserError

# Modules, by id, that are lent now, and whoever changes this.
_lent: set[int] = set()
_lock = threading.Lock()


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

    The program's autocast does not apply meanwhile: a network has its own precision.

    Parameters
    ----------
    model : the user's module; the name of a network stands for one that nobody else has

    Raises
    ------
    UserError : the module or a part of it is lent already
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if isinstance(model, nn.Module):
            stack.enter_context(_alone(model))
            stack.enter_context(_as_it_was(model))
        else:
            stack.enter_context(generators_kept())
        yield


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """Refuse a module to a second scan, whose hooks would hear the passes of the first."""
    parts = set(map(id, model.modules()))
    with _lock:
        if _lent & parts:
            raise UserError(
                f"a network is in one scan at a time; {type(model).__name__} or a part of it is in "
                "another: wait for its end, or scan a copy (`copy.deepcopy`)"
            )
        _lent.update(parts)
    try:
        yield
    finally:
        with _lock:
            _lent.difference_update(parts)


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
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
