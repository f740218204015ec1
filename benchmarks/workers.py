"""What a second worker gives: one worker of one core against two of one core each.

``python benchmarks/workers.py`` writes ``results/workers.md``: drawn images, or photographs where
FUSIFORM_TESTDATA is set, which are shown several times under other names. Scans by one worker and
by two take turns. Nothing else should run beside it: both cores are in use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from cost import described
from end_to_end import link_images

import fusiform
from fusiform.engine.scanning.progress import Listener, Progress

RESULTS = Path(__file__).parent / "results" / "workers.md"
BATCH = 32
WORKERS = (1, 2)


def main() -> None:
    """Measure, and write the report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"])
    arguments.add_argument("--batches", type=int, default=64)
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--output", type=Path, default=RESULTS)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        images = _fill(stimuli, given.batches * BATCH)
        rows = []
        for network in given.networks:
            rows += _measured(network, stimuli, Path(folder) / "o.zarr", given.turns, images)
            print(*rows[-len(WORKERS) :], sep="\n", flush=True)
    command = " ".join(f"--{name} {value}" for name, value in (
        ("networks", " ".join(given.networks)), ("batches", given.batches), ("turns", given.turns)
    ))  # fmt: skip
    lines = [
        "# What workers give",
        "",
        f"Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/workers.py {command}`",
        described(),
        f"{images:,} images in batches of {BATCH}, untrained networks, all blocks. Workers are",
        f"processes of one thread each (which computes, and one that decodes); {given.turns} turns",
        "after a first that is not counted, medians, smallest and largest in brackets.",
        "",
        "`stream`: images a second from when the workers are there to the last shard, with the",
        "loading of the network by each. `whole scan`: from the call to its return, with start-up",
        "of the workers, merging and contrasts.",
        "",
        "| network | workers | stream, images/s | of one worker | whole scan, s | of one worker |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    given.output.write_text("\n".join(lines) + "\n")


def _fill(folder: Path, images: int) -> int:
    """A set of about so many images: links to few, as all are decoded each time they are shown."""
    source = folder.with_name("source")
    if "FUSIFORM_TESTDATA" in os.environ:
        link_images(source, 400)
    else:
        fusiform.make_localizer(source, per_category=64)
    categories = sorted(path for path in source.iterdir() if path.is_dir())
    each = images // len(categories)
    for category in categories:
        (folder / category.name).mkdir(parents=True)
        files = sorted(category.iterdir())
        for number in range(each):
            image = files[number % len(files)].resolve()
            (folder / category.name / f"{number:05d}{image.suffix}").symlink_to(image)
    return each * len(categories)


def _measured(network: str, stimuli: Path, output: Path, turns: int, images: int) -> list[str]:
    streams: dict[int, list[float]] = defaultdict(list)
    wholes: dict[int, list[float]] = defaultdict(list)
    for turn in range(turns + 1):
        for workers in WORKERS if turn % 2 else reversed(WORKERS):
            stream, whole = _scan(network, stimuli, output, workers)
            if turn:  # the first compiles, and fills the system's cache of files
                streams[workers].append(images / stream)
                wholes[workers].append(whole)
    rows = []
    for workers in WORKERS:
        rate = statistics.median(streams[workers]) / statistics.median(streams[1])
        share = statistics.median(wholes[workers]) / statistics.median(wholes[1])
        rows.append(
            f"| {network} | {workers} | {_spread(streams[workers])} | {rate:.2f} | "
            f"{_spread(wholes[workers])} | {share:.2f} |"
        )
    return rows


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _scan(network: str, stimuli: Path, output: Path, workers: int) -> tuple[float, float]:
    """Seconds of the stream, and of the whole scan."""
    stages: dict[str, Any] = {}

    def progress(event: Progress) -> None:
        stages[event.stage] = event.seconds

    began = time.perf_counter()
    fusiform.scan(
        network, stimuli, output, weights="none", device="cpu", overwrite=True, batch_size=BATCH,
        workers=workers, threads_per_worker=1, listener=Listener(progress=progress),
    )  # fmt: skip
    return stages["scan"], time.perf_counter() - began


if __name__ == "__main__":
    main()
