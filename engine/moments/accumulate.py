"""Activations of a layer to moments per block. The only place that picks a kernel by device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby, islice
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import jit
from ...kernels.moments import Moments
from ..layer import Layer
from .finished import Finished
from .memory_layout import Flat
from .plan import Block, Run

# Lowest compute capability that the Triton kernel supports.
_TRITON_FROM = (8, 0)
# Bytes of the moments of whole blocks that are read out at once.
_AT_ONCE = 2**20


class LayerMoments:
    """Moments of one layer, or of a bundle as one, one block at a time, in reused buffers.

    Activations are added in memory order (channels last, for example) without a copy; reading out
    restores the layer's own order of units. A block that spans several shards of the plan is merged
    from its parts in order.
    """

    def __init__(
        self,
        layer: Layer,
        device: torch.device,
        on_finished: Callable[[Sequence[Block], Finished], None],
    ) -> None:
        self._layer = layer
        self._on_finished = on_finished
        self._kernels = kernels_for(device)
        self._flat = Flat(layer)
        # One group at a time: [1] and [1, unit] for the kernels. Pivot and sums share one buffer,
        # which a checkpoint saves as it is.
        self._count = np.zeros(1, dtype=np.int64)
        self._memory = torch.zeros(layer.state_bytes, dtype=torch.uint8, device=device)
        sums = self._memory[: 16 * layer.units].view(torch.float64)
        self._s1, self._s2 = sums.view(2, 1, layer.units)
        pivot = self._memory[16 * layer.units :].view(getattr(torch, layer.dtype))
        self._pivot = pivot.view(1, layer.units)
        self._state = [as_arrays(part) for part in (self._pivot, self._s1, self._s2)]
        # Moments of the current block from earlier shards: [unit], in memory order.
        self._earlier: Moments | None = None

    def cut(self) -> None:
        """End a shard: merge the current sums into the block's earlier parts."""
        if self._count[0]:
            units = self._layer.units
            count, packed = self._read_out((units,), (1,))
            self._earlier = Moments(count, packed[:units], packed[units:-1])
            self._count[0] = 0

    def part(self) -> Finished | None:
        """Moments of the current block so far, or None; resets the block."""
        if not self._count[0] and not self._earlier:
            return None
        assert self._flat.order is not None  # a block with stimuli has an order
        count, packed = self._read_out(self._layer.shape, self._flat.order)
        finished = Finished([count], packed[None])
        self._count[0], self._earlier = 0, None
        return finished

    def fold_in(self, activation: torch.Tensor, runs: Iterable[Run]) -> None:
        """Add a batch ``[stimulus, *layer.shape]``; completed blocks go to ``on_finished``.

        Raises
        ------
        UserError : shape or precision differ from the trial pass
        """
        rows = as_arrays(self._flat.rows(activation))
        most = _AT_ONCE // (16 * self._layer.units) if isinstance(rows, np.ndarray) else 0
        for whole, own in groupby(runs, lambda run: most > 1 and run.is_whole):
            if whole:
                while together := list(islice(own, most)):
                    self._take_whole(rows, together)
            else:
                for run in own:
                    self._take(rows, run)

    def live(self) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
        """State of the current block for a checkpoint: a header and its arrays as bytes."""
        earlier = self._earlier
        header = {
            "count": int(self._count[0]),
            "earlier": earlier.count if earlier else 0,
            "memory_order": self._flat.order,
        }
        parts = [self._memory, *(earlier[1:] if earlier else ())]
        tensors = map(torch.as_tensor, parts)
        return header, [part.view(torch.uint8).cpu().numpy() for part in tensors]

    def resume(self, header: Mapping[str, Any], contents: Sequence[NDArray[np.uint8]]) -> None:
        """Continue the block saved by :meth:`live`."""
        self._count[0] = header["count"]
        self._flat.order = header["memory_order"] and tuple(header["memory_order"])
        sums, *earlier = (torch.from_numpy(content.copy()) for content in contents)
        self._memory.copy_(sums)
        if earlier:
            parts = (part.to(self._memory.device).view(torch.float64) for part in earlier)
            self._earlier = Moments(header["earlier"], *map(as_arrays, parts))

    def _take(self, rows: Any, run: Run) -> None:
        """Add a run of rows ``[stimulus, unit]``, which may complete its block."""
        if run.start < run.stop:
            x = rows[run.start : run.stop]
            groups = np.zeros(len(x), dtype=np.int64)
            self._kernels.fold_in(x, groups, self._count, *self._state)
        if run.last:
            finished = self.part()
            if finished:  # None if a shard skipped all its stimuli of the block
                self._on_finished([run.block], finished)

    def _take_whole(self, rows: NDArray[Any], runs: Sequence[Run]) -> None:
        """Read out blocks that lie whole within a batch, one after the other."""
        from ...kernels.groups import moments_of_groups

        assert self._flat.order is not None  # a batch has an order
        sizes = [run.stop - run.start for run in runs]
        x = rows[runs[0].start : runs[-1].stop]
        packed = moments_of_groups(x, sizes, self._layer.shape, self._flat.order)
        self._on_finished([run.block for run in runs], Finished(sizes, packed))

    def _read_out(self, shape: Sequence[int], order: Sequence[int]) -> tuple[int, Any]:
        """Count of the current block so far, and its moments as the kernel packs them."""
        count, sums = int(self._count[0]), (part[0] for part in self._state)
        earlier = self._earlier.count if self._earlier else 0
        return count + earlier, self._kernels.read_out(count, *sums, self._earlier, shape, order)


def load_kernels(layers: Iterable[Layer]) -> None:
    """Load the compiled kernels of the CPU for these layers, which takes a third of a second.

    Only speed depends on it: a thread can do it while something else waits for the disk.
    """
    from ...kernels import cpu, groups

    for dtype in {layer.dtype for layer in layers}:
        x = as_arrays(torch.zeros(1, 1, dtype=getattr(torch, dtype)))
        one = np.zeros((1, 1))
        cpu.fold_in(x, np.zeros(1, np.int64), np.zeros(1, np.int64), x.copy(), one, one.copy())
        cpu.read_out(1, x[0], one[0], one[0], None, (1,), (1,))
        groups.moments_of_groups(x, [1], (1,), (1,))


def rounds_by_shape(device: torch.device) -> bool:
    """Whether the last bits of a unit depend on the units beside it, as in torch's sums."""
    from ...kernels import device as on_device

    return kernels_for(device) is on_device


def as_arrays(tensor: torch.Tensor) -> Any:
    """``tensor`` as the kernels of its device expect it: on the CPU numpy, halves as raw bits."""
    if tensor.device.type != "cpu":
        return tensor
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy()
    if tensor.dtype == torch.float16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def kernels_for(device: torch.device) -> ModuleType:
    """Module with the fastest ``fold_in`` for ``device``."""
    if device.type == "cpu":
        from ...kernels import cpu

        threads = torch.get_num_threads()
        jit.use_threads(threads)
        # If torch and numba share one OpenMP, starting numba has reset it to all threads.
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
