"""The whole job, from image files to a finished store, beside the loop that one would write.

Needs the test data. The loop, ``loop.py``, shows the same images to the same network:
torchvision's transforms in a DataLoader with one worker, and a forward pass of which nothing is
kept. Whole processes of both take turns. Half an hour; ``--jobs`` and ``--repeats`` change that.
"""

from __future__ import annotations

import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fusiform.engine.bench.measure import ratio, run, run_python

from ..shared import DOMAINS, head, heading, link_images, row, save

# The photographs that `link_images` has; a job of more shows them several times.
_PHOTOGRAPHS = 480


def options(parser: ArgumentParser) -> None:
    jobs = ["resnet50:480", "resnet50:2000", "resnet18:480"]
    parser.add_argument("--jobs", nargs="+", default=jobs, metavar="MODEL:IMAGES")
    parser.add_argument("--repeats", type=int, default=5)


def main(arguments: Namespace) -> None:
    jobs = [(model, int(images)) for model, images in (job.split(":") for job in arguments.jobs)]
    if any(images % 10 or images < 20 for _, images in jobs):
        raise SystemExit("the images of a job are a multiple of 10, at least 20")
    lines = head("network", "images", "fusiform scan", "plain loop", "ratio", "in the turns")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for images in {images for _, images in jobs}:
            _fill(folder / str(images), images)
        for model, images in jobs:
            ours, theirs = _taken(model, folder / str(images), folder, arguments.repeats)
            turns = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, theirs, strict=True))
            times = (f"{statistics.median(seconds):.1f} s" for seconds in (ours, theirs))
            lines.append(row(model, images, *times, f"{ratio(ours, theirs):.2f}", turns))
    used = f"--jobs {' '.join(arguments.jobs)} --repeats {arguments.repeats}"
    title = "Whole process beside a plain loop"
    save(
        __name__,
        [
            *heading(__name__, title, used, needs_testdata=True),
            f"Whole processes in turns, medians of {arguments.repeats}; the ratio is the median of",
            "those of the turns.",
            "",
            "Untrained networks. `fusiform scan` records every block, on all stimuli and both",
            "halves of them, and ends with a published store of moments, t, q, CSI and masks. The",
            "loop is torchvision's `ImageFolder` and transforms in a `DataLoader` with one worker",
            "and batches of 32, and a forward pass in inference mode; it keeps nothing. More than",
            "480 images are the same photographs under several names.",
            "",
            *lines,
        ],
    )


def _fill(folder: Path, images: int) -> None:
    """Link ``images`` photographs, those beyond the first 480 under new names."""
    link_images(folder, min(images, _PHOTOGRAPHS))
    for domain in DOMAINS:
        first = sorted((folder / domain).iterdir())
        for number in range(len(first), images // len(DOMAINS)):
            again_as = f"copy{number // len(first)}-{first[number % len(first)].name}"
            (folder / domain / again_as).symlink_to(first[number % len(first)].resolve())


def _taken(
    model: str, stimuli: Path, folder: Path, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of scans, and of loops. One scan before them fills the cache of compiled code."""
    ours: list[float] = []
    theirs: list[float] = []
    scan = ("scan", model, str(stimuli), "-o", str(folder / "scan.zarr"), "--weights", "none")
    loop = ("-P", str(Path(__file__).with_name("loop.py")), model, str(stimuli))
    for repeat in range(repeats + 1):
        taken = run(*scan, "--device", "cpu", "--overwrite", "--quiet").seconds
        if repeat:
            ours.append(taken)
            theirs.append(run_python(*loop).seconds)
            print(model, stimuli.name, f"{ours[-1]:.1f} s, loop {theirs[-1]:.1f} s", flush=True)
    return ours, theirs
