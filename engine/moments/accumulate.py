"""Activations of one layer to moments per block; the one place that picks a kernel by device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import jit
from ...kernels.moments import Moments, merge, read_out
from ..layer import Layer
from .memory_layout import Flat
from .plan import Block, Run

# Compute capability of the oldest GPUs that the Triton kernel was compiled for.
_TRITON_FROM = (8, 0)
OnFinished = Callable[[Layer, Block, Moments], None]


class LayerMoments:
    """The live moments of one layer: one block at a time, in buffers that are used again.

    Activations are consumed in the order in which they lie in memory (channels last, say), without
    a copy; read-out puts units back into the layer's own order. A block that several shards of the
    plan share is merged of its parts, in their order.
    """

    def __init__(self, layer: Layer, device: torch.device, on_finished: OnFinished) -> None:
        self._layer = layer
        self._on_finished = on_finished
        self._kernels = kernels_for(device)
        self._flat = Flat(layer)
        # One group is live at a time: [1] and [1, unit], as the kernels have it. Its sums lie
        # together, so that they can be saved as they are.
        self._count = np.zeros(1, dtype=np.int64)
        self._memory = torch.zeros(layer.state_bytes, dtype=torch.uint8, device=device)
        sums = self._memory[: 16 * layer.units].view(torch.float64)
        self._s1, self._s2 = sums.view(2, 1, layer.units)
        pivot = self._memory[16 * layer.units :].view(getattr(torch, layer.dtype))
        self._pivot = pivot.view(1, layer.units)
        self._state = [as_arrays(part) for part in (self._pivot, self._s1, self._s2)]
        # Of the live block, what earlier shards have seen: [unit], in the order of memory.
        self._earlier: Moments | None = None

    def cut(self) -> None:
        """A shard has ended: what is live becomes the part that it has of its block."""
        self._earlier = self._so_far()
        self._count[0] = 0

    def part(self) -> Moments | None:
        """What was folded in of the live block since it began, or None; it begins anew."""
        self.cut()
        moments, self._earlier = self._earlier, None
        return moments and self._in_layer_order(moments)

    def fold_in(self, activation: torch.Tensor, runs: Iterable[Run]) -> None:
        """Add a batch ``[stimulus, *layer.shape]``; blocks that ``runs`` complete are handed on.

        Raises
        ------
        UserError : the activation has not the shape or precision that it had in the trial pass
        """
        rows = self._flat.rows(activation)
        for run in runs:
            if run.start < run.stop:
                x = as_arrays(rows[run.start : run.stop])
                groups = np.zeros(len(x), dtype=np.int64)
                self._kernels.fold_in(x, groups, self._count, *self._state)
            if run.last:
                moments = self.part()
                if moments:  # or all that a shard has of it were left out: others have the rest
                    self._on_finished(self._layer, run.block, moments)

    def live(self) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
        """The block that is being accumulated: what its bytes do not say, and its bytes."""
        earlier = self._earlier
        record = {
            "count": int(self._count[0]),
            "earlier": earlier.count if earlier else 0,
            "memory_order": self._flat.order,
        }
        parts = [self._memory, *(earlier[1:] if earlier else ())]
        return record, [part.view(torch.uint8).cpu().numpy() for part in parts]

    def go_on(self, record: Mapping[str, Any], contents: Sequence[NDArray[np.uint8]]) -> None:
        """Go on with the block that :meth:`live` gave."""
        self._count[0] = record["count"]
        self._flat.order = record["memory_order"] and tuple(record["memory_order"])
        sums, *earlier = (torch.from_numpy(content.copy()) for content in contents)
        self._memory.copy_(sums)
        if earlier:
            mean, m2 = (part.to(self._memory.device).view(torch.float64) for part in earlier)
            self._earlier = Moments(record["earlier"], mean, m2)

    def _so_far(self) -> Moments | None:
        """Moments of all that was folded in of the live block, units in the order of memory."""
        count = int(self._count[0])
        if not count:
            return self._earlier
        moments = read_out(count, self._pivot[0].double(), self._s1[0], self._s2[0])
        return merge(self._earlier, moments) if self._earlier else moments

    def _in_layer_order(self, moments: Moments) -> Moments:
        mean, m2 = (self._flat.in_layer_order(values).cpu().numpy() for values in moments[1:])
        return Moments(moments.count, mean, m2)


def as_arrays(tensor: torch.Tensor) -> Any:
    """``tensor`` as the kernels of its device take it: on the CPU numpy, halves as raw bits."""
    if tensor.device.type != "cpu":
        return tensor
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy()
    if tensor.dtype == torch.float16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def kernels_for(device: torch.device) -> ModuleType:
    """The module whose ``fold_in`` is the fastest on ``device``."""
    if device.type == "cpu":
        from ...kernels import cpu

        threads = torch.get_num_threads()
        jit.use_threads(threads)
        # Where both have one OpenMP, numba's start has set it to all threads for both.
        torch.set_num_threads(threads)
        return cpu
    if (
        device.type == "cuda"
        and find_spec("triton")
        and torch.cuda.get_device_capability(device) >= _TRITON_FROM
    ):
        jit.keep_triton_code()
        from ...kernels import cuda

        return cuda
    from ...kernels import device as on_device

    return on_device
