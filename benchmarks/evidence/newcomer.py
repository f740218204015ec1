"""From a clone to a figure of one's own photographs, on a machine that has nothing.

Runs the commands of the install page, of the tutorial and of the page on stimuli in an empty home
folder, by pip, without caches. Needs the test data. What is written by hand at the end of the
result is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from fusiform.engine.texts import in_bytes

from ..shared import RESULTS, files_of, head, heading, row, save, testdata

ROOT = Path(__file__).parents[2]
STEPS = (
    "python3 -m venv ~/fusiform-env",
    "cd fusiform && pip install '.[demo,figures]'",
    "fusiform doctor",
    "fusiform stimuli check 'my photos'",
    "fusiform scan demo:efficientnet_lite0 'my photos' -o photos.zarr",
    "fusiform summary photos.zarr --layers blocks.6.0,global_pool.pool",
    "fusiform summary photos.zarr -o table.csv",
    "fusiform plot photos.zarr -o depth.png",
)
UNSHOWN = ("checking: ", "scan ", "contrasts ")  # lines of progress
BY_HAND = "## What went wrong and was mended"
# Photographs of people's folders: names, sizes, formats, and what else lies there.
CATEGORIES = {"faces": "adult", "places": "house", "cars": "car", "bodies": "body"}
NAMES = ("IMG_{:04}.JPG", "photo {}.jpg", "holiday ({}).png", "holiday {}.jpeg")
SIDES = ((256, 256), (192, 192), (256, 204), (128, 102), (192, 153))
LEFTOVERS = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "faces/.DS_Store": b"\0\0\0\1Bud1",
    "faces/IMG_0042.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "places/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "places/notes.txt": b"from the trip\n",
}


class Step(NamedTuple):
    """A finished command: its seconds, those of processors, and what it printed."""

    command: str
    seconds: float
    busy: float
    printed: list[str]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run(["git", "clone", "--quiet", ROOT, home / "fusiform"], check=True)
        _photographs(home / "my photos")
        steps = [_run(command, home) for command in STEPS]
        disk = sum(files_of(home / "fusiform-env"))
        rows = len((home / "table.csv").read_text().splitlines()) - 1
        with Image.open(home / "depth.png") as figure:
            width, height = figure.size
    lines = [
        *heading(__name__, "A newcomer's first figure", needs_testdata=True),
        "",
        "In an empty home folder, by pip without a cache; the new environment has the libraries",
        f"that `fusiform doctor` names below, and takes {in_bytes(disk)}. 160 photographs in 4",
        f"categories; the table has {rows:,} rows, the figure {width} x {height} pixels.",
        "",
        *head("command", "seconds", "of processors"),
        *(row(f"`{one.command}`", f"{one.seconds:.0f}", f"{one.busy:.0f}") for one in steps),
        row(
            "all", *(f"{sum(part):.0f}" for part in zip(*(one[1:3] for one in steps), strict=True))
        ),
        "",
        "```",
    ]
    for one in steps:
        lines += [f"$ {one.command}", *one.printed]
    save(__name__, [*lines, "```", "", *_by_hand()])


def _photographs(folder: Path) -> None:
    """Copy photographs into ``folder``, and mix names, sizes, formats and leftovers."""
    shapes = cycle((name, size) for size in SIDES for name in NAMES)
    for category, source in CATEGORIES.items():
        (folder / category).mkdir(parents=True)
        for i in range(1, 41):
            name, size = next(shapes)
            with Image.open(
                testdata() / "stimuli" / "floc" / source / f"{source}-{i}.jpg"
            ) as image:
                image.resize(size).save(folder / category / name.format(i))
    for name, content in LEFTOVERS.items():
        (folder / name).write_bytes(content)


def _run(command: str, home: Path) -> Step:
    """Run a command in ``home`` in the environment there, with none of our variables."""
    print(command, flush=True)
    places = (home / "fusiform-env" / "bin", Path(sys.base_prefix) / "bin", "/usr/bin", "/bin")
    own = {"HOME": str(home), "PATH": os.pathsep.join(map(str, places)), "COLUMNS": "100"}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    seconds, after = time.perf_counter() - started, os.times()
    lines = [line for line in done.stdout.splitlines() if not line.startswith(UNSHOWN)]
    shown = lines if command.startswith("fusiform ") else []
    return Step(command, seconds, sum(after[2:4]) - sum(before[2:4]), shown)


def _by_hand() -> list[str]:
    """The part of the last result that was written by hand."""
    result = RESULTS / "newcomer.md"
    text = result.read_text() if result.exists() else ""
    return (BY_HAND + text.partition(BY_HAND)[2]).splitlines()
