"""Time of a scan, stage by stage: 480 images through a ResNet-50.

Needs the test data. Clocks wrap the stages of repeated scans.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from fusiform.engine.moments import accumulate, accumulators
from fusiform.engine.scanning import forward, loop, run, setup, work
from fusiform.engine.scanning.stimulus_set import Reading
from fusiform.engine.store.writing.store_draft import StoreDraft

from .. import shared

IMAGES, REPEATS = 480, 5
# What each stage contains of those below it is taken off.
STAGES = {
    "network and weights built": (run, "load_backbone"),
    "trial pass": (setup, "trial"),
    "waiting for files to be hashed": (Reading, "read"),
    "loop": (work.Work, "show"),
    "normalised": (forward, "normalise"),
    "hooks": (accumulators.Live, "take"),
    "moments read out of finished blocks": (accumulate.LayerMoments, "part"),
    "moments written to the store": (StoreDraft, "write_groups"),
    "contrasts, q and masks, read, computed and written": (work.Work, "contrast"),
}
# Replaced during a scan, beside the stages.
REPLACED = ((setup, "decode_ahead"), (loop, "background_writer"))


def main() -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        shared.link_images(stimuli, IMAGES)
        for repeat in range(REPEATS + 1):
            taken = _scan(stimuli, Path(folder) / "r50.zarr")
            print({name: round(value, 2) for name, value in taken.items()}, flush=True)
            if repeat:  # the first loads libraries and compiled code
                for name, value in taken.items():
                    seconds[name].append(value)
    total = statistics.median(seconds["total"])
    lines = [
        *shared.heading(__name__, "Where the time of a scan goes", needs_testdata=True),
        f"Medians of {REPEATS} scans.",
        "",
        f"`fusiform.scan('resnet50', ...)`, untrained, {IMAGES} photographs of five categories in",
        "batches of 32: 18 layers, 5.7 million units, 10 blocks. Imports are not in it.",
        "",
        *shared.head("stage", "seconds", "%"),
        *(
            f"| {name} | {value:.2f} | {100 * value / total:.1f} |"
            for name, value in ((n, statistics.median(v)) for n, v in seconds.items())
        ),
    ]
    shared.save(__name__, lines)


def _scan(stimuli: Path, output: Path) -> dict[str, float]:
    clocks: dict[str, float] = defaultdict(float)
    originals = {stage: getattr(*place) for stage, place in STAGES.items()}

    def clocked(stage: str, do: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(do)
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return do(*arguments, **options)
            finally:
                clocks[stage] += time.perf_counter() - started

        return timed

    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, clocked(stage, originals[stage]))
    decode_ahead, background_writer = setup.decode_ahead, loop.background_writer
    setup.decode_ahead = lambda *given, **options: _waited(decode_ahead(*given, **options), clocks)

    @contextmanager
    def behind(*pending: int) -> Iterator[Any]:
        with background_writer(*pending) as later:
            timed: Any = clocked("waiting for moments to be written", later)
            timed.wait = later.wait
            yield timed

    loop.background_writer = behind
    try:
        total = shared.scan("resnet50", stimuli, output).seconds
    finally:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, originals[stage])
        setup.decode_ahead, loop.background_writer = decode_ahead, background_writer
    in_loop, hooks = clocks.pop("loop"), clocks.pop("hooks")
    written = clocks.pop("moments written to the store")
    inside = ("moments read out of finished blocks", "waiting for moments to be written")
    clocks["statistics: batches folded into the moments"] = hooks - sum(clocks[s] for s in inside)
    around = hooks + clocks["normalised"] + clocks["waiting for decoded images"]
    clocks["forward passes, and the loop around them"] = in_loop - around
    clocks["the rest"] = total - sum(clocks.values())
    order = [
        "network and weights built",
        "trial pass",
        "waiting for files to be hashed",
        "waiting for decoded images",
        "normalised",
        "forward passes, and the loop around them",
        "statistics: batches folded into the moments",
        *inside,
        "contrasts, q and masks, read, computed and written",
        "the rest",
    ]
    stages = {stage: clocks[stage] for stage in order}
    return {**stages, "total": total, "beside: moments written, in a thread": written}


def _waited(batches: Any, clocks: dict[str, float]) -> Any:
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        clocks["waiting for decoded images"] += time.perf_counter() - started
        if batch is None:
            return
        yield batch
