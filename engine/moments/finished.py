"""Moments of finished blocks, on their way from the device to the thread that writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..layer import Layer, columns


class Finished:
    """Moments of consecutive finished blocks of a bundle of layers.

    A GPU copies them to the host after the work it has been given so far. Only :meth:`moments` and
    :meth:`nonfinite` wait for it: the network continues.

    Parameters
    ----------
    count : of each block
    packed : the moments as a kernel has read them out, ``[block, 2 * units + 1]``, in an array or
        tensor of their own
    """

    def __init__(self, count: Sequence[int], packed: Any) -> None:
        self.count = count
        self._packed, self._copied = start_copy(packed)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and M2 ``[block, unit]``, with the units of the layers side by side."""
        packed = self._arrived()
        units = packed.shape[1] // 2
        return packed[:, :units], packed[:, units:-1]

    def nonfinite(self, layers: Sequence[Layer]) -> Iterator[tuple[Layer, int, int]]:
        """The layers that have units whose M2 is NaN or infinite.

        Each comes with the first block that has some, and their number in it.
        """
        if self._arrived()[:, -1].any():
            _, m2 = self.moments()
            for layer, units in columns(layers):
                found = np.count_nonzero(~np.isfinite(m2[:, units]), axis=1)
                if found.any():
                    first = int(np.flatnonzero(found)[0])
                    yield layer, first, int(found[first])

    def _arrived(self) -> NDArray[np.float64]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._packed


def start_copy(values: Any) -> tuple[NDArray[np.float64], Any]:
    """``values`` on the host, and the event after which they are there; None if they are.

    A GPU writes to locked memory, which it does without the host. The memory of ``values`` is free
    for work given to the device from now on.
    """
    if isinstance(values, np.ndarray):
        return values, None
    if values.device.type != "cuda":
        return values.cpu().numpy(), None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(values.device))
    return host.numpy(), copied
