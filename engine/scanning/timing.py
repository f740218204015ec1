"""Speed of decoding and of the network, for ``plan`` and ``bench``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    import torch

    from ..preprocessing import Preprocessing
    from ..stimuli.catalogue import Catalogue

# Seconds that decoding is measured for, at most.
_SECONDS = 3.0
# Batches that are timed, after one that does not count, until they have taken so many seconds; a
# single one that takes so many.
_BATCHES, _ENOUGH, _LONG = 3, 1.0, 10.0
# An image this many times larger than the network asks for is decoded in vain.
_LARGE = 1.6


@dataclass(frozen=True)
class Decoding:
    """Images per second by ``workers``; ``side`` is the median of the images' shorter sides."""

    rate: float
    workers: int
    side: int
    failed: int
    tried: int

    def advice(self, network: float, resize: int, cores: float) -> str:
        """How to speed up decoding, where a ``network`` with this many images per second waits.

        ``resize`` is the side that images are resized to, ``cores`` those that may be used.
        """
        waits, most, ways = self.rate < network, max(1, int(cores)), []
        if self.workers > most:
            ways.append(f"decode with {most} workers: there are no more cores")
        elif waits and self.workers < most:
            ways.append(f"decode with {most} workers")
        if waits and self.side > _LARGE * resize:
            used = f"{resize} are used"
            ways.append(f"store images smaller: their shorter side has {self.side} pixels, {used}")
        return "; ".join(ways)


def seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall time of one call, until the device has finished it."""
    started = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def seconds_per_batch(show: Callable[[], object], device: torch.device) -> float:
    """Median time of a batch; ``show`` shows one."""
    taken = [seconds(show, device)]
    while len(taken) <= _BATCHES and taken[0] <= _LONG and sum(taken[1:]) < _ENOUGH:
        taken.append(seconds(show, device))
    return sorted(taken[1:] or taken)[len(taken[1:]) // 2]


def measure_decoding(
    paths: Sequence[Path], preprocessing: Preprocessing, workers: int, *, processes: bool = False
) -> Decoding:
    """Decode images as a scan does, each once, for a few seconds at most.

    ``processes``: workers are processes, as for a network on a GPU, instead of threads.
    """
    from ..decoding.pictures import picture_of
    from ..stimuli.images import UnfitStimulus, read_header, read_stimulus

    decoded: list[Path] = []
    failed: list[Path] = []

    def decode(number: int) -> None:
        path = paths[number]
        if time.perf_counter() - started > _SECONDS:
            return
        try:
            if apart:
                for reason in apart(number):
                    if reason:
                        raise UnfitStimulus(path, reason)
            else:
                picture_of(path, read_stimulus(path), preprocessing)
        except UserError:
            failed.append(path)
        else:
            decoded.append(path)

    with ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        apart = None
        if processes:
            apart = stack.enter_context(_processes(paths, preprocessing, workers))
        started = time.perf_counter()
        list(pool.map(decode, range(len(paths))))
        taken = time.perf_counter() - started
    sides = [min(read_header(path, read_stimulus(path)).size) for path in decoded]
    smallest = int(median(sides)) if sides else 0
    return Decoding(len(sides) / taken, workers, smallest, len(failed), len(sides) + len(failed))


@contextmanager
def _processes(
    paths: Sequence[Path], preprocessing: Preprocessing, workers: int
) -> Iterator[Callable[[int], Iterator[str]]]:
    """Decoding processes, and a function that decodes one of ``paths``."""
    import numpy as np

    from ..decoding.buffers import Ring
    from ..decoding.processes import decoders
    from ..stimuli.catalogue import Catalogue
    from ..stimuli.columns import Texts

    names = Texts.of(map(str, paths))
    catalogue = Catalogue(Path(), (), names, np.zeros(len(paths), np.int32))
    catalogue.look()
    side = preprocessing.crop
    ring = Ring((len(paths), side, side, 3), 1, shared=True)
    assert ring.file is not None
    try:
        with decoders(preprocessing, workers, ring.file) as apart:
            apart.wait()
            yield lambda number: apart.fill(number, catalogue.files(np.array([number])))
    finally:
        ring.close()


def spread(catalogue: Catalogue, most: int, folder: Path) -> list[Path]:
    """Stimuli from all over a set; those that are no files are copied into ``folder``."""
    from ..stimuli.listing import Files

    count = min(most, len(catalogue))
    chosen = [index * len(catalogue) // count for index in range(count)]
    if isinstance(catalogue.images, Files):
        return [catalogue.path(index) for index in chosen]
    paths = [folder / f"{index}" for index in chosen]
    for index, path in zip(chosen, paths, strict=True):
        with suppress(UserError):  # it cannot be opened later
            path.write_bytes(catalogue.read(index))
    return paths


def as_measured(preprocessing: Preprocessing, catalogue: Catalogue) -> Preprocessing:
    """The preprocessing left for the stimuli of a set: packed ones are resized already."""
    packed = catalogue.pictures
    return replace(preprocessing, resize=preprocessing.crop) if packed else preprocessing
