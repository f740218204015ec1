"""Forward passes that fail for want of memory or of a working GPU: said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch
from torch import nn

from ..errors import UserError, first_line, is_of_memory, is_of_the_device


def is_of_the_machine(error: Exception) -> bool:
    """Whether memory or the GPU is the cause, whatever was asked of it."""
    return is_of_memory(error) or is_of_the_device(error)


@contextmanager
def explained(
    model: nn.Module, batch: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Iterator[None]:
    """Say what to do about a forward pass over a ``batch [stimulus, 3, y, x]`` that fails by no
    fault of the network. Nothing may be hooked to it any more when the error arrives here.

    Raises
    ------
    UserError : out of memory, with the largest batch of those tried that fits; the GPU has failed
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = first_line(error)[:120]
        if is_of_memory(error):
            clear_frames(error.__traceback__)  # they hold the activations that were too many
            fitting = _fitting(model, batch, dtype, device)
            remedy = f"--batch-size {fitting} fits" if fitting else "not even one image fits"
            raise UserError(
                f"out of memory at a batch of {batch[0]} ({reason}): {remedy} (a scan of its own: "
                "networks round differently at another batch size), or go on where there is more "
                "memory"
            ) from error
        if is_of_the_device(error):
            raise UserError(
                f"the GPU has failed ({reason}): look at its log, and scan again on one that works"
            ) from error
        raise


def _fitting(
    model: nn.Module, batch: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> int | None:
    """The largest half, quarter, ... of a batch with which a forward pass has memory enough."""
    size = batch[0] // 2
    while size:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with torch.no_grad():
                model(torch.zeros(size, *batch[1:], dtype=dtype, device=device))
            return size
        except (RuntimeError, MemoryError):
            size //= 2
    return None
