"""Memory of a scan by number of categories: the same images, dealt to 6, 100 and 1,000 of them.

``python benchmarks/live_memory.py`` writes ``results/live_memory.md``. Scans run in processes of
their own, until contrasts would begin: those are measured by ``categories.py``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cost import described

from fusiform.engine.bench.images import as_jpeg
from fusiform.engine.bench.measure import run_python
from fusiform.engine.localizer import make_localizer

RESULTS = Path(__file__).parent / "results" / "live_memory.md"
CATEGORIES, IMAGES, REPEATS = (6, 100, 1000), 6000, 3
SCAN = """
import os, sys
import fusiform
from fusiform.engine.scanning import work

work.materialise = lambda *_: os._exit(0)
fusiform.scan("resnet18", sys.argv[1], sys.argv[2], weights="none", device="cpu",
              preprocessing={"resize": 64, "crop": 64})
"""


def main() -> None:
    rows: dict[int, list[float]] = {number: [] for number in CATEGORIES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = [as_jpeg(path) for path in make_localizer(folder / "drawn", per_category=8)]
        for number in CATEGORIES:
            with (folder / f"{number}.csv").open("w") as manifest:
                manifest.writelines(["path,category\n", *_rows(folder, drawn, number)])
        for repeat in range(REPEATS):
            for number in CATEGORIES:
                output = folder / f"{number}-{repeat}.zarr"
                finished = run_python("-c", SCAN, str(folder / f"{number}.csv"), str(output))
                rows[number].append(finished.anonymous_bytes / 2**20)
                print(number, rows[number][-1], file=sys.stderr)
    first = statistics.median(rows[CATEGORIES[0]])
    lines = [
        "# Memory by number of categories",
        "",
        "Regenerate: `python benchmarks/live_memory.py`",
        described(),
        f"ResNet-18 at 64 pixels, every block, {IMAGES:,} images in two folds: the most memory of",
        f"its own that a scan has before contrasts, medians of {REPEATS}, imports included.",
        "",
        "| categories | groups | MiB | of that with 6 |",
        "|---|---|---|---|",
        *(
            f"| {number:,} | {2 * number:,} | {statistics.median(taken):,.0f} | "
            f"{statistics.median(taken) / first:.3f} |"
            for number, taken in rows.items()
        ),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


def _rows(folder: Path, drawn: list[Path], categories: int) -> Iterator[str]:
    """Lines of a manifest; every image has a name of its own, by which it is one of few files."""
    links = folder / "links"
    links.mkdir(exist_ok=True)
    for index in range(IMAGES):
        link = links / f"{index}.jpg"
        if not link.exists():
            link.hardlink_to(drawn[index % len(drawn)])
        yield f"links/{link.name},category {index % categories}\n"


if __name__ == "__main__":
    main()
