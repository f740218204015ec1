"""Kill dask workers of scans at random moments; the bits must be those of one process.

``python -m tests.fuzz.workers --count 100 --seed 0``. Three workers of one scheduler run scan after
scan while one after another is killed with SIGKILL; sometimes the scan itself is stopped and
called again. Processes are forked from one that has imported torch and computed nothing, so that
replacements start quickly. Scans that succeed print nothing.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusiform.engine.distributing.cluster import Replacing
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener, Progress

from .. import flat
from .small import contents

# Stages of a scan in which kills are counted, as progress reports them.
STAGES = ("the first shards", "scan", "merge", "contrasts", "between scans")
WORKERS = 3
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_SETTINGS = {
    "distributed.worker.multiprocessing-method": "forkserver",
    # The storm causes all deaths, not the tasks.
    "distributed.scheduler.allowed-failures": 1000,
}


@dataclass(frozen=True)
class Storm:
    """Results: kills by stage, and scans stopped, completed and different."""

    kills: Counter[str]
    stopped: int
    finished: int
    differing: int
    seconds: float


class _Killer(threading.Thread):
    """Kills a worker, waits, and kills the next; ``stage`` is the scan's stage."""

    def __init__(self, rng: random.Random, count: int) -> None:
        super().__init__(daemon=True)
        self._rng, self._count = rng, count
        self.replace_lost: Any = None
        self.kills: Counter[str] = Counter()
        self.stage = STAGES[-1]
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(self._rng.uniform(0.5, 5)):
            self.replace_lost()
            if self.kills.total() == self._count:
                return
            workers = [child.pid for child in multiprocessing.active_children() if child.pid]
            if workers and self.stage != STAGES[-1]:
                os.kill(self._rng.choice(workers), signal.SIGKILL)
                self.kills[self.stage] += 1


def scan(stimuli: Path, output: Path, **options: Any) -> None:
    """A scan of 16 shards; some groups span two shards, others lie within one."""
    flat.scan(
        "tests.fuzz.small:Net", stimuli, output, layers=["body", "pool", "head"], batch_size=2,
        preprocessing={"resize": 40, "crop": 32}, **options,
    )  # fmt: skip


def run(count: int, seed: int, report: bool = False) -> Storm:
    """Kill workers ``count`` times, and compare every scan that completes."""
    import dask
    from distributed import LocalCluster

    rng, began = random.Random(seed), time.perf_counter()
    killer = _Killer(random.Random(seed + 1), count)
    stopped = finished = differing = 0
    os.environ |= _ONE_THREAD
    multiprocessing.set_forkserver_preload(["fusiform.engine.scan"])
    with tempfile.TemporaryDirectory() as folder:
        stimuli, output = Path(folder) / "stimuli", Path(folder) / "o.zarr"
        make_stimuli(stimuli, per_category=44, size=64, seed=1)
        expected = _in_one_process(stimuli, Path(folder) / "whole.zarr")
        with (
            dask.config.set(_SETTINGS),
            LocalCluster(
                WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0,
                silence_logs=logging.CRITICAL, env=_ONE_THREAD,
            ) as cluster,
        ):  # fmt: skip
            killer.replace_lost = Replacing(cluster, WORKERS)
            killer.start()
            while killer.is_alive() or not output.exists():
                shutil.rmtree(output, ignore_errors=True)
                killer.stage = STAGES[0]
                stops_after = rng.randrange(1, 80)  # of some 50 events
                try:
                    scan(
                        stimuli, output, scheduler=cluster.scheduler_address,
                        progress=Listener(progress=_watching(killer, stops_after)),
                    )  # fmt: skip
                except Interrupted:
                    stopped += 1
                    continue
                finally:
                    killer.stage = STAGES[-1]
                finished += 1
                differing += contents(output) != expected
                if report:  # of how far it is
                    done = f"{killer.kills.total()} kills, {stopped} stopped, {finished} whole"
                    print(done, file=sys.stderr, flush=True)
            killer.over.set()
            killer.join()
    return Storm(killer.kills, stopped, finished, differing, time.perf_counter() - began)


def _watching(killer: _Killer, stops_after: int) -> Any:
    """A listener that tells the killer the stage, and stops the scan after some events."""
    events = 0

    def progress(event: Progress) -> None:
        nonlocal events
        events += 1
        killer.stage = event.stage
        if events == stops_after:
            signal.raise_signal(signal.SIGINT)

    return progress


def _in_one_process(stimuli: Path, output: Path) -> dict[str, Any]:
    code = "import sys; from pathlib import Path; from tests.fuzz.workers import scan; "
    code += "scan(Path(sys.argv[1]), Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(stimuli), str(output)], check=True)
    return contents(output)


def main() -> None:
    """Run a storm and print its results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    storm = run(given.count, given.seed, report=True)
    for name in STAGES[:-1]:
        print(f"killed in {name}: {storm.kills[name]}")
    print(
        f"{storm.kills.total()} kills, {storm.stopped} scans were stopped, {storm.finished} came "
        f"to their end, {storm.differing} of them with other bits; {storm.seconds:.0f} s"
    )
    sys.exit(storm.differing > 0)


if __name__ == "__main__":
    main()
