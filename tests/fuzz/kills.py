"""Kill a scan or recording at random moments until it ends; its bits must be the same.

``python -m tests.fuzz.kills --count 200 --seed 0``, with ``--record`` for recordings. Runs are
forked from one process that has imported torch and computed nothing, so that they start at once,
and killed with SIGKILL.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fusiform.engine.localizer import make_stimuli
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.store.writing.base_draft import BaseDraft
from fusiform.engine.store.writing.commits import CommitLog

from .small import contents, record, scan

# Stages of a run; a shared byte holds the index of the current one.
STAGES = ("before the first batch", "scan", "recording", "commit", "contrasts", "completion")

Make: TypeAlias = Callable[[Path, Path, Listener], Path]


@dataclass(frozen=True)
class Storm:
    """Results: kills by stage, completed runs, and runs that differed."""

    kills: Counter[str]
    finished: int
    differing: int
    seconds: float


def in_stages(make: Make, stimuli: Path, output: Path, stage: mmap.mmap) -> None:
    """Write an output that commits after every batch and marks its stage in ``stage``."""
    write, complete = CommitLog.write, BaseDraft.complete

    def marked_write(self: CommitLog, commit: object) -> None:
        before, stage[0] = stage[0], STAGES.index("commit")
        write(self, commit)  # type: ignore[arg-type]
        stage[0] = before

    def marked_complete(self: BaseDraft[Any]) -> None:
        stage[0] = STAGES.index("completion")
        complete(self)

    CommitLog.write, BaseDraft.complete = marked_write, marked_complete  # type: ignore[method-assign]

    def progress(event: object) -> None:
        stage[0] = STAGES.index(event.stage)  # type: ignore[attr-defined]

    make(stimuli, output, Listener(progress=progress))


def run(count: int, seed: int, make: Make = scan, report: bool = False) -> Storm:
    """Kill runs ``count`` times, and compare every run that completes."""
    rng, began = random.Random(seed), time.perf_counter()
    kills: Counter[str] = Counter()
    finished = differing = 0
    with tempfile.TemporaryDirectory() as folder:
        stimuli, output = Path(folder) / "stimuli", Path(folder) / "o.zarr"
        make_stimuli(stimuli, per_category=10, size=64, seed=1)
        stage = mmap.mmap(-1, 1)
        longest = 0.0
        for _ in range(2):  # the first compiles
            shutil.rmtree(output, ignore_errors=True)
            _, longest = _run(make, stimuli, output, stage, None)
        expected = contents(output)
        shutil.rmtree(output)
        while kills.total() < count or not output.exists():
            stage[0] = 0
            # Delays from 0 to a little more than a whole run.
            delay = rng.uniform(0, 1.1 * longest) if kills.total() < count else None
            killed, _ = _run(make, stimuli, output, stage, delay)
            if killed:
                kills[STAGES[stage[0]]] += 1
            elif output.exists():
                finished += 1
                differing += contents(output) != expected
                if kills.total() < count:
                    shutil.rmtree(output)
            if report and kills.total() % 20 == 0:
                print(f"{kills.total()} kills, {finished} whole", file=sys.stderr, flush=True)
    return Storm(kills, finished, differing, time.perf_counter() - began)


def _run(
    make: Make, stimuli: Path, output: Path, stage: mmap.mmap, delay: float | None
) -> tuple[bool, float]:
    """Fork a run and kill it after ``delay`` seconds.

    Returns whether it was killed, and the time.

    Raises
    ------
    RuntimeError : the run failed by itself
    """
    began = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            if not output.exists():
                in_stages(make, stimuli, output, stage)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    while delay is not None and time.perf_counter() - began < delay:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False, time.perf_counter() - began
        time.sleep(0.001)
    if delay is not None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("it failed by itself")
    return os.WIFSIGNALED(status), time.perf_counter() - began


def main() -> None:
    """Run a storm and print its results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--record", action="store_true", help="recordings in place of scans")
    given = arguments.parse_args()
    storm = run(given.count, given.seed, record if given.record else scan, report=True)
    for name in STAGES:
        print(f"killed in {name}: {storm.kills[name]}")
    print(
        f"{storm.kills.total()} kills, {storm.finished} came to their end, "
        f"{storm.differing} of them with other bits; {storm.seconds:.0f} s"
    )
    sys.exit(storm.differing > 0)


if __name__ == "__main__":
    main()
