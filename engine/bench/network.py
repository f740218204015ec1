"""A scan of a network against its bare forward pass: what the statistics add."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

from ..moments.accumulate import LayerMoments
from ..moments.plan import Block, Run
from ..networks.backbones import backbone_of
from ..networks.compiled import compiled
from ..networks.hooks import capture
from ..networks.layers import choose, input_dtype, trial
from ..networks.placement import place
from ..networks.precision import multiplied
from ..scanning.memory import recycled
from ..scanning.timing import seconds
from .measure import Measurement, queued, ratio


def measure_network(
    model: str,
    weights: str,
    target: torch.device,
    *,
    batch_size: int,
    repeats: int,
    precision: str | None = None,
    compile: bool = False,
) -> Iterator[Measurement]:
    """One batch of decoded images through ``model``: bare, with every block recorded, and plainly.

    ``bare`` is the forward pass with the settings of a scan, up to the last recorded layer;
    ``fresh`` is the same in memory that is not kept for the next (:mod:`..scanning.memory`);
    ``plain`` is the loop that one would write: the whole network as it was loaded,
    ``torch.no_grad``, the system's allocator, and float32 multiplied as torch does by itself. On a
    GPU several batches are queued, and the time is that of one of them.
    """
    backbone = backbone_of(model, weights, 0, None, precision)
    network = place(backbone.model, target)
    plain = backbone_of(model, weights, 0, None, precision).model.to(target)
    crop = backbone.preprocessing.crop
    pixels = torch.randn(batch_size, crop, crop, 3).to(target, input_dtype(network))
    pixels = pixels.permute(0, 3, 1, 2)
    plain_pixels = pixels.contiguous()
    layers, _ = choose(trial(network, crop), ["blocks"])
    moments = {layer.name: LayerMoments(layer, target, lambda *_: None) for layer in layers}
    runs = [Run(Block(0, 0, 0, 2**62), 0, batch_size, last=False)]
    in_hooks = 0.0

    def fold_in(layer: str, activation: torch.Tensor) -> None:
        nonlocal in_hooks
        started = time.perf_counter()
        moments[layer].fold_in(activation, runs)
        in_hooks += time.perf_counter() - started

    @contextmanager
    def as_in_a_scan() -> Iterator[None]:
        with multiplied(backbone.precision, target), compiled(network, moments if compile else ()):
            yield

    batches = queued(target)

    def bare() -> None:
        with capture(network, [layers[-1].name], lambda *_: None) as show:
            for _ in range(batches):
                show(pixels)

    def plainly() -> None:
        with torch.no_grad():
            for _ in range(batches):
                plain(plain_pixels)

    def recorded() -> None:
        with capture(network, moments, fold_in) as show:
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
    units = sum(layer.units for layer in layers)
    said = ", ".join(filter(None, (backbone.precision, "compiled" if compile else None)))
    setting = f"{backbone.name}{said and ', ' + said}, batch {batch_size}"
    rows: dict[str, tuple[str, tuple[str, ...]]] = {
        "bare": ("bare forward pass", ()),
        "recorded": (f"with {len(layers)} layers, {units:,} units", ("bare", "plain")),
        "in hooks": ("statistics in it", ("bare",)),
        "fresh": ("bare, in fresh memory", ("bare",)),
        "plain": ("plain loop", ("bare",)),
    }
    if target.type == "cuda":  # hooks hand their work on and do not wait; torch keeps its memory
        del rows["in hooks"], rows["fresh"]
    for name, (what, others) in rows.items():
        compared = {f"of {other}": ratio(taken[name], taken[other]) for other in others}
        ms = 1e3 * median(taken[name]) / batches
        yield Measurement("network", what, setting, ms, "ms", compared)
