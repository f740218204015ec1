"""Two workers of one core each, beside one.

Linux only. Photographs from the test data, if it is there, else drawn images, repeated under other
names. Leave the machine alone meanwhile: both cores are in use.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dask
from distributed import Client, LocalCluster

import fusiform
from fusiform.engine.distributing.cluster import SELDOM
from fusiform.engine.scanning.memory import ARENAS

from ..shared import heading, link_images, save, scan

BATCH = 32
WORKERS = (1, 2)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--networks", nargs="+", default=["resnet18"])
    parser.add_argument("--batches", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)


def main(given: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        images = _fill(stimuli, given.batches * BATCH)
        rows = []
        for network in given.networks:
            rows += _measured(network, stimuli, Path(folder) / "o.zarr", given.turns)
            print(*rows[-len(WORKERS) :], sep="\n", flush=True)
    command = " ".join(f"--{name} {value}" for name, value in (
        ("networks", " ".join(given.networks)), ("batches", given.batches), ("turns", given.turns)
    ))  # fmt: skip
    lines = [
        *heading(__name__, "What workers give", f"{command}", needs_testdata=True),
        f"{images:,} images in batches of {BATCH}, untrained networks, all blocks. A worker is a",
        "process that is kept to one core: its thread that computes, that which decodes, and that",
        "which writes share it. The scan itself and the scheduler run on either core.",
        f"{given.turns} turns after a first that is not counted, medians, smallest and largest in",
        "brackets.",
        "",
        "`throughput`: images a second from when each worker has done its first shard until the",
        "last but one for each is done. `start`: seconds from when the workers are there, less",
        "what the first shards take at this pace: imports, and the loading of the network by each.",
        "`whole scan`: from call to return, with start, merging and contrasts; the workers were",
        "started before.",
        "",
        "| network | workers | throughput, images/s | of one worker | start, s | whole scan, s | "
        "of one worker |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    save(__name__, lines)


def _fill(folder: Path, images: int) -> int:
    """A set of about so many images: links to few, as all are decoded each time they are shown."""
    source = folder.with_name("source")
    if "FUSIFORM_TESTDATA" in os.environ:
        link_images(source, 400)
    else:
        fusiform.make_stimuli(source, per_category=64)
    categories = sorted(path for path in source.iterdir() if path.is_dir())
    each = images // len(categories)
    for category in categories:
        (folder / category.name).mkdir(parents=True)
        files = sorted(category.iterdir())
        for number in range(each):
            image = files[number % len(files)].resolve()
            (folder / category.name / f"{number:05d}{image.suffix}").symlink_to(image)
    return each * len(categories)


class Scan(NamedTuple):
    """The cost of a scan: images a second when it was under way, and seconds."""

    rate: float
    start: float
    whole: float


def _measured(network: str, stimuli: Path, output: Path, turns: int) -> list[str]:
    scans: dict[int, list[Scan]] = defaultdict(list)
    for turn in range(turns + 1):
        for workers in WORKERS if turn % 2 else reversed(WORKERS):
            found = _scan(network, stimuli, output, workers)
            if turn:  # the first compiles, and fills the system's cache of files
                scans[workers].append(found)
    rows = []
    for workers in WORKERS:
        rates, starts, wholes = zip(*scans[workers], strict=True)
        alone, _, alone_whole = zip(*scans[1], strict=True)
        rate = statistics.median(rates) / statistics.median(alone)
        share = statistics.median(wholes) / statistics.median(alone_whole)
        rows.append(
            f"| {network} | {workers} | {_spread(rates)} | {rate:.2f} | {_spread(starts)} | "
            f"{_spread(wholes)} | {share:.2f} |"
        )
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _scan(network: str, stimuli: Path, output: Path, workers: int) -> Scan:
    """A scan by workers that were started before; each of its steps is a shard."""
    with _workers(workers) as scheduler:
        found = scan(
            network, stimuli, output, batch_size=BATCH, scheduler=scheduler, threads_per_worker=1
        )
    shards = [event for _, event in found.steps]
    # The last of each worker may end alone.
    first, last = shards[workers - 1], shards[-1 - workers]
    rate = (last.done - first.done) / (last.seconds - first.seconds)
    return Scan(rate, first.seconds - first.done / rate, found.seconds)


@contextmanager
def _workers(number: int) -> Iterator[str]:
    """Give the address of a scheduler of so many workers, each kept to a core of its own."""
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    environment = {f"{library}_NUM_THREADS": "1" for library in libraries} | {ARENAS: "1"}
    environment |= {_variable(name): str(value) for name, value in SELDOM.items()}
    with dask.config.set(SELDOM), LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        started = [
            subprocess.Popen(
                [*command, *options, "--name", str(core)],
                env={**os.environ, **environment},
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
                stderr=subprocess.DEVNULL,
            )
            for core in sorted(os.sched_getaffinity(0))[:number]
        ]
        try:
            with Client(cluster) as client:
                client.wait_for_workers(number)
            yield address
        finally:
            for process in started:
                process.kill()
                process.wait()


def _variable(setting: str) -> str:
    """The variable from which dask reads a setting."""
    return f"DASK_{setting.replace('.', '__').replace('-', '_').upper()}"
