"""Kernels in GB/s, as a share of the bandwidth at which memory is read or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

from ...kernels import cpu, device
from ..layer import Layer
from ..moments.accumulate import LayerMoments, as_arrays, kernels_for
from ..moments.plan import Block, Run
from .measure import Measurement, queued, ratio, side_by_side

# More than most caches hold.
_YARDSTICK_BYTES = 2**30
_HALVES = (torch.bfloat16, torch.float16)
_MIXED = 6
# Side of the feature maps of a layer.
_MAP = 56
LEAST_UNITS = _MAP**2


class _Yardstick(NamedTuple):
    """Reference for the kernels: a ``kind`` of ``work`` that ``moves`` some bytes.

    ``written`` is how often the bytes that a kernel writes count.
    """

    kind: str
    work: Callable[[], object]
    moves: int
    written: int


def measure_kernels(
    target: torch.device, *, units: int, batch_sizes: Sequence[int], repeats: int
) -> Iterator[Measurement]:
    """Bandwidth of memory on ``target``, then every kernel for it as a share of that bandwidth.

    On the CPU the reference reads, and only the batch ``[batch size, units]`` counts. On a GPU it
    copies, and reading and writing of the state count, too. The traffic allows a share of
    ``B b / (B b + G s)`` for a batch of ``B`` stimuli of ``b`` bytes per unit, ``G`` groups and
    ``s`` bytes of state per unit, if writing of the state is free.
    """
    ours = kernels_for(target)  # also sets the number of threads
    yardstick = _yardstick(target)
    kind, work, moves, _ = yardstick
    taken = side_by_side({kind: work}, repeats)[kind]
    yield Measurement(
        "kernels", f"{kind} bandwidth", _where(target), _gbs(moves, taken, target), "GB/s"
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
        folding = _fold_in(kernels, x, groups)
        what = f"{name} kernel, {layout}"
        yield _compare(folding, yardstick, x, groups, what, target, repeats)
        del x, folding  # makes room for the next
    for order in (torch.contiguous_format, torch.channels_last):
        x = _batch(middle, units // _MAP**2 * _MAP**2, torch.float32, target)
        x = x.view(middle, -1, _MAP, _MAP).to(memory_format=order)
        name = str(order).removeprefix("torch.").removesuffix("_format")
        what = f"a layer's activations, {name}"
        yield _compare(_layer(x), yardstick, x, 1, what, target, repeats)


def _compare(
    work: Callable[[], object],
    yardstick: _Yardstick,
    x: torch.Tensor,
    groups: int,
    what: str,
    target: torch.device,
    repeats: int,
) -> Measurement:
    kind, measure, moves, written = yardstick
    taken = side_by_side({kind: measure, "work": _finished(work, target)}, repeats)
    state = min(groups, len(x)) * (16 + x.itemsize) * x[0].numel()
    moved = x.nbytes + 2 * written * state
    share = ratio(taken[kind], taken["work"]) * moved / moves
    compared = {f"of {kind} bandwidth": share}
    if not written:
        compared["of what its traffic allows"] = share * (x.nbytes + state) / x.nbytes
    name = str(x.dtype).removeprefix("torch.")
    return Measurement(
        "kernels",
        what,
        f"{name} [{len(x)}, {x[0].numel():,}]",
        _gbs(moved, taken["work"], target),
        "GB/s",
        compared,
        f"{kind}: {_gbs(moves, taken[kind], target):,.0f} GB/s",
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
    """A layer's activations in a batch that belongs to one block and does not complete it."""
    layer = Layer("layer", "", ("channel", "y", "x"), tuple(x.shape[1:]), "float32")
    moments = LayerMoments(layer, x.device, lambda *_: None)
    runs = [Run(Block(0, 0, 0, 2 * len(x)), 0, len(x), last=False)]
    return lambda: moments.fold_in(x, runs)


def _yardstick(target: torch.device) -> _Yardstick:
    words = torch.ones(_YARDSTICK_BYTES // 8, dtype=torch.int64, device=target)
    if target.type == "cpu":
        array = words.numpy()
        return _Yardstick("read", lambda: cpu.read_memory(array), _YARDSTICK_BYTES, written=0)
    copy = partial(torch.empty_like(words).copy_, words)
    return _Yardstick("copy", _finished(copy, target), 2 * _YARDSTICK_BYTES, written=1)


def _finished(work: Callable[[], object], target: torch.device) -> Callable[[], object]:
    """``work``; on a GPU queued several times, and waited for."""
    if target.type != "cuda":
        return work

    def finished() -> None:
        for _ in range(queued(target)):
            work()
        torch.cuda.synchronize(target)

    return finished


def _where(target: torch.device) -> str:
    if target.type == "cuda":
        return torch.cuda.get_device_name(target)
    return f"cpu, {torch.get_num_threads()} threads"


def _gbs(nbytes: int, taken: Sequence[float], target: torch.device) -> float:
    return nbytes * queued(target) / median(taken) / 1e9
