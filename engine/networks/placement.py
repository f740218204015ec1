"""Where a network runs, and how its weights lie there."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UserError


def device_for(device: str | None, model: str | nn.Module = "") -> torch.device:
    """The device that a scan runs on: the one asked for, else a module's own, else a GPU if any.

    Raises
    ------
    UserError : there is no such device, or it knows no float64
    """
    if device is None and isinstance(model, nn.Module):
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=target).item()
    except (RuntimeError, AssertionError, TypeError):
        raise UserError(
            f"a device has to be there and know float64 (mps does not); {name!r} is not one: "
            "use --device cpu"
        ) from None
    return target


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` on ``device``, its weights as they are fastest: channels last for convolutions."""
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    return model
