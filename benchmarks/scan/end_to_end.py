"""The whole job, from image files to t: fusiform beside two hand-written scripts.

Needs the test data. Also draws the chart of the README's first screen, ``results/end_to_end.svg``.
Half an hour, 20 GiB of memory, and 12 GB in the folder for temporary files; ``--repeats`` and
``--images`` change that.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fusiform.engine.bench.measure import Finished, ratio, run

from ..shared import RESULTS, again, head, heading, link_images, save, testdata

WAYS = {
    "fusiform": "fusiform scan",
    "memory": "hooks, keep in memory, scipy.stats.ttest_ind",
    "disk": "hooks, one .npy file per layer, scipy.stats.ttest_ind",
}
# Units whose activations a script takes from disk at a time: 160 MB for 480 images.
_SLAB = 83_886


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=int, nargs="+", default=[120, 240, 480])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--script", choices=["memory", "disk"], help="run one script, here")
    parser.add_argument("--stimuli", type=Path, help="its stimuli")


def main(arguments: Namespace) -> None:
    if arguments.script:
        print(json.dumps(_script(arguments.script, arguments.stimuli)))
        return
    if any(number % 10 or not 0 < number <= 480 for number in arguments.images):
        raise SystemExit("--images are multiples of 10, at most 480")
    os.environ["FUSIFORM_TESTDATA"] = str(testdata())
    found: dict[tuple[str, int], list[Finished]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in arguments.images:
            link_images(Path(str(number)), number)
        for _ in range(arguments.repeats):  # the ways take turns
            for number in arguments.images:
                for way in WAYS:
                    finished = _run(way, number)
                    found.setdefault((way, number), []).append(finished)
                    print(way, number, f"{finished.seconds:.0f} s", flush=True)
                    print(f"  {finished.anonymous_bytes / 2**30:.2f} GiB", flush=True)
    measured = {
        key: ([f.seconds for f in runs], [f.anonymous_bytes / 2**30 for f in runs])
        for key, runs in found.items()
    }
    save(__name__, _report(measured, arguments.images, arguments.repeats))
    _draw(measured, arguments.images)


def _run(way: str, number: int) -> Finished:
    if way == "fusiform":
        model = ("resnet50", str(number), "--weights", "none")
        return run("scan", *model, "-o", "r50.zarr", "--overwrite", "--device", "cpu")
    return again(__name__, "--script", way, "--stimuli", str(number))


def _script(keep: str, stimuli: Path) -> dict[str, float]:
    """The usual script: every activation of every block kept, and then the t-tests."""
    import torch
    from scipy.stats import ttest_ind
    from torch.utils.data import DataLoader
    from torchvision import datasets, models

    network = models.resnet50(weights=None).eval()
    preprocess = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    images = datasets.ImageFolder(stimuli, preprocess)
    labels = np.array(images.targets)
    kept: dict[str, Any] = {}
    shown = 0

    def hook_for(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            activation = output.detach().numpy()
            if keep == "memory":
                kept.setdefault(name, []).append(activation)
                return
            if name not in kept:
                shape = (len(images), *activation.shape[1:])
                kept[name] = np.lib.format.open_memmap(f"{name}.npy", "w+", np.float32, shape)
            kept[name][shown : shown + len(activation)] = activation

        return hook

    blocks = {n: m for n, m in network.named_modules() if type(m).__name__ == "Bottleneck"}
    for name, module in {"maxpool": network.maxpool, **blocks, "avgpool": network.avgpool}.items():
        module.register_forward_hook(hook_for(name))
    with torch.no_grad():
        for batch, _ in DataLoader(images, batch_size=32, num_workers=2):
            network(batch)
            shown += len(batch)
    selective: dict[str, int] = {}
    for name in list(kept):
        activations = kept.pop(name)
        if keep == "memory":
            activations = np.concatenate(activations)
        for slab in _slabs(activations.reshape(len(images), -1)):
            for target, category in enumerate(images.classes):
                t, _ = ttest_ind(slab[labels == target], slab[labels != target], equal_var=False)
                found = f"{name}, {category}"
                selective[found] = selective.get(found, 0) + int((t > 5).sum())
    return selective


def _slabs(activations: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, activations.shape[1], _SLAB):
        yield activations[:, start : start + _SLAB]


# Seconds and GiB of every turn, by way and number of images.
Measured = dict[tuple[str, int], tuple[list[float], list[float]]]


def _report(measured: Measured, images: list[int], repeats: int) -> list[str]:
    options = f"--images {' '.join(map(str, images))} --repeats {repeats}"
    title = "End to end: from image files to t-statistics of every unit of every block"
    lines = [
        *heading(__name__, title, options, needs_testdata=True),
        f"Whole processes that took turns; medians of {repeats}.",
        "",
        "ResNet-50 (untrained), the stem, 16 blocks and the pooled output, 5.7 million units;",
        "photographs (fLoc) of five categories. The scripts give Welch's t of each category",
        "against the rest. fusiform gives that, t and q against each other category, CSI, and",
        "masks on all stimuli and on both halves of them, in a store that keeps the moments.",
        "",
        *head("images", "way", "seconds", "of fusiform", "peak memory, GiB", "of fusiform"),
    ]
    for number in images:
        for way, name in WAYS.items():
            cells = [
                f"{statistics.median(values):.{digits}f} | {ratio(values, ours):.1f}"
                for values, ours, digits in zip(
                    measured[way, number], measured["fusiform", number], (0, 2), strict=True
                )
            ]
            lines.append(f"| {number} | {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Memory: what the process has of its own, looked at 50 times a second. Files that are",
        "mapped into memory, libraries and .npy files, are not in it: the system can drop them.",
        "The .npy files take 23 MB on disk for every image.",
    ]
    return lines


def _draw(measured: Measured, images: list[int]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fusiform"
    from matplotlib import pyplot

    names = {"fusiform": "fusiform", "memory": "keep in memory", "disk": "write to disk"}
    colours = {"fusiform": "#c1272d", "memory": "#5b7083", "disk": "#a9b7c2"}
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
    for axis, column, title in zip(
        axes, (0, 1), ("Whole job, seconds", "Peak memory, GiB"), strict=True
    ):
        lines = {
            way: [statistics.median(measured[way, number][column]) for number in images]
            for way in WAYS
        }
        apart = 0.07 * max(values[-1] for values in lines.values())
        label = -apart
        for way, values in sorted(lines.items(), key=lambda line: line[1][-1]):
            label = max(values[-1], label + apart)
            axis.plot(images, values, "o-", color=colours[way], linewidth=2, clip_on=False)
            axis.text(
                1.04 * images[-1], label, names[way], color=colours[way], va="center", fontsize=9,
                fontweight="bold" if way == "fusiform" else "normal",
            )  # fmt: skip
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("images", fontsize=9)
        axis.set_ylim(0)
        axis.set_xlim(0, images[-1])
        axis.set_xticks([0, *images])
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "end_to_end.svg", metadata={"Date": None})
