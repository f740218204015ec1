"""The kernels against the memory that they read: GB/s, as a share of the read bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ...kernels import bandwidth, device
from ..scanning.accumulate import LayerMoments, as_arrays, kernels_for
from ..scanning.plan import Block, Run
from ..spec import Layer
from .measure import Measurement, ratio, side_by_side

# More than most caches hold.
_YARDSTICK_BYTES = 2**30
_HALVES = (torch.bfloat16, torch.float16)
_MIXED = 6
# Side of the feature maps of a layer.
_MAP = 56
LEAST_UNITS = _MAP**2


def measure_kernels(
    target: torch.device, *, units: int, batch_sizes: Sequence[int], repeats: int
) -> Iterator[Measurement]:
    """Read bandwidth of ``target``, then every kernel that it has, as a share of it.

    A batch is ``[batch size, units]``. The share that the traffic allows is ``B b / (B b + G s)``
    for a batch of ``B`` stimuli of ``b`` bytes per unit, ``G`` groups and ``s`` bytes of state per
    unit, all of which are read; that the state is written, too, is not in it.
    """
    ours = kernels_for(target)  # which also sets the number of threads
    read = _reader(target)
    bandwidths = side_by_side({"read": read}, repeats)["read"]
    yield Measurement(
        "kernels", "read bandwidth", _where(target), _gbs(_YARDSTICK_BYTES, bandwidths), "GB/s"
    )
    middle, last = batch_sizes[len(batch_sizes) // 2], batch_sizes[-1]
    cases = [(ours, torch.float32, b, g) for g in (1, _MIXED) for b in batch_sizes]
    cases += [(ours, torch.float64, middle, 1)]
    cases += [(ours, half, b, 1) for half in _HALVES for b in sorted({middle, last})]
    if ours is not device:
        cases.append((device, torch.float32, middle, 1))
    for kernels, dtype, batch_size, groups in cases:
        name = kernels.__name__.rpartition(".")[2]
        layout = "blocked" if groups == 1 else f"mixed, {groups} groups"
        x = _batch(batch_size, units, dtype, target)
        work = _fold_in(kernels, x, groups)
        yield _compare(work, read, x, groups, f"{name} kernel, {layout}", target, repeats)
        del x, work  # before the next, which may be as large
    for order in (torch.contiguous_format, torch.channels_last):
        x = _batch(middle, units // _MAP**2 * _MAP**2, torch.float32, target)
        x = x.view(middle, -1, _MAP, _MAP).to(memory_format=order)
        name = str(order).removeprefix("torch.").removesuffix("_format")
        what = f"a layer's activations, {name}"
        yield _compare(_layer(x), read, x, 1, what, target, repeats)


def _compare(
    work: Callable[[], object],
    read: Callable[[], object],
    x: torch.Tensor,
    groups: int,
    what: str,
    target: torch.device,
    repeats: int,
) -> Measurement:
    taken = side_by_side({"read": read, "work": _finished(work, target)}, repeats)
    share = ratio(taken["read"], taken["work"]) * x.nbytes / _YARDSTICK_BYTES
    state = min(groups, len(x)) * (16 + x.itemsize)
    possible = len(x) * x.itemsize / (len(x) * x.itemsize + state)
    name = str(x.dtype).removeprefix("torch.")
    read_speed = _gbs(_YARDSTICK_BYTES, taken["read"])
    return Measurement(
        "kernels",
        what,
        f"{name} [{len(x)}, {x[0].numel():,}]",
        _gbs(x.nbytes, taken["work"]),
        "GB/s",
        {"of read bandwidth": share, "of what its traffic allows": share / possible},
        f"reading: {read_speed:.0f} GB/s",
    )


def _batch(batch_size: int, units: int, dtype: torch.dtype, target: torch.device) -> torch.Tensor:
    row = torch.randn(1, units, generator=torch.Generator().manual_seed(0))
    return row.to(target, dtype).repeat(batch_size, 1)


def _fold_in(kernels: ModuleType, x: torch.Tensor, groups: int) -> Callable[[], object]:
    arrays: Callable[[torch.Tensor], Any] = as_arrays if kernels.__name__.endswith("cpu") else _same
    pivot = arrays(torch.zeros(groups, x.shape[1], dtype=x.dtype, device=x.device))
    s1, s2 = (arrays(torch.zeros_like(x[:1], dtype=torch.float64).repeat(groups, 1)) for _ in "12")
    count = np.ones(groups, np.int64)
    members = np.arange(len(x)) % groups
    rows = arrays(x)
    return lambda: kernels.fold_in(rows, members, count, pivot, s1, s2)


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _layer(x: torch.Tensor) -> Callable[[], object]:
    """A layer's share of a scan's batch that belongs to one block and does not complete it."""
    layer = Layer("layer", "", ("channel", "y", "x"), tuple(x.shape[1:]), "float32")
    moments = LayerMoments(layer, x.device, lambda *_: None)
    runs = [Run(Block(0, 0, 0, 2 * len(x)), 0, len(x), last=False)]
    return lambda: moments.fold_in(x, runs)


def _reader(target: torch.device) -> Callable[[], object]:
    words = torch.ones(_YARDSTICK_BYTES // 8, dtype=torch.int64, device=target)
    if target.type == "cpu":
        array = words.numpy()
        return lambda: bandwidth.read(array)
    return _finished(words.view(torch.float32).sum, target)


def _finished(work: Callable[[], object], target: torch.device) -> Callable[[], object]:
    """``work``, and the wait for the device to have done it."""
    if target.type != "cuda":
        return work

    def finished() -> None:
        work()
        torch.cuda.synchronize(target)

    return finished


def _where(target: torch.device) -> str:
    if target.type == "cuda":
        return torch.cuda.get_device_name(target)
    return f"cpu, {torch.get_num_threads()} threads"


def _gbs(nbytes: int, taken: Sequence[float]) -> float:
    return nbytes / median(taken) / 1e9
