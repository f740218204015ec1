"""Memory of a scan by number of categories: the same images in 6, 100 and 1,000.

Every scan is a process of its own and ends where contrasts would begin: ``contrasts.categories``
measures those.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from fusiform.engine.bench.images import as_jpeg
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.scanning import work

from ..shared import again, head, heading, save, scan

CATEGORIES, IMAGES, REPEATS = (6, 100, 1000), 6000, 3
REPLACED = ((work, "materialise"),)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--scan", nargs=2, metavar=("SET", "STORE"), help="one scan, here")


def main(arguments: Namespace) -> None:
    if arguments.scan:
        work.materialise = lambda *_: os._exit(0)  # contrasts would begin
        scan("resnet18", *arguments.scan, preprocessing={"resize": 64, "crop": 64})
    rows: dict[int, list[float]] = {number: [] for number in CATEGORIES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = [as_jpeg(path) for path in make_stimuli(folder / "drawn", per_category=8)]
        for number in CATEGORIES:
            with (folder / f"{number}.csv").open("w") as manifest:
                manifest.writelines(["path,category\n", *_rows(folder, drawn, number)])
        for repeat in range(REPEATS):
            for number in CATEGORIES:
                output = folder / f"{number}-{repeat}.zarr"
                finished = again(__name__, "--scan", str(folder / f"{number}.csv"), str(output))
                rows[number].append(finished.anonymous_bytes / 2**20)
                print(number, rows[number][-1], file=sys.stderr)
    first = statistics.median(rows[CATEGORIES[0]])
    lines = [
        *heading(__name__, "Memory by number of categories"),
        f"ResNet-18 at 64 pixels, every block, {IMAGES:,} images in two folds: the most memory of",
        f"its own that a scan has before contrasts, medians of {REPEATS}, imports included.",
        "",
        *head("categories", "groups", "MiB", "of that with 6"),
        *(
            f"| {number:,} | {2 * number:,} | {statistics.median(taken):,.0f} | "
            f"{statistics.median(taken) / first:.3f} |"
            for number, taken in rows.items()
        ),
    ]
    save(__name__, lines)


def _rows(folder: Path, drawn: list[Path], categories: int) -> Iterator[str]:
    """Lines of a manifest; every image has a name of its own, by which it is one of few files."""
    links = folder / "links"
    links.mkdir(exist_ok=True)
    for index in range(IMAGES):
        link = links / f"{index}.jpg"
        if not link.exists():
            link.hardlink_to(drawn[index % len(drawn)])
        yield f"links/{link.name},category {index % categories}\n"
