"""Reading out and writing a finished group of a ResNet-50, by this code and by an older checkout.

``--beside`` names the folder that holds the older one as a folder ``fusiform``.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fusiform

from ..shared import again, files_of, head, heading, row, save

# Outputs of a ResNet-50's pooling layers and blocks, channels last, for images of 224 pixels.
SHAPES = (
    (64, 56, 56), *[(256, 56, 56)] * 3, *[(512, 28, 28)] * 4, *[(1024, 14, 14)] * 6,
    *[(2048, 7, 7)] * 3, (2048, 1, 1),
)  # fmt: skip
GROUPS, STIMULI = 6, 32
STEPS = {
    "read out and handed over": "on the main thread, which runs the network",
    "encoded and written": "in the writing thread, to the page cache",
    "on the disk": "flushed right after it was written",
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--beside", type=Path, help="holds the older checkout, named fusiform")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help="one turn, here")


def main(arguments: Namespace) -> None:
    own = Path(fusiform.__file__).resolve().parents[1]
    if arguments.measure:
        print(json.dumps({"parent": str(own), **_measured()}))
        return
    ways = {"this code": own}
    if arguments.beside:
        ways = {"before": arguments.beside.resolve(), **ways}
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):
        for way, parent in ways.items():
            found = _turn(parent)
            print(way, found, flush=True)
            if turn:  # the first compiles
                taken[way].append(found)
    save(__name__, _report(taken, arguments))


def _turn(parent: Path) -> dict[str, Any]:
    """Measurements of a process that imports the checkout in a folder."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(parent), str(Path(__file__).parents[2])])
    found: dict[str, Any] = json.loads(again(__name__, "--measure").output.splitlines()[-1])
    if found.pop("parent") != str(parent):
        raise SystemExit(f"the checkout in {parent} was not imported")
    return found


def _measured() -> dict[str, Any]:
    """Medians over groups: seconds and CPU seconds of each step; and the bytes of a group."""
    import numpy as np
    import torch

    from fusiform.engine.moments.plan import Batch, Block, Run
    from fusiform.engine.scanning.memory import recycled
    from fusiform.engine.scanning.work import Work
    from fusiform.engine.store.location import flush

    def batch(run: Run) -> Batch:
        return Batch(np.arange(STIMULI), (run,))

    taken: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    calls: list[Callable[[], None]] = []
    with tempfile.TemporaryDirectory() as name, recycled():
        draft, layers = _draft(Path(name) / "o.zarr")
        random = torch.Generator().manual_seed(0)
        shown = {}
        for layer in layers:
            x = torch.randn(layer.shape, generator=random)
            x = x + torch.randn((STIMULI, *layer.shape), generator=random)
            shown[layer.name] = x.clamp_(min=0).contiguous(memory_format=torch.channels_last)

        def later(write: Callable[..., None], *given: Any) -> None:
            calls.append(lambda: write(*given))

        def written() -> None:
            for call in calls:
                call()
            calls.clear()

        live = Work._live_of(_scan_of(draft), layers, later)  # type: ignore[arg-type]

        def take() -> None:
            for layer, activation in shown.items():
                live.take(layer, activation)

        for category in range(GROUPS):
            block = Block(category, 0, 0, STIMULI)
            live.begin(batch(Run(block, 0, STIMULI, last=False)))
            take()
            live.begin(batch(Run(block, 0, 0, last=True)))
            works = (take, lambda: _in_a_thread(written), lambda: flush(draft._root.store))
            for step, work in zip(STEPS, works, strict=True):
                taken[step].append(_clocked(work))
        size = sum(files_of(Path(name))) / GROUPS
    medians = {
        step: [statistics.median(one) for one in zip(*values[1:], strict=True)]
        for step, values in taken.items()
    }
    return {**medians, "bytes": size}


def _draft(path: Path) -> tuple[Any, list[Any]]:
    import numpy as np

    from fusiform.engine.layer import Layer
    from fusiform.engine.store.writing.creating import create_store

    layers = [
        Layer(f"layer{i:02d}", "Module", ("channel", "y", "x"), shape, "float32")
        for i, shape in enumerate(SHAPES)
    ]
    number = GROUPS * STIMULI
    draft = create_store(
        path,
        layers=layers,
        categories=[str(k) for k in range(GROUPS)],
        counts=np.full((GROUPS, 1), STIMULI),
        stimuli={
            "stimulus_path": [str(i) for i in range(number)],
            "stimulus_category": np.arange(number) // STIMULI,
            "stimulus_fold": np.zeros(number, int),
            "stimulus_sha256": [f"{i:064x}" for i in range(number)],
            "stimulus_status": ["shown"] * number,
        },
        provenance={"model": "made-up", "weights": "none"},
    )
    return draft, layers


def _scan_of(draft: Any) -> Any:
    """A stand-in for a scan, with the parts that accumulators use."""
    import torch

    from fusiform.engine.scanning.progress import Listener
    from fusiform.engine.scanning.work import Work

    work: Any = Work.__new__(Work)
    work.draft, work.listener, work._warned = draft, Listener(), set()
    work.setup = SimpleNamespace(
        device=torch.device("cpu"),
        reductions={},
        backbone=SimpleNamespace(model=torch.nn.Linear(1, 1)),
        design=SimpleNamespace(null=0),
    )
    return work


def _in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and CPU seconds of all threads."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def _report(taken: dict[str, list[dict[str, Any]]], arguments: Namespace) -> list[str]:
    beside = "--beside PARENT " if arguments.beside else ""
    lines = [
        *heading(__name__, "A finished group", f"{beside}--turns {arguments.turns}"),
        f"Medians of {arguments.turns} processes that took turns, each of {GROUPS - 1} groups;",
        "ratios turn by turn.",
        "",
        f"A group of a ResNet-50: {len(SHAPES)} layers, made-up activations of {STIMULI} stimuli,",
        "float32, channels last. "
        + " ".join(f"{step.capitalize()}: {where}." for step, where in STEPS.items()),
        "",
        *head("step", "", "ms", "CPU ms", "ms, of before", "CPU ms, of before"),
    ]
    first = next(iter(taken.values()))
    for step in STEPS:
        for way, turns in taken.items():
            columns = list(zip(*(turn[step] for turn in turns), strict=True))
            before = list(zip(*(turn[step] for turn in first), strict=True))
            ratios = [
                statistics.median(a / b for a, b in zip(own, old, strict=True))
                for own, old in zip(columns, before, strict=True)
            ]
            lines.append(
                row(
                    step, way, *(f"{1e3 * statistics.median(own):.0f}" for own in columns),
                    *(f"{one:.2f}" for one in ratios),
                )
            )  # fmt: skip
    sizes = (f"{turns[0]['bytes'] / 1e6:.1f} MB {way}" for way, turns in taken.items())
    return [*lines, "", f"Bytes of a group on the disk: {', '.join(sizes)}."]
