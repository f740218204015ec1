"""Pictures per second from JPEG files and from a packed set of them; time to pack.

Takes two minutes. Both ways end with the same pixels, ready for the network, and use the decoding
loop of a scan.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from fusiform import Preprocessing, make_stimuli, pack_stimuli
from fusiform.engine.bench.images import as_jpeg, repeat_images
from fusiform.engine.bench.measure import ratio, run
from fusiform.engine.decoding.ahead import ImageSource, decode_ahead
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.scanning.timing import seconds
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue

from ..shared import files_of, head, heading, photographs, row, save

PREPROCESSING = Preprocessing()
THREADS = (1, 2)
# Pictures of a set, at most; seconds that it is measured for, about, and turns in them at least.
PICTURES, SECONDS, LEAST = 288, 15.0, 3
# Sizes of the sets that memory is measured for, in those of the last.
TIMES = (1, 8)


def main() -> None:
    speeds, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sets(Path(folder)).items():
            packed = source.with_suffix(".zarr")
            taken = seconds(partial(pack_stimuli, source, packed))
            pictures = require_same(source, packed)
            mean = " | ".join(
                f"{sum(files_of(place)) / pictures / 1e3:.0f} kB" for place in (source, packed)
            )
            sizes.append(f"| {name} | {pictures} | {mean} | {taken:.1f} s |")
            speeds += speeds_of(name, source, packed, pictures)
            print(sizes[-1], *speeds[-len(THREADS) :], sep="\n", flush=True)
        memory = [peak_row(source, times) for times in TIMES]
    lines = [
        *heading(__name__, "What packing saves"),
        f"{PREPROCESSING.geometry}. All is in the system's cache: this is the work of the cores,",
        "and not of a disk. Files are read, compared with their SHA-256, decoded, resized and cut;",
        "packed pictures are read and compared with their CRC-32C. Both took turns in one run, on",
        "all pictures of a set. Pictures a second are medians over turns; of a core's time, where",
        "other programs had the cores as well. `gain` is the median over turns of the ratio of",
        "core time.",
        "",
        *head("set", "threads", "files", "packed", "files, of a core", "packed, of a core", "gain"),
        *speeds,
        "",
        *head("set", "pictures", "a file", "a packed picture", "packed in"),
        *sizes,
        "",
        "Peak memory of packing the last set, repeated by links, each in a process of its own:",
        "",
        *head("pictures", "peak"),
        *memory,
    ]
    save(__name__, lines)


def sets(folder: Path) -> dict[str, Path]:
    """Photographs of a localizer set, where there are some, and larger drawn pictures, as JPEG."""
    found = {}
    if own_pictures := photographs():
        own = folder / "photographs"
        categories = sorted({path.parent for path in own_pictures})
        for category in categories:
            (own / category.name).mkdir(parents=True)
            for path in sorted(category.glob("*.jpg"))[: PICTURES // len(categories)]:
                shutil.copy(path, own / category.name)
        found["photographs, 256 px"] = own
    for path in make_stimuli(folder / "drawn", per_category=PICTURES // 6, size=500):
        as_jpeg(path)
        path.unlink()
    return {**found, "drawn, 500 px": folder / "drawn"}


def require_same(source: Path, packed: Path) -> int:
    """Fail unless both give the same pixels; how many pictures they are."""
    ways = [decoded(place, 2) for place in (source, packed)]
    number = 0
    for own, its in zip(*ways, strict=True):
        np.testing.assert_array_equal(own, its)
        number += len(own)
    return number


def speeds_of(name: str, source: Path, packed: Path, pictures: int) -> list[str]:
    """Rows of the table of one set, for each number of threads."""
    works = {
        (kind, threads): partial(decode, *planned(place), threads)
        for threads in THREADS
        for kind, place in (("files", source), ("packed", packed))
    }
    wall: dict[tuple[str, int], list[float]] = {which: [] for which in works}
    core: dict[tuple[str, int], list[float]] = {which: [] for which in works}
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS or len(wall["packed", 2]) < LEAST:
        for which, work in works.items():
            before = time.process_time()
            wall[which].append(seconds(work))
            core[which].append(time.process_time() - before)
    return [
        row(
            name,
            threads,
            *(
                f"{pictures / median(taken[kind, threads]):,.0f}"
                for taken in (wall, core)
                for kind in ("files", "packed")
            ),
            f"{ratio(core['files', threads], core['packed', threads]):.1f}",
        )
        for threads in THREADS
    ]


def planned(place: Path) -> tuple[Catalogue, Plan]:
    """A set whose files are known, and the order in which a scan shows it."""
    catalogue = read_catalogue(place)
    catalogue.look()
    return catalogue, make_plan(catalogue.labels, catalogue.categories)


def decode(catalogue: Catalogue, plan: Plan, threads: int) -> None:
    """All pictures, as a scan has them decoded."""
    for batch in decode_ahead(ImageSource(catalogue, PREPROCESSING, threads), plan):
        assert not batch.failed


def decoded(place: Path, threads: int) -> list[np.ndarray]:
    """The pixels of a set, batch by batch."""
    catalogue, plan = planned(place)
    return [
        batch.pixels for batch in decode_ahead(ImageSource(catalogue, PREPROCESSING, threads), plan)
    ]


def peak_row(source: Path, times: int) -> str:
    """How much memory packing takes at its peak, of a set so many times as large."""
    paths = sorted(source.rglob("*.jpg"), key=lambda path: path.stem)
    repeated = source.with_name(f"{source.name}-{times}")
    repeat_images(paths, repeated, number := times * len(paths))
    finished = run("stimuli", "pack", str(repeated), "-o", f"{repeated}.zarr")
    shutil.rmtree(f"{repeated}.zarr")
    return f"| {number:,} | {finished.peak_bytes / 2**20:,.0f} MiB |"
