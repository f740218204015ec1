"""Device of a network, and the memory format of its weights."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UserError


def device_for(device: str | None, model: str | nn.Module = "") -> torch.device:
    """Device of a scan: the requested one, else a module's own, else a GPU if available.

    Raises
    ------
    UserError : the device is unavailable or does not support float64
    """
    if device is None and isinstance(model, nn.Module):
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=target).item()
    except (RuntimeError, AssertionError, TypeError):
        raise UserError(
            f"a device must be available and support float64 (mps does not); got {name!r}: "
            'use `device="cpu"`'
        ) from None
    return target


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move ``model`` to ``device``, in the fastest format: channels last for convolutions."""
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    return model
