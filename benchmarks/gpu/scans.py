"""The supply of a GPU: images/s of every stage alone and together, and where a scan waits.

Draws its own JPEG files. A few minutes of an H100 with 16 cores. First, and alone where no GPU is,
a simulated network that only waits: images/s that reach it, and those of one core.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fusiform import Network, Preprocessing, make_stimuli, pack_stimuli
from fusiform.engine.bench.images import as_jpeg, repeat_images
from fusiform.engine.bench.network import measure_network
from fusiform.engine.decoding.ahead import Decoded, ImageSource, decode_ahead
from fusiform.engine.decoding.buffers import Arrived, Buffers, Pinned, Ring, Rows
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.scanning import loop
from fusiform.engine.scanning.timing import seconds
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue

from ..shared import head, heading, row, save, scan, with_gpu

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MODEL, PRECISION, BATCH, SIDE = "resnet50", "bfloat16", 256, 224
# Images of a set by their side, on a GPU; those drawn for it, per category.
IMAGES, DRAWN = {256: 16_384, 1024: 2_048}, {256: 8, 1024: 2}
TURNS = 3
BY_PILLOW, BY_LIBRARY = Preprocessing(), Preprocessing(decoder="torchvision")
# Of a simulated network: images a second, and how many images are shown to it.
PACE, SHOWN = 12_000, 8_192


class Set(NamedTuple):
    """A stimulus set: where it is, and the order in which a scan shows it."""

    place: Path
    catalogue: Catalogue
    plan: Plan


class Held(Ring):
    """Buffers of a simulated device, which reads a batch where it was decoded."""

    def _left(self, pixels: NDArray[np.uint8], others: Rows) -> Arrived:
        del others
        return Arrived(pixels)


class Simulated(ImageSource):
    """Images for a simulated device, unless ``device`` is a GPU."""

    def buffers(self, stimuli: int, *, processes: bool) -> Buffers:
        """Buffers that batches are not copied out of."""
        if self.device.type == "cuda":
            return super().buffers(stimuli, processes=processes)
        return Held((stimuli, SIDE, SIDE, 3), 4, shared=processes)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--pace", type=int, default=PACE, help="images/s of a simulated network")
    parser.add_argument("--images", type=int, help="images in a set; by default enough for a GPU")


def main(given: Namespace) -> None:
    there = torch.cuda.is_available()
    lines = heading(__name__, "What feeds a GPU")
    if there:
        lines[-1] = with_gpu(torch.cuda.get_device_name(GPU))
    else:
        lines += ["", "No GPU is here: only the simulated network has been measured."]
    with tempfile.TemporaryDirectory() as folder:
        sides = IMAGES if there else {256: SHOWN}
        sets = drawn_sets(Path(folder), {s: given.images or n for s, n in sides.items()})
        sections = [simulated(sets, given.pace), *([stages(sets), scans(sets)] if there else [])]
        for section in sections:
            lines.append("")
            for line in section:
                print(line, flush=True)
                lines.append(line)
                save(__name__, lines)


def drawn_sets(folder: Path, numbers: dict[int, int]) -> dict[str, Set]:
    """Sets of JPEG files by their side, and the smallest of them packed."""
    found = {}
    for side, number in numbers.items():
        drawn = make_stimuli(folder / f"drawn {side}", per_category=DRAWN[side], size=side)
        place = folder / f"{side}"
        repeat_images([as_jpeg(path) for path in drawn], place, number)
        found[f"{side}-pixel JPEG"] = place
    pack_stimuli(folder / "256", folder / "packed.zarr")
    found["packed"] = folder / "packed.zarr"
    return {name: planned(place) for name, place in found.items()}


def planned(place: Path) -> Set:
    """A set whose files are known."""
    catalogue = read_catalogue(place)
    catalogue.look()
    return Set(
        place, catalogue, make_plan(catalogue.labels, catalogue.categories, batch_size=BATCH)
    )


# A simulated network


def simulated(sets: dict[str, Set], pace: int) -> Iterator[str]:
    """Images/s that the program feeds to a network that only waits."""
    cores = os.cpu_count() or 1
    yield "## A simulated network"
    yield ""
    yield f"It takes {pace:,} images/s in batches of {BATCH} and no core; no statistics. Measured"
    yield "from the first quarter of a set to its last batches. `of a core`: images per second that"
    yield "the program and its decoding processes compute."
    yield f"Medians of {TURNS} turns, {cores} workers."
    yield ""
    yield from head("images", "images/s", "of a core", "network waits")
    packed, jpegs = sets["packed"], sets["256-pixel JPEG"]
    ways: dict[str, tuple[Set, dict[str, Any]]] = {
        "decoded, in memory": (packed, {"memory": True}),
        "packed": (packed, {}),
        "256-pixel JPEG, threads": (jpegs, {"processes": False}),
        "256-pixel JPEG, processes": (jpegs, {"processes": True}),
    }
    for name, (one, how) in ways.items():
        turns = [fed(one, pace, cores, **how) for _ in range(TURNS)]
        clock, core, waits = (statistics.median(part) for part in zip(*turns, strict=True))
        yield row(name, f"{clock:,.0f}", f"{core:,.0f}", f"{waits:.0%}")


def fed(
    one: Set, pace: int, workers: int, *, memory: bool = False, processes: bool | None = None
) -> tuple[float, float, float]:
    """Images a second by the clock and of a core, and the share of time that the network waits."""
    source = Simulated(one.catalogue, BY_PILLOW, workers, processes=processes)
    batches = from_memory(source, one.plan) if memory else decode_ahead(source, one.plan)
    # Between these as many batches are decoded as are shown.
    first, last = one.plan.n_batches // 4, one.plan.n_batches - 4
    free, waited, marks = 0.0, 0.0, list[tuple[float, float]]()
    for number, decoded in enumerate(batches):
        now = time.perf_counter()
        if number in (first, last):
            marks.append((now, computed()))
        if first < number <= last:
            waited += max(0.0, now - free)
        before, free = free, max(now, free) + len(decoded.batch.stimuli) / pace
        time.sleep(max(0.0, before - now))  # as on a GPU, a batch is launched while one computes
    clock, core = (end - begin for begin, end in zip(*marks, strict=True))
    shown = (last - first) * BATCH
    return shown / clock, shown / core, waited / clock


def computed() -> float:
    """Seconds that this program and its children have computed, running or ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = sum(one.ru_utime + one.ru_stime for one in used)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def from_memory(source: ImageSource, plan: Plan, **options: Any) -> Iterator[Decoded]:
    """Batches of ``plan`` that are decoded already: all of the same pixels, in pinned memory."""
    del options
    cuda = source.device.type == "cuda"
    pixels = memory_batch().pin_memory() if cuda else memory_batch()
    for batch in plan.batches():
        own = pixels[: len(batch.stimuli)]
        yield Decoded(batch, own.to(source.device, non_blocking=True) if cuda else own.numpy(), {})


@cache
def memory_batch() -> torch.Tensor:
    """A batch of noise."""
    return torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), dtype=torch.uint8)


# A GPU


def stages(sets: dict[str, Set]) -> Iterator[str]:
    """Every stage alone."""
    yield "## Stages alone"
    yield ""
    yield f"{MODEL}, untrained, {PRECISION}, every block, batches of {BATCH}. Read and decoded: by"
    yield f"{os.cpu_count()} workers, into buffers in turn, after the first quarter of a set."
    yield ""
    yield from head("stage", "images/s")
    bare, recorded = paces()
    yield row("forward pass", f"{bare:,.0f}")
    yield row("forward pass with statistics", f"{recorded:,.0f}")
    yield row("statistics, by the difference", f"{1 / max(1e-9, 1 / recorded - 1 / bare):,.0f}")
    yield row("copy to the device", f"{copied():,.0f}")
    for name, one in sets.items():
        ways: dict[str, tuple[Preprocessing, bool | None, torch.device]] = {
            "read": (BY_PILLOW, False, CPU)
        }
        if name != "packed":
            ways = {
                "Pillow in processes": (BY_PILLOW, True, CPU),
                "Pillow in threads": (BY_PILLOW, False, CPU),
                "libjpeg in threads": (BY_LIBRARY, False, CPU),
                "nvJPEG": (BY_LIBRARY, False, GPU),
            }
        for way, how in ways.items():
            try:
                yield row(f"{name}, {way}", f"{decoded_alone(one, *how):,.0f}")
            except UserError as error:
                yield row(f"{name}, {way}", f"cannot: {error}")


@cache
def paces() -> tuple[float, float]:
    """Images a second of the bare forward pass, and of one with statistics."""
    network = Network(MODEL, weights="none", precision=PRECISION)
    measured = measure_network(network, GPU, batch_size=BATCH, repeats=TURNS)
    rows = {one.what.partition(" ")[0]: 1e3 * BATCH / one.value for one in measured}
    return rows["bare"], rows["with"]


def copied() -> float:
    """Images a second from pinned memory to the device."""
    ring = Pinned((BATCH, SIDE, SIDE, 3), 4, GPU, shared=False)

    def copy() -> None:
        for _ in range(40):
            ring.hand_over(ring.take(BATCH))

    copy()
    return 40 * BATCH / seconds(copy, GPU)


def decoded_alone(
    one: Set, preprocessing: Preprocessing, processes: bool | None, device: torch.device
) -> float:
    """Images a second after the first quarter of a set; nothing is done with them."""
    workers = os.cpu_count() or 1
    source = Simulated(one.catalogue, preprocessing, workers, device=device, processes=processes)
    batches = decode_ahead(source, one.plan)
    for _ in islice(batches, one.plan.n_batches // 4):
        pass
    started, shown = time.perf_counter(), 0
    for decoded in batches:
        shown += len(decoded.batch.stimuli)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return shown / (time.perf_counter() - started)


def scans(sets: dict[str, Set]) -> Iterator[str]:
    """Whole scans, and the share of their stream in which the loop waits for images."""
    bare, _ = paces()
    yield "## Together"
    yield ""
    yield "Scans into stores, two folds; `images/s` from the first batch to the last; `of bare`: of"
    yield f"{bare:,.0f} images/s. The loop waits for images; in the rest of the time it launches"
    yield "the network, or waits for the moments of a full group, or until they are written."
    yield ""
    yield from head("images", "images/s", "of bare", "waits for images", "whole scan, s")
    small, large = sets["256-pixel JPEG"], sets["1024-pixel JPEG"]
    ways = {
        "decoded, in memory": (sets["packed"], "memory"),
        "packed": (sets["packed"], "pillow"),
        "256-pixel JPEG, Pillow": (small, "pillow"),
        "256-pixel JPEG, nvJPEG": (small, "torchvision"),
        "1024-pixel JPEG, Pillow": (large, "pillow"),
        "1024-pixel JPEG, nvJPEG": (large, "torchvision"),
    }
    scanned(sets["packed"], "pillow")  # compiles kernels
    for name, (one, decoder) in ways.items():
        try:
            pace, waits, taken = scanned(one, decoder)
        except UserError as error:
            yield row(name, f"cannot: {error}", "", "", "")
            continue
        yield row(name, f"{pace:,.0f}", f"{pace / bare:.2f}", f"{waits:.0%}", f"{taken:.1f}")


def scanned(one: Set, decoder: str) -> tuple[float, float, float]:
    """Images a second, the share of waiting for images, and the seconds of a scan."""
    decode, waited = loop.decode_ahead, list[float]()

    def waiting(*given: Any, **options: Any) -> Iterator[Decoded]:
        batches = (from_memory if decoder == "memory" else decode)(*given, **options)
        while True:
            started = time.perf_counter()
            decoded = next(batches, None)
            waited.append(time.perf_counter() - started)
            if decoded is None:
                return
            yield decoded

    loop.decode_ahead = waiting
    try:
        found = scan(
            MODEL, one.place, one.place.with_name("o.zarr"), device="cuda", precision=PRECISION,
            batch_size=BATCH, decode_workers=os.cpu_count(),
            preprocessing={"decoder": decoder} if decoder == "torchvision" else None,
        )  # fmt: skip
    finally:
        loop.decode_ahead = decode
    stream = found.steps[-1][0] - found.steps[0][0]
    return found.pace, sum(waited[1:]) / stream, found.seconds
