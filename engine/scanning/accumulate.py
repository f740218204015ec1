"""Activations of one layer to moments per block; the one place that picks a kernel by device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import jit
from ...kernels.moments import Moments, read_out
from ..errors import UserError
from ..spec import Layer
from .plan import Block, Run

# Compute capability of the oldest GPUs that the Triton kernel was compiled for.
_TRITON_FROM = (8, 0)
OnFinished = Callable[[Layer, Block, Moments], None]


class LayerMoments:
    """The live moments of one layer: one block at a time, in buffers that are used again.

    Activations are consumed in the order in which they lie in memory (channels last, say), without
    a copy; read-out puts units back into the layer's own order.
    """

    def __init__(self, layer: Layer, device: torch.device, on_finished: OnFinished) -> None:
        self._layer = layer
        self._on_finished = on_finished
        self._kernels = kernels_for(device)
        self._memory_order: tuple[int, ...] | None = None
        # One group is live at a time: [1] and [1, unit], as the kernels have it. Its sums lie
        # together, so that they can be saved as they are.
        self._count = np.zeros(1, dtype=np.int64)
        self._memory = torch.zeros(layer.state_bytes, dtype=torch.uint8, device=device)
        sums = self._memory[: 16 * layer.units].view(torch.float64)
        self._s1, self._s2 = sums.view(2, 1, layer.units)
        pivot = self._memory[16 * layer.units :].view(getattr(torch, layer.dtype))
        self._pivot = pivot.view(1, layer.units)
        self._state = [as_arrays(part) for part in (self._pivot, self._s1, self._s2)]

    def fold_in(self, activation: torch.Tensor, runs: Iterable[Run]) -> None:
        """Add a batch ``[stimulus, *layer.shape]``; blocks that ``runs`` complete are handed on.

        Raises
        ------
        UserError : the activation has not the shape or precision that it had in the trial pass
        """
        rows = self._rows(activation)
        for run in runs:
            if run.start < run.stop:
                x = as_arrays(rows[run.start : run.stop])
                groups = np.zeros(len(x), dtype=np.int64)
                self._kernels.fold_in(x, groups, self._count, *self._state)
            if run.last:
                self._on_finished(self._layer, run.block, self._read_out())
                self._count[0] = 0

    def live(self) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The group that is being accumulated: what its bytes do not say, and its bytes."""
        record = {"count": int(self._count[0]), "memory_order": self._memory_order}
        return record, self._memory.cpu().numpy()

    def go_on(self, record: Mapping[str, Any], content: NDArray[np.uint8]) -> None:
        """Go on with the group that :meth:`live` gave."""
        self._count[0] = record["count"]
        self._memory_order = record["memory_order"] and tuple(record["memory_order"])
        self._memory.copy_(torch.from_numpy(content.copy()))

    def _rows(self, activation: torch.Tensor) -> torch.Tensor:
        """The activation as ``[stimulus, unit]``, units in memory order: a view if dense."""
        if tuple(activation.shape[1:]) != self._layer.shape:
            raise UserError(
                f"a layer has one shape for all stimuli; {self._layer.name} had "
                f"{list(self._layer.shape)} and now gave {list(activation.shape[1:])}"
            )
        if activation.dtype != self._pivot.dtype:
            raise UserError(
                f"a layer has one precision for all stimuli; {self._layer.name} had "
                f"{self._layer.dtype} and now gave {activation.dtype}: scan without autocast inside"
            )
        if self._memory_order is None:
            self._memory_order = memory_order(activation)
        return activation.permute(0, *self._memory_order).contiguous().flatten(1)

    def _read_out(self) -> Moments:
        count = int(self._count[0])
        moments = read_out(count, self._pivot[0].double(), self._s1[0], self._s2[0])
        return Moments(
            moments.count, self._in_layer_order(moments.mean), self._in_layer_order(moments.m2)
        )

    def _in_layer_order(self, values: torch.Tensor) -> np.ndarray:
        order = self._memory_order
        assert order is not None  # something was folded in
        in_memory = values.reshape([self._layer.shape[axis - 1] for axis in order])
        back = sorted(range(len(order)), key=order.__getitem__)
        return in_memory.permute(back).contiguous().cpu().numpy()


def memory_order(activation: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of ``[stimulus, ...]`` but the first, as they lie in memory."""
    return tuple(sorted(range(1, activation.ndim), key=activation.stride, reverse=True))


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

        jit.use_threads(torch.get_num_threads())
        return cpu
    if (
        device.type == "cuda"
        and find_spec("triton")
        and torch.cuda.get_device_capability(device) >= _TRITON_FROM
    ):
        from ...kernels import cuda

        return cuda
    from ...kernels import device as on_device

    return on_device
