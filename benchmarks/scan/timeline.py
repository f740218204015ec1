"""The stages of a scan from the start of its process to its end: 480 images through a ResNet-50.

Needs the test data. ``--beside PARENT`` times another checkout in the same turns: PARENT is the
folder above it, which is called fusiform. A stage that it lacks is left out. ``marked.py`` runs the
command line and notes when each stage begins or ends.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..shared import head, heading, link_images, row, save

# The last mark; the others are in `marked.py`.
ENDED = "the process has ended"
HERE = Path(__file__).parents[3]
# Seconds from the start of a process to each of its marks.
Marks = dict[str, float]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--beside", type=Path, metavar="PARENT", help="another checkout's parent")


def main(arguments: Namespace) -> None:
    trees = {"this": HERE}
    if arguments.beside:
        trees["beside"] = arguments.beside.resolve()
    found: dict[str, list[Marks]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, arguments.images)
        for repeat in range(arguments.repeats + 1):
            for name, tree in trees.items():  # they take turns
                marks = _scan(tree, arguments.model, stimuli, Path(folder))
                print(name, f"{marks[ENDED]:.2f} s", flush=True)
                if repeat:  # the first fills the caches of compiled code
                    found[name].append(marks)
    save(__name__, _report(found, arguments))


def _scan(tree: Path, model: str, stimuli: Path, folder: Path) -> Marks:
    """One scan by the checkout in ``tree``, in a process of its own."""
    file, marked = folder / "marks.json", Path(__file__).with_name("marked.py")
    command = ["scan", model, str(stimuli), "-o", str(folder / "scan.zarr"), "--weights", "none"]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-P", marked, file, *command, "--overwrite"],
        env={**os.environ, "PYTHONPATH": str(tree)},
        stderr=subprocess.DEVNULL,
        check=True,
    )
    marks = {**json.loads(file.read_text()), ENDED: time.monotonic()}
    return {name: at - started for name, at in marks.items()}


def _report(found: dict[str, list[Marks]], arguments: Namespace) -> list[str]:
    beside = " --beside PARENT" if arguments.beside else ""
    used = f"--model {arguments.model} --images {arguments.images} --repeats {arguments.repeats}"
    medians = {
        name: {mark: statistics.median(turn[mark] for turn in turns) for mark in turns[0]}
        for name, turns in found.items()
    }
    order = sorted(medians["this"], key=medians["this"].__getitem__)
    columns = ["seconds", "since the mark before"] * (2 if beside else 1)
    if beside:
        columns = [*columns[:2], *(f"before: {name}" for name in columns[2:])]
    lines = [
        *heading(__name__, "Timeline of a scan", used + beside, needs_testdata=True),
        f"`fusiform scan {arguments.model} ... --weights none`, {arguments.images} photographs of "
        "five categories:",
        f"seconds since the process was started, medians of {arguments.repeats} processes"
        + (" in turns." if beside else "."),
        *(["Before: the checkout beside it."] if beside else []),
        "",
        *head("", *columns),
    ]
    for mark in order:
        lines.append(row(mark, *(cell for own in medians.values() for cell in _cells(own, mark))))
    return [
        *lines,
        "",
        "Stimuli are hashed by other threads: that mark is beside the others.",
    ]


def _cells(marks: Marks, mark: str) -> list[str]:
    """Seconds until a mark, and since the one before; empty if the checkout lacks it."""
    if mark not in marks:
        return ["", ""]
    at = marks[mark]
    before = max((other for other in marks.values() if other < at), default=0)
    return [f"{at:.2f}", f"{at - before:.2f}"]
