"""Cost of the statistics: a network with every block recorded, and its bare forward pass."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

import numpy as np
import torch

from ..layer import Layer
from ..moments.accumulators import Live
from ..moments.plan import Batch, Block, Run
from ..networks.backbones import load_backbone
from ..networks.compiled import compiled
from ..networks.hooks import capture
from ..networks.layers import choose, trial
from ..networks.placement import input_dtype, multiplied, place
from ..scanning.memory import recycled
from ..scanning.timing import seconds
from ..spec import Network
from .measure import Measurement, queued, ratio


def measure_network(
    network: Network, target: torch.device, *, batch_size: int, repeats: int
) -> Iterator[Measurement]:
    """Time one batch of decoded images: bare, with every block recorded, and in a plain loop.

    ``bare`` is the forward pass with the settings of a scan, up to the last recorded layer.
    ``fresh`` is the same in memory that is not reused (:mod:`..scanning.memory`). ``plain`` is a
    hand-written loop: the whole network as loaded, ``torch.no_grad``, the system's allocator, and
    torch's default precision of float32 products. On a GPU several batches are queued, and the time
    is that of one.
    """
    backbone = load_backbone(network)
    module, compile = place(backbone.model, target), network.compile
    plain = load_backbone(network).model.to(target)
    crop = backbone.preprocessing.crop
    pixels = torch.randn(batch_size, crop, crop, 3).to(target, input_dtype(module))
    pixels = pixels.permute(0, 3, 1, 2)
    plain_pixels = pixels.contiguous()
    layers, _ = choose(trial(module, crop), ["blocks"])
    live = Live(layers, target, lambda *_: None, None)
    stimuli = np.arange(batch_size)
    live.begin(Batch(stimuli, (Run(Block(0, 0, 0, 2**62), 0, batch_size, last=False),)))
    in_hooks = 0.0

    def take(layer: str, activation: torch.Tensor) -> None:
        nonlocal in_hooks
        started = time.perf_counter()
        live.take(layer, activation)
        in_hooks += time.perf_counter() - started

    @contextmanager
    def as_in_a_scan() -> Iterator[None]:
        with (
            multiplied(backbone.precision, target),
            compiled(module, live.layers if compile else ()),
        ):
            yield

    batches = queued(target)

    def bare() -> None:
        with capture(module, [layers[-1].name], lambda *_: None) as show:
            for _ in range(batches):
                show(pixels)

    def plainly() -> None:
        with torch.no_grad():
            for _ in range(batches):
                plain(plain_pixels)

    def recorded() -> None:
        with capture(module, live.layers, take) as show:
            for _ in range(batches):
                show(pixels)

    def timed(work: Callable[[], None]) -> float:
        seconds(work, target)  # warms up: the allocator's settings change between works
        return seconds(work, target)

    taken = defaultdict[str, list[float]](list)
    for _ in range(repeats):
        with recycled(), as_in_a_scan():
            timed(recorded)
            taken["bare"].append(timed(bare))
            in_hooks = 0.0
            taken["recorded"].append(seconds(recorded, target))
            taken["in hooks"].append(in_hooks)
        if target.type == "cpu":
            with as_in_a_scan():
                taken["fresh"].append(timed(bare))
        taken["plain"].append(timed(plainly))
    how = (backbone.name, backbone.precision, "compiled" if compile else None)
    setting = ", ".join([*filter(None, how), f"batch {batch_size}"])
    yield from _rows(taken, setting, layers, target)


def _rows(
    taken: Mapping[str, list[float]], setting: str, layers: Sequence[Layer], target: torch.device
) -> Iterator[Measurement]:
    units = sum(layer.units for layer in layers)
    rows: dict[str, tuple[str, tuple[str, ...]]] = {
        "bare": ("bare forward pass", ()),
        "recorded": (f"with {len(layers)} layers, {units:,} units", ("bare", "plain")),
        "in hooks": ("statistics in it", ("bare",)),
        "fresh": ("bare, in fresh memory", ("bare",)),
        "plain": ("plain loop", ("bare",)),
    }
    if target.type == "cuda":  # hooks only launch kernels; torch reuses its memory
        del rows["in hooks"], rows["fresh"]
    for name, (what, others) in rows.items():
        compared = {f"of {other}": ratio(taken[name], taken[other]) for other in others}
        ms = 1e3 * median(taken[name]) / queued(target)
        yield Measurement("network", what, setting, ms, "ms", compared)
