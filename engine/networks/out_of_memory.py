"""Forward passes that run out of memory or lose the GPU, explained in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch
from torch import nn

from ..errors import UserError, first_line, is_device_failure, is_out_of_memory
from .inputs import Inputs, called


def is_of_the_machine(error: Exception) -> bool:
    """Whether memory or the GPU caused the error."""
    return is_out_of_memory(error) or is_device_failure(error)


@contextmanager
def explained(
    model: nn.Module,
    batch: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    inputs: Inputs | None = None,
) -> Iterator[None]:
    """Explain a forward pass over a ``batch [stimulus, 3, y, x]`` that fails through the machine.

    ``inputs`` are some stimuli, where the network takes something else than images.

    Hooks must be removed before the error arrives here.

    Raises
    ------
    UserError : out of memory, naming a batch size that fits; or the GPU has failed
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = first_line(error)[:120]
        if is_out_of_memory(error):
            clear_frames(error.__traceback__)  # they hold activations
            fitting = _fitting(model, batch, dtype, device, inputs)
            remedy = f"`batch_size={fitting}` fits" if fitting else "not even one image fits"
            raise UserError(
                f"out of memory at a batch of {batch[0]} ({reason}): {remedy} (this starts a new "
                "scan, as networks round differently at another batch size), or continue on a "
                "machine with more memory"
            ) from error
        if is_device_failure(error):
            raise UserError(
                f"the GPU has failed ({reason}): check its log, and scan again on a working one"
            ) from error
        raise


def _fitting(
    model: nn.Module,
    batch: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    inputs: Inputs | None,
) -> int | None:
    """Largest half, quarter, ... of the batch that fits into memory."""
    size = batch[0] // 2
    while size:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with torch.no_grad():
                zeros = torch.zeros(size, *batch[1:], dtype=dtype, device=device)
                called(model, zeros if inputs is None else inputs[[0] * size])
            return size
        except (RuntimeError, MemoryError):
            size //= 2
    return None
