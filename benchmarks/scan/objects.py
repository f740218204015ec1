"""Images of the program against a folder of PNG files: bits, time and memory of small scans.

Takes some minutes. A mapping, a Dataset and a stream are scanned into memory, the folder also to a
store on the disk. The time of the forward passes alone is measured in the same turns.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fusiform.engine.machine import resident_memory

from ..shared import clocked, head, heading, row, save, scan

# Images of two categories, their side, and those in a batch.
NUMBER, SIDE, BATCH = 300, 32, 32
# Turns that do not count.
FIRST = 1
OPTIONS: dict[str, Any] = {"weights": "default", "preprocessing": {"resize": SIDE, "crop": SIDE}}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=9, help="that are timed")
    parser.add_argument("--scans", type=int, default=200, help="that memory is watched over")


def main(given: Namespace) -> None:
    network, images, labels = made()
    uint8 = TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    uint8.classes = ["faces", "places"]  # type: ignore[attr-defined]
    mapping = {name: images[labels == label] for label, name in enumerate(uint8.classes)}
    with tempfile.TemporaryDirectory() as root:
        folder, output = Path(root) / "png", Path(root) / "o.zarr"
        for name, own in mapping.items():
            (folder / name).mkdir(parents=True)
            for number, picture in enumerate(own):
                Image.fromarray(picture).save(folder / name / f"{number:03}.png")
        scanned = partial(scan, network, **OPTIONS)
        ways: dict[str, Callable[[], Any]] = {
            "forward passes alone": partial(shown, network, images),
            "mapping, in memory": partial(scanned, mapping, None),
            "Dataset, in memory": partial(scanned, uint8, None),
            "stream, in memory": partial(scanned, DataLoader(uint8, batch_size=BATCH), None),
            "folder of PNG, in memory": partial(scanned, folder, None),
            "folder of PNG, store on the disk": partial(scanned, folder, output),
        }
        same = require_same([ways[name]().store for name in list(ways)[1:] if "stream" not in name])
        wall: dict[str, list[float]] = {name: [] for name in ways}
        core: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(FIRST + given.turns):
            for name, way in ways.items():
                before = time.process_time()
                seconds = clocked(way)
                if turn >= FIRST:
                    wall[name].append(seconds)
                    core[name].append(time.process_time() - before)
        load = os.getloadavg()[0]
        memory = watched(ways["mapping, in memory"], given.scans)
    alone, *others = ways
    lines = [
        *heading(__name__, "Images of the program", f"--turns {given.turns} --scans {given.scans}"),
        f"{NUMBER} images of {SIDE} x {SIDE} pixels in two categories, a network of 8 layers and",
        "53,322 units, two folds; t, q, CSI and masks included. All ways took turns in a process,",
        f"{given.turns} each. `of the cores` is the time of all threads of the process; others",
        f"do not change it much: the load of the machine was {load:.1f}. Milliseconds.",
        "",
        f"The mapping, the Dataset and the folder give the same bits in {same} arrays.",
        "",
        *head("stimuli, store", "median", "least", "over forward", "of the cores", "over forward"),
        *(
            row(
                name,
                *(f"{1e3 * of(wall[name]):,.0f}" for of in (median, min)),
                over(wall[name], wall[alone]),
                f"{1e3 * median(core[name]):,.0f}",
                over(core[name], core[alone]),
            )
            for name in (alone, *others)
        ),
        "",
        f"Resident memory over {given.scans} scans of the mapping, each with its table",
        "(`scan(...).frame()`):",
        "",
        *head("scans", "MiB"),
        *(row(scans, f"{mib:,.1f}") for scans, mib in memory),
    ]
    save(__name__, lines)


def made() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A small network, images ``[n, y, x, 3]`` and their labels."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    labels = np.arange(NUMBER) % 2
    images = np.random.default_rng(0).integers(0, 256, (NUMBER, SIDE, SIDE, 3), np.uint8)
    return network, images // (labels + 1).astype(np.uint8)[:, None, None, None], labels


def shown(network: nn.Module, images: np.ndarray) -> None:
    """The forward passes of a scan, in its batches."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            network(pixels[start : start + BATCH].float().div_(255))


def require_same(stores: list[Any]) -> int:
    """Fail unless all stores hold the same bits; number of their arrays."""
    number = 0
    first, *others = stores
    for layer in first.layers:
        for name, values in first.dataset(layer.name).data_vars.items():
            number += 1
            for other in others:
                np.testing.assert_array_equal(values, other.dataset(layer.name)[name])
    return number


def over(taken: list[float], alone: list[float]) -> str:
    """Milliseconds beyond the forward passes, of the turn that took least; empty for themselves."""
    return "" if taken is alone else f"{1e3 * (min(taken) - min(alone)):,.0f}"


def watched(way: Callable[[], Any], scans: int) -> list[tuple[int, float]]:
    """Resident memory, in MiB, after so many scans."""
    found = []
    for number in range(1, scans + 1):
        way().store.frame()
        if number in (1, 5, 10, 20, 50, 100, 150, scans):
            gc.collect()
            time.sleep(0.1)  # a writing thread may still end
            found.append((number, resident_memory("self")["VmRSS"] / 2**20))
    return found
