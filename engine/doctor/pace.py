"""Whether decoding keeps up with the network, and whether both fit into memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ..errors import UserError
from ..machine import Limits, Memory, memory, usable_cores
from .finding import Finding, found, size

if TYPE_CHECKING:
    import torch

    from ..networks.backbones import Backbone
    from ..preprocessing import Preprocessing
    from ..stimuli.catalogue import Catalogue

BATCH_SIZE = 32
# Seconds that decoding and the network are each measured for, about.
_SECONDS = 3.0
_IMAGES = 96
_DRAWN_SIDE = 500
# Times the side that the network asks for, from which on an image is decoded in vain.
_LARGE = 1.6
_FEW = 2
_PASSES = 20


@dataclass(frozen=True)
class Decoding:
    """Images per second on ``workers`` threads; ``side`` is the median of their shorter sides."""

    rate: float
    workers: int
    side: int
    failed: int
    tried: int


def check_pace(
    model: str, stimuli: str | Path | None, device: str | None, limits: Limits
) -> Iterator[Finding]:
    """Decoding against the network's forward pass, in images per second, and memory of a scan."""
    import torch

    from ..decoding.ahead import default_workers, needs_processes
    from ..networks.backbones import load_backbone
    from ..networks.placement import device_for
    from ..scanning.memory import peak_memory, resident_memory
    from ..spec import Network

    backbone = load_backbone(Network(model, weights="none"))
    target = device_for(device)
    workers, cores = default_workers(), usable_cores(limits)
    with tempfile.TemporaryDirectory() as folder:
        preprocessing = backbone.preprocessing
        paths, what, catalogue = _pictures(stimuli, Path(folder))
        if catalogue is not None:
            preprocessing = as_measured(preprocessing, catalogue)
        apart = needs_processes(catalogue, target, workers)
        decoding = measure_decoding(paths, preprocessing, workers, processes=apart)
    if decoding.failed:
        yield found(
            "stimuli",
            f"{decoding.failed} of {decoding.tried} cannot be decoded",
            f"a scan refuses them: fusiform stimuli check {stimuli}",
        )
    if not decoding.rate:
        return
    rate, batch, state = _measure_network(backbone, target)
    by = f"by {workers} processes" if apart else f"on {workers} threads"
    kind = str(target) if target.type == "cpu" else torch.cuda.get_device_name(target)
    yield Finding("decoding", f"{decoding.rate:,.0f} images/s {by}, {what}")
    yield Finding("network", f"{rate:,.0f} images/s: {model}, batch {batch}, {kind}")
    yield judge_pace(
        decoding, rate, resize=backbone.preprocessing.resize, cores=cores,
        shared=target.type == "cpu",
    )  # fmt: skip
    if target.type == "cpu":
        had = resident_memory("self").get("VmRSS", 0)
        yield judge_fit(peak_memory() + state, memory(limits), had)


def judge_pace(
    decoding: Decoding, network: float, *, resize: int, cores: float, shared: bool
) -> Finding:
    """Which of the two a scan waits for.

    Parameters
    ----------
    network : images per second of the forward pass
    resize : side that images are resized to
    cores : that may be used; ``shared`` by decoding and the network, on the CPU
    """
    decode = decoding.rate
    slower, faster = sorted([decode, network])
    which = "decoding" if decode < network else "the network"
    text = f"a scan waits for {which}: the other is {faster / max(slower, 1e-9):.1f} times as fast"
    if shared:
        text += f"; on the same cores about {1 / (1 / decode + 1 / network):,.0f} images/s together"
    ways = []
    most = max(1, int(cores))
    if decoding.workers > most:
        ways.append(f"set --decode-workers {most}, there are no more cores")
    if decode < network:
        if decoding.workers < most:
            ways.append(f"set --decode-workers {most}")
        if decoding.side > _LARGE * resize:
            ways.append(
                f"store images smaller: their shorter side has {decoding.side} pixels, "
                f"{resize} are used"
            )
        if not ways:
            ways.append("decoding takes all cores: more of them is what would help")
    return found("pace", text, "; ".join(ways))


def judge_fit(needed: int, known: Memory | None, had: int) -> Finding:
    """Memory that a scan takes, against what is free and what this program ``had`` already."""
    text = f"about {size(needed)} for a scan (program, network, batch, state of the blocks)"
    if known is None:
        return Finding("memory of a scan", text, severity="unknown")
    left = known.available + had
    short = f"{size(left)} can be had: lower --batch-size, or record fewer --layers"
    return found("memory of a scan", text, short if needed > 0.9 * left else "")


def _pictures(stimuli: str | Path | None, folder: Path) -> tuple[list[Path], str, Catalogue | None]:
    """Images spread over the given set, or drawn ones; what they are, and the set."""
    if stimuli is None:
        from ..bench.images import as_jpeg
        from ..localizer import make_stimuli

        drawn = make_stimuli(folder / "drawn", per_category=2, size=_DRAWN_SIDE)
        paths = list(islice(cycle([as_jpeg(path) for path in drawn]), _IMAGES))
        return paths, f"drawn JPEG of {_DRAWN_SIDE} x {_DRAWN_SIDE}", None
    from ..stimuli.catalogue import read_catalogue

    catalogue = read_catalogue(stimuli)
    paths = spread(catalogue, _IMAGES, folder)
    return paths, f"{len(paths)} of the given stimuli", catalogue


def spread(catalogue: Catalogue, most: int, folder: Path) -> list[Path]:
    """Stimuli from all over a set; those in shards or packed are put into ``folder``."""
    count = min(most, len(catalogue))
    chosen = [index * len(catalogue) // count for index in range(count)]
    if catalogue.members is None and catalogue.pictures is None:
        return [catalogue.path(index) for index in chosen]
    paths = [folder / f"{index}" for index in chosen]
    for index, path in zip(chosen, paths, strict=True):
        with suppress(UserError):  # then it is one that cannot be opened
            path.write_bytes(catalogue.read(index))
    return paths


def as_measured(preprocessing: Preprocessing, catalogue: Catalogue) -> Preprocessing:
    """What is left to be done with the stimuli of a set: packed ones are resized already."""
    packed = catalogue.pictures
    return replace(preprocessing, resize=preprocessing.crop) if packed else preprocessing


def measure_decoding(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    workers: int,
    *,
    processes: bool = False,
) -> Decoding:
    """Decode images as a scan does, each once, for a few seconds at most.

    ``processes``: each worker is one, as for a network on a GPU, and no thread.
    """
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    import numpy as np

    from ..decoding.pictures import picture_of
    from ..decoding.processes import decoders
    from ..stimuli.images import read_header, read_stimulus

    decoded: list[Path] = []
    failed: list[Path] = []
    side = preprocessing.crop

    def decode(path: Path) -> None:
        if time.perf_counter() - started > _SECONDS:
            return
        try:
            content = read_stimulus(path)
            if apart:
                apart.fill(np.empty((side, side, 3), np.uint8), path, content)
            else:
                picture_of(path, content, preprocessing)
        except UserError:
            failed.append(path)
        else:
            decoded.append(path)

    with ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        apart = stack.enter_context(decoders(preprocessing, workers)) if processes else None
        if apart:
            apart.wait()
        started = time.perf_counter()
        list(pool.map(decode, paths))
        taken = time.perf_counter() - started
    sides = [min(read_header(path, read_stimulus(path)).size) for path in decoded]
    smallest = int(median(sides)) if sides else 0
    return Decoding(len(sides) / taken, workers, smallest, len(failed), len(sides) + len(failed))


def _measure_network(backbone: Backbone, target: torch.device) -> tuple[float, int, int]:
    """Images per second up to the last block, the batch size, and bytes of the blocks' state."""
    import torch

    from ..bench.measure import seconds
    from ..networks.hooks import capture
    from ..networks.layers import choose, input_dtype, trial
    from ..networks.placement import place
    from ..scanning.memory import recycled

    network = place(backbone.model, target)
    crop = backbone.preprocessing.crop
    layers, _ = choose(trial(network, crop), ["blocks"])
    images = torch.rand(BATCH_SIZE, crop, crop, 3).to(target, input_dtype(network))
    images = images.permute(0, 3, 1, 2)

    def forward(batch: int) -> float:
        def work() -> None:
            show(images[:batch])
            if target.type == "cuda":
                torch.cuda.synchronize(target)

        return seconds(work)

    with recycled(), capture(network, [layers[-1].name], lambda *_: None) as show:
        forward(_FEW)
        batch = batch_for(forward(_FEW) / _FEW)
        forward(batch)
        spent = [forward(batch)]
        while sum(spent) < _SECONDS and len(spent) < _PASSES:
            spent.append(forward(batch))
    return batch / median(spent), batch, sum(layer.state_bytes for layer in layers)


def batch_for(seconds_per_image: float) -> int:
    """The default batch size, or fewer images where a network takes longer over those."""
    return max(1, min(BATCH_SIZE, int(2 * _SECONDS / max(seconds_per_image, 1e-9))))
