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
from ..networks.backbones import load_backbone
from ..networks.compiled import compiled
from ..networks.hooks import capture
from ..networks.layers import choose, input_dtype, trial
from ..networks.placement import multiplied, place
from ..scanning.memory import recycled
from ..spec import Network
from .measure import Measurement, queued, ratio, seconds


def measure_network(
    network: Network, target: torch.device, *, batch_size: int, repeats: int
) -> Iterator[Measurement]:
    """One batch of decoded images through a network: bare, with every block recorded, and plainly.

    ``bare`` is the forward pass with the settings of a scan, up to the last recorded layer;
    ``fresh`` is the same in memory that is not kept for the next (:mod:`..scanning.memory`);
    ``plain`` is the loop that one would write: the whole network as it was loaded,
    ``torch.no_grad``, the system's allocator, and float32 multiplied as torch does by itself. On a
    GPU several batches are queued, and the time is that of one of them.
    """
    backbone = load_backbone(network)
    module, compile = place(backbone.model, target), network.compile
    plain = load_backbone(network).model.to(target)
    crop = backbone.preprocessing.crop
    pixels = torch.randn(batch_size, crop, crop, 3).to(target, input_dtype(module))
    pixels = pixels.permute(0, 3, 1, 2)
    plain_pixels = pixels.contiguous()
    layers, _ = choose(trial(module, crop), ["blocks"])
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
        with multiplied(backbone.precision, target), compiled(module, moments if compile else ()):
            yield

    batches = queued(target)

    def bare() -> None:
        with capture(module, [layers[-1].name], lambda *_: None) as show:
            for _ in range(batches):
                show(pixels)
        _wait(target)

    def plainly() -> None:
        with torch.no_grad():
            for _ in range(batches):
                plain(plain_pixels)
        _wait(target)

    def recorded() -> None:
        with capture(module, moments, fold_in) as show:
            for _ in range(batches):
                show(pixels)
        _wait(target)

    taken = defaultdict[str, list[float]](list)
    for _ in range(repeats):
        # Each warms up first: the allocator's settings change between them.
        with recycled(), as_in_a_scan():
            _twice(recorded)
            taken["bare"].append(_twice(bare))
            in_hooks = 0.0
            taken["recorded"].append(seconds(recorded))
            taken["in hooks"].append(in_hooks)
        if target.type == "cpu":
            with as_in_a_scan():
                taken["fresh"].append(_twice(bare))
        taken["plain"].append(_twice(plainly))
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


def _twice(work: Callable[[], None]) -> float:
    work()
    return seconds(work)


def _wait(target: torch.device) -> None:
    if target.type == "cuda":
        torch.cuda.synchronize(target)
