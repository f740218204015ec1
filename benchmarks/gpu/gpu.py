"""An NVIDIA GPU: the kernel beside a copy, networks with statistics, whole scans.

Photographs from the test data, if it is there, else drawn images, repeated under other names. Five
minutes of an H100; ``--sections kernel networks`` measures these alone.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fusiform import Network, make_stimuli, pack_stimuli
from fusiform.engine.bench.images import as_jpeg, repeat_images
from fusiform.engine.bench.network import measure_network
from fusiform.engine.decoding.jpegs import Jpegs
from fusiform.engine.networks.backbones import load_backbone
from fusiform.kernels import cuda, device

from ..shared import heading, photographs, save, scan, with_gpu

GPU = torch.device("cuda")
# Units of the blocks of a ResNet-50 at 224 pixels, stage by stage, and of a large layer of an
# RN50x16 at 384.
LAYERS = (802_816, 401_408, 200_704, 100_352, 3_538_944)
BATCH = 256
TURNS, QUEUED = 9, 10
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Network, precision, compiled, turns.
NETWORKS = (
    ("resnet50", "float32", False, 3),
    ("resnet50", "bfloat16", False, 3),
    ("clip:RN50x16", "bfloat16", False, 3),
    ("clip:RN50x16", "float32", False, 2),
    ("resnet50", "tf32", False, 3),
    ("vit_l_16", "bfloat16", False, 3),
    ("resnet50", "bfloat16", True, 3),
)
SCANS = (
    ("pillow", "bfloat16", BATCH),
    ("torchvision", "bfloat16", BATCH),
    ("packed", "bfloat16", BATCH),
    ("packed", "float32", BATCH),
    ("packed", "bfloat16", 32),
)
IMAGES = 8192
MODEL = "resnet50"
KERNEL = f"""\
## The kernel

A batch of {BATCH} of one group into the moments of a layer that has begun, against a copy on
the device that moves as many bytes: the batch is read, sums are read and written, so that the
copy is of half as much. Medians of {TURNS} turns of {QUEUED} launches in a CUDA graph, each of
another batch, so that the cache holds none of it. `torch`: the kernel for devices without
Triton. `host`: time that a program spends to hand one batch of one layer on.

| units | activations | bytes | copy, GB/s | kernel, GB/s | of the copy | torch | host, us |
|---|---|---|---|---|---|---|---|"""
FORWARD = f"""\
## Networks

Untrained, one batch of {BATCH} that is there already, statistics on every block, against
the forward pass up to the last of them; medians of turns of several batches. `plain` is
the whole network in a loop as one writes it (channels first).

| network | layers | bare, images/s | with statistics | times as long | plain |
|---|---|---|---|---|---|"""
SCANNED = f"""\
## Scans

{MODEL}, untrained, all blocks, {IMAGES:,} JPEG files in two folds. `images/s`: from the first
batch to the last. `memory`: the most that torch held on the GPU, of what was projected, GiB.

| images decoded by | precision | batch | images/s | whole scan, s | memory | projected |
|---|---|---|---|---|---|---|"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--sections", nargs="+", choices=[*SECTIONS], default=[*SECTIONS])


def main(given: Namespace) -> None:
    lines = [
        *heading(__name__, "On a GPU", needs_testdata=True)[:-1],
        with_gpu(torch.cuda.get_device_name(GPU)),
    ]
    for name in given.sections:
        lines.append("")
        for line in SECTIONS[name]():
            print(line, flush=True)
            lines.append(line)
            save(__name__, lines)


def kernel() -> Iterator[str]:
    """The kernel alone, layer by layer, against a copy of as many bytes on the device."""
    yield from KERNEL.splitlines()
    for dtype in DTYPES:
        for units in LAYERS:
            yield _kernel_row(units, dtype)


def _kernel_row(units: int, dtype: torch.dtype) -> str:
    nbytes = BATCH * units * dtype.itemsize
    moved = nbytes + 2 * units * (16 + dtype.itemsize)
    # Batches that a launch after the other takes: more than the cache holds, less than all memory.
    others = QUEUED if nbytes < 4 * 2**30 else 3
    batches = torch.randn(others, BATCH, units, device=GPU, dtype=dtype)
    pivot = batches[0, :1].clone()
    sums = torch.zeros(2, 1, units, device=GPU, dtype=torch.float64)
    half = moved // 2
    copies = QUEUED if moved < 2**30 else 1
    sources = torch.ones(half * copies, dtype=torch.uint8, device=GPU).split(half)
    target = torch.empty_like(sources[0])
    groups, count = np.zeros(BATCH, np.int64), np.ones(1, np.int64)

    def fold(kernels: object, turn: int) -> None:
        kernels.fold_in(batches[turn % len(batches)], groups, count, pivot, *sums)  # type: ignore

    works: dict[str, Callable[[int], object]] = {
        "copy": lambda turn: target.copy_(sources[turn % len(sources)]),
        "kernel": partial(fold, cuda),
        "torch": partial(fold, device),
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    graphs = {name: _graph(work) for name, work in works.items()}
    for _ in range(TURNS):
        for name, graph in graphs.items():
            graph.replay()
            taken[name].append(_seconds(graph.replay) / QUEUED)
    del graphs
    started = time.perf_counter()
    for turn in range(QUEUED):
        fold(cuda, turn)
    host = (time.perf_counter() - started) / QUEUED
    torch.cuda.synchronize()
    speed = {name: moved / statistics.median(each) / 1e9 for name, each in taken.items()}
    share = statistics.median(a / b for a, b in zip(taken["copy"], taken["kernel"], strict=True))
    return (
        f"| {units:,} | {str(dtype).removeprefix('torch.')} | {moved / 1e6:,.0f} MB | "
        f"{speed['copy']:,.0f} | {speed['kernel']:,.0f} | {share:.0%} | {speed['torch']:,.0f} | "
        f"{1e6 * host:.0f} |"
    )


def _graph(work: Callable[[int], object]) -> torch.cuda.CUDAGraph:
    work(0)  # which compiles it
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(QUEUED):
            work(turn)
    return graph


def _seconds(work: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def networks() -> Iterator[str]:
    """Networks with statistics on every block, against their bare forward pass."""
    yield from FORWARD.splitlines()
    for model, precision, compile, turns in NETWORKS:
        network = Network(model, weights="none", precision=precision, compile=compile)
        measured = measure_network(network, GPU, batch_size=BATCH, repeats=turns)
        rows = {row.what.partition(" ")[0]: row for row in measured}
        bare, recorded, plain = rows["bare"], rows["with"], rows["plain"]
        pace = [1e3 * BATCH / row.value for row in (bare, recorded, plain)]
        yield (
            f"| {model}, {precision}{', compiled' if compile else ''} | "
            f"{recorded.what.removeprefix('with ')} | {pace[0]:,.0f} | {pace[1]:,.0f} | "
            f"{recorded.compared['of bare']:.3f} | {pace[2]:,.0f} |"
        )
        torch.cuda.empty_cache()


def scans() -> Iterator[str]:
    """Whole scans, from image files to the store."""
    yield from SCANNED.splitlines()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        repeat_images(_photographs(Path(folder)), stimuli, IMAGES)
        packed = Path(folder) / "packed.zarr"
        pack_stimuli(stimuli, packed, network=Network(MODEL, weights="none"))
        for decoder, precision, batch in SCANS:
            source = packed if decoder == "packed" else stimuli
            yield _scan_row(source, decoder, precision, batch, Path(folder) / "o.zarr")


def _photographs(folder: Path) -> list[Path]:
    return photographs() or [
        as_jpeg(path) for path in make_stimuli(folder / "drawn", per_category=16)
    ]


def _scan_row(source: Path, decoder: str, precision: str, batch: int, output: Path) -> str:
    torch.cuda.reset_peak_memory_stats()
    found = scan(
        MODEL, source, output, device="cuda", precision=precision, batch_size=batch,
        memory_budget="60GiB", decode_workers=os.cpu_count(),
        preprocessing={"decoder": decoder} if decoder == "torchvision" else None,
    )  # fmt: skip
    held = torch.cuda.max_memory_reserved() / 2**30
    projected = next(note for note in found.notes if note.startswith("memory: at most")).split()[3]
    return (
        f"| {decoder} | {precision} | {batch} | {found.pace:,.0f} | {found.seconds:.1f} | "
        f"{held:.2f} | {projected} |"
    )


def jpegs() -> Iterator[str]:
    """JPEG files decoded by nvJPEG, against the same by torchvision on the CPU."""
    yield "## JPEG files decoded by nvJPEG"
    yield ""
    chosen = load_backbone(Network(MODEL, weights="none")).preprocessing
    preprocessing = replace(chosen, decoder="torchvision")
    there, here = Jpegs(preprocessing, GPU), Jpegs(preprocessing, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        paths = _photographs(Path(folder))[::7]
        files = [file for path in paths if (file := there.read(path, path.read_bytes()))]
    pairs = list(zip(there.prepare(files), here.prepare(files), strict=True))
    apart = [
        int((one.cpu().int() - other.int()).abs().max())
        for one, other in pairs
        if one is not None and other is not None
    ]
    yield f"{len(files)} of {len(paths)} files by torchvision, {len(files) - len(apart)} of them"
    yield f"refused on the GPU or the CPU; pixels differ by at most {max(apart)} of 255."


SECTIONS = {"kernel": kernel, "networks": networks, "scans": scans, "jpegs": jpegs}
