"""Device, memory format and precision of a network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from ..errors import UserError

# Dtype of parameters and input.
_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# The relative step of TF32.
TF32_EPS = 2.0**-10


def device_for(device: str | None, model: str | nn.Module = "") -> torch.device:
    """Device of a scan: the requested one, else a module's own, else a GPU if available.

    Raises
    ------
    UserError : the device is unavailable
    """
    if device is None and isinstance(model, nn.Module):
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(name)
        torch.zeros(1, device=target).item()
    except (RuntimeError, AssertionError, TypeError):
        raise UserError(f'a device must be available; got {name!r}: use `device="cpu"`') from None
    return target


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Apple's ``mps`` does not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, TypeError):
        return False
    return True


def moments_device(device: torch.device) -> torch.device:
    """Device that adds up the activations of ``device``: the CPU for one without float64."""
    return device if has_float64(device) else torch.device("cpu")


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move ``model`` to ``device``, in the fastest format: channels last for convolutions."""
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    return model


def input_dtype(model: nn.Module) -> torch.dtype:
    """Dtype of a network's input: that of its parameters."""
    types = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    return types[0] if types else torch.float32


def as_input(images: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Images on the model's device, in its input dtype."""
    device = next(model.parameters(), torch.empty(0)).device
    return images.to(device, input_dtype(model))


def refuse_precision(precision: str | None, device: torch.device) -> None:
    """Raise if the precision is not supported on this device.

    Raises
    ------
    UserError : tf32 on anything but an NVIDIA GPU
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"tf32 needs an NVIDIA GPU; got device {device.type}: choose float32 or bfloat16"
        )


def cast(model: nn.Module, precision: str | None, own: bool) -> tuple[nn.Module, str | None]:
    """Cast a network to ``precision``. Returns it and its new precision, None if unchanged.

    Parameters
    ----------
    own : cast in place, as the scan built ``model`` itself; a user's module is copied first

    Raises
    ------
    UserError : the network has no parameters, whose dtype sets that of its input, or cannot be
        copied
    """
    if precision is None:
        return model, None
    dtype = _DTYPES[precision]
    tensors = chain(model.parameters(), model.buffers())
    present = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if dtype != torch.float32 and not any(True for _ in model.parameters()):
        raise UserError(
            f"the precision of a network is that of its parameters; {type(model).__name__} has "
            "none: leave out `precision`"
        )
    if present <= {dtype}:
        return model, "tf32" if precision == "tf32" else None
    if not own:
        try:
            model = copy.deepcopy(model)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"a module is copied before it is cast to {precision}; {type(model).__name__} "
                f"cannot be copied ({error}): cast it yourself, and leave out `precision`"
            ) from error
    return model.to(dtype), precision


@contextmanager
def multiplied(precision: str | None, device: torch.device) -> Iterator[None]:
    """Make GPUs multiply float32 as TF32 or as float32 inside the context, as ``precision`` says.

    By default torch uses TF32 in convolutions and float32 in matrix products. The program's own
    settings are restored on exit.

    Raises
    ------
    UserError : the program used both of torch's interfaces for TF32, so that it cannot be read
    """
    if device.type != "cuda":
        yield
        return
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        before = matmul.allow_tf32, convolution.allow_tf32
    except RuntimeError as error:
        raise UserError(
            "TF32 is set through one of torch's interfaces, allow_tf32 or fp32_precision; this "
            f"program used both ({str(error).partition(',')[0]}): use one"
        ) from error
    matmul.allow_tf32 = convolution.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
