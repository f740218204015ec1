"""The precision that a network computes in: its own, or another."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from ..errors import UserError
from ..spec import PRECISIONS

# What parameters and input are cast to.
_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# The relative step of TF32.
TF32_EPS = 2.0**-10


def refuse_precision(precision: str | None, device: torch.device) -> None:
    """Refuse a precision that there is not, or not on this device.

    Raises
    ------
    UserError : unknown precision, or tf32 on anything but an NVIDIA GPU
    """
    if precision is not None and precision not in PRECISIONS:
        raise UserError(f"a network computes in {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"tf32 is how NVIDIA's GPUs multiply float32; {device.type} does not: choose float32 "
            "or bfloat16"
        )


def cast(model: nn.Module, precision: str | None, own: bool) -> tuple[nn.Module, str | None]:
    """A network in another precision, and which; None where that is its own.

    Parameters
    ----------
    own : ``model`` is the scan's own, and is cast in place; a user's module stays as it is, and a
        copy of it is cast

    Raises
    ------
    UserError : the network has no parameters to tell what its input is; it cannot be copied
    """
    if precision is None:
        return model, None
    wanted = _DTYPES[precision]
    tensors = chain(model.parameters(), model.buffers())
    present = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if wanted != torch.float32 and not any(True for _ in model.parameters()):
        raise UserError(
            f"the precision of a network is that of its parameters; {type(model).__name__} has "
            f"none to be cast to {precision}: leave the precision out"
        )
    if present <= {wanted}:
        return model, "tf32" if precision == "tf32" else None
    if not own:
        try:
            model = copy.deepcopy(model)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"a module is copied before it is cast to {precision}; {type(model).__name__} "
                f"cannot be ({error}): cast it yourself, and leave the precision out"
            ) from error
    return model.to(wanted), precision


@contextmanager
def multiplied(precision: str | None, device: torch.device) -> Iterator[None]:
    """While the context lasts, GPUs multiply float32 as TF32 or as float32, as ``precision`` says.

    By itself torch does the one in convolutions and the other in matrix products; and a program may
    have set either. What was set is set again at the end.

    Raises
    ------
    UserError : torch cannot say what is set, as both of its interfaces for it were used
    """
    if device.type != "cuda":
        yield
        return
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        before = matmul.allow_tf32, convolution.allow_tf32
    except RuntimeError as error:
        raise UserError(
            "torch's switches for TF32 are set by one of its interfaces, allow_tf32 or "
            f"fp32_precision; this program used both ({str(error).partition(',')[0]}): use one"
        ) from error
    matmul.allow_tf32 = convolution.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
