"""A calculation: 100 million images through an RN50x64 on 256 GPUs.

Constants are measured here; the speed of a GPU is that of an H100 in ``results/gpu.md``.
``docs/how-to/larger-scans.md`` draws the conclusions.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusiform.engine.bench.images import as_jpeg
from fusiform.engine.contrasts.select import seconds_per_unit
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.networks.layers import choose, trial
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.timing import measure_decoding
from fusiform.engine.store.writing.store_draft import max_store_bytes
from fusiform.kernels.moments import Moments, merge

from ..shared import heading, save

IMAGES, GPUS, CATEGORIES, FOLDS, BATCH = 100_000_000, 256, 1000, 2, 256
# Of an H100 (gpu.py): operations a second of an RN50x16 in bfloat16 (1,231 images of 149.4 G), and
# what the kernel reads of its memory.
FLOPS, BANDWIDTH = 1231 * 149.4e9, 3.0e12
# Assumed: the mean size of an image file, what a worker writes to and reads from shared storage.
FILE, STORAGE = 110_000, 1e9
BYTES = 2  # of an activation in bfloat16
CROP = 448


def main() -> None:
    logging.disable(logging.ERROR)
    with torch.device("meta"):
        network = open_clip.create_model("RN50x64", device="meta").visual.eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, CROP, CROP, device="meta"))
    layers, _ = choose(trial(network.to_empty(device="cpu"), CROP), ["blocks"])
    units = sum(layer.units for layer in layers)
    labels = np.repeat(np.arange(CATEGORIES, dtype=np.int32), IMAGES // CATEGORIES)
    plan = make_plan(labels, tuple(map(str, range(CATEGORIES))), folds=FOLDS, batch_size=BATCH)
    bounds = [shard.stop * BATCH for shard in plan.shards[:-1]]
    stops = {block.stop for block in plan.blocks}
    spanning = sum(bound not in stops for bound in bounds)

    merging, decoding, contrasts = _merging(), _decoding(), seconds_per_unit(CATEGORIES, FOLDS)
    forward = IMAGES * counter.get_total_flops() / FLOPS / GPUS
    folding = IMAGES * units * BYTES / BANDWIDTH / GPUS
    groups = CATEGORIES * FOLDS
    written = units * 16 * groups / GPUS / STORAGE
    parts = 2 * spanning * units * 16
    rows = {
        "units of every block": f"{units:,} in {len(layers)} layers",
        "floating-point operations per image": f"{counter.get_total_flops() / 1e9:,.0f} G",
        "merging two groups, per unit (measured)": f"{1e9 * merging:.1f} ns",
        f"decoding to {CROP} pixels, per core (measured)": f"{decoding:,.0f} images/s",
        f"contrasts of {CATEGORIES:,} categories, per unit (measured, 2 cores)": (
            f"{1e6 * contrasts:,.0f} us"
        ),
        "GPU, bfloat16 (measured, an H100)": f"{FLOPS / 1e12:,.0f} T operations/s, "
        f"{BANDWIDTH / 1e12:.1f} TB/s",
        "shards, each of": f"{len(plan.shards)}, {len(plan.shards[0]) * BATCH:,} images",
        "**per GPU**": "",
        "forward passes": _hours(forward),
        "activations read by the kernel": (
            f"{IMAGES * units * BYTES / GPUS / 1e12:,.0f} TB, {_hours(folding)}"
        ),
        "live moments, and those of earlier shards": (
            f"{units * 20 / 1e9:.1f} GB, {units * 16 / 1e9:.1f} GB"
        ),
        "cores that decode, to keep up": f"{IMAGES / GPUS / forward / decoding:.0f}",
        "image files read": (
            f"{IMAGES * FILE / GPUS / 1e9:,.0f} GB, "
            f"{IMAGES * FILE / GPUS / forward / 1e6:,.0f} MB/s"
        ),
        "moments written": f"{units * 16 * groups / GPUS / 1e9:,.0f} GB, {_hours(written)}",
        "**all together**": "",
        "activations, of which nothing is kept": f"{IMAGES * units * BYTES / 1e15:,.0f} PB",
        "image files": f"{IMAGES * FILE / 1e12:,.0f} TB",
        "groups that reach over a shard's end": f"{spanning} of {groups:,}",
        "their parts, written and read": f"{parts / 1e12:,.1f} TB",
        "merging them, on one core": _hours(spanning * units * merging),
        "store, at most (float64, float32)": " and ".join(
            f"{max_store_bytes(layers, CATEGORIES, FOLDS, dtype) / 1e12:,.1f} TB"
            for dtype in ("float64", "float32")
        ),
        "files of moments": f"{2 * groups * len(layers):,}",
        "contrasts, on 2 cores": _hours(contrasts * units),
        "contrasts, a layer a task, on 2 x 256 cores": _hours(
            contrasts * max(layer.units for layer in layers)
        ),
    }
    lines = [
        *heading(__name__, "100 million images, RN50x64, 256 GPUs"),
        f"{IMAGES:,} images of {CATEGORIES:,} categories in {FOLDS} folds, batches of {BATCH}.",
        f"Assumed, not measured: files of {FILE / 1e3:.0f} kB, shared "
        f"storage of {STORAGE / 1e9:.0f} GB/s for each worker.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]
    save(__name__, lines)
    print("\n".join(lines))


def _hours(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _merging(units: int = 4_000_000, repeats: int = 5) -> float:
    """Seconds per unit of merging two groups."""
    rng = np.random.default_rng(0)
    one, other = (Moments(50, rng.normal(size=units), rng.chisquare(49, units)) for _ in range(2))
    taken = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        merge(one, other)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:]) / units


def _decoding() -> float:
    """Images per second that one thread decodes, of drawn JPEGs with sides of 500 pixels."""
    preprocessing = Preprocessing(resize=CROP, crop=CROP, interpolation="bicubic")
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_stimuli(Path(folder) / "drawn", per_category=8, size=500)
        paths = [as_jpeg(path) for path in drawn] * 4
        return measure_decoding(paths, preprocessing, 1).rate
