"""Contrasts at the end of a scan, by an older checkout and by this one: time, memory, values.

``--beside`` names the folder that holds the older one as a folder ``fusiform``. Needs the test data
and Linux; takes 6 GB in the folder for temporary files.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import fusiform
from fusiform.engine.bench.measure import ratio
from fusiform.engine.machine import resident_memory
from fusiform.engine.querying.store import open_store
from fusiform.engine.scanning import forward, work
from fusiform.engine.scanning.memory import recycled

from .. import shared
from ..shared import again, clocked, head, heading, row, save

WAYS = ("before", "after")
STAGES = {"contrasts": (work.Work, "contrast"), "forward passes": (forward, "capture")}
MOMENTS = ("mean", "m2")
CONTRASTS = ("t", "t_each", "csi", "q_each", "selective", "selective_fold", "dead", "nonfinite")
# Synthetic stores: categories of so many images, in two folds.
CATEGORIES, PER_CATEGORY = 100, 4

Turns = dict[str, list[dict[str, float]]]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--beside", type=Path, help="holds the older checkout, named fusiform")
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnet18"])
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--turns", type=int, default=5)
    many = "layers of many categories begin so"
    parser.add_argument("--many", nargs="+", default=["layer4", "avgpool"], help=many)
    parser.add_argument("--step", choices=list(_STEPS), help="one step, here")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--stimuli", type=Path)
    parser.add_argument("--like", type=Path, help="the store whose layers are made up")


def main(arguments: Namespace) -> None:
    if arguments.step:
        print(json.dumps({"parent": _parent(), **_STEPS[arguments.step](arguments)}))
        return
    if not arguments.beside:
        raise SystemExit("--beside names the folder that holds an older checkout")
    os.environ["FUSIFORM_TESTDATA"] = str(shared.testdata())
    arguments.beside = arguments.beside.resolve()
    scans: dict[str, Turns] = {}
    many: dict[str, Turns] = {}
    values: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared.link_images(folder / "stimuli", arguments.images)
        for model in arguments.models:
            scans[model] = _scans(model, folder, arguments)
            values += _compared(model, f"{arguments.images} images", folder, (*MOMENTS, *CONTRASTS))
            many[model] = _many(folder, arguments)
            values += _compared(model, f"{CATEGORIES} categories", folder, CONTRASTS)
    save(__name__, _report(arguments, scans, many, values))


def _parent() -> str:
    """The folder that holds the imported checkout."""
    return str(Path(fusiform.__file__).resolve().parents[1])


def _step(way: str, folder: Path, arguments: Namespace, *given: str) -> dict[str, float]:
    """Run a step in a process that imports one of the checkouts, with compiled kernels apart."""
    parent = str(arguments.beside) if way == "before" else _parent()
    os.environ["PYTHONPATH"] = os.pathsep.join([parent, str(Path(__file__).parents[2])])
    os.environ["NUMBA_CACHE_DIR"] = str(folder / f"kernels-{way}")
    found: dict[str, Any] = json.loads(again(__name__, "--step", *given).output.splitlines()[-1])
    imported = found.pop("parent")
    if imported != parent:
        raise SystemExit(f"{way}: imported the checkout in {imported}, not in {parent}")
    print(way, *given, found, flush=True)
    return found


def _in_turns(turns: int, take: Callable[[str], dict[str, float]]) -> Turns:
    """Measurements of each way, one per turn but the first, which compiles."""
    taken: Turns = {way: [] for way in WAYS}
    for turn in range(turns + 1):
        for way in WAYS:
            found = take(way)
            if turn:
                taken[way].append(found)
    return taken


def _watched(do: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, and the resident memory before it and at its peak, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident_memory("self")["VmRSS"]
    seconds = clocked(do)
    return {"seconds": seconds, "before": before, "peak": resident_memory("self")["VmHWM"]}


# The end of a scan


def _scans(model: str, folder: Path, arguments: Namespace) -> Turns:
    def take(way: str) -> dict[str, float]:
        store, stimuli = folder / f"{way}.zarr", folder / "stimuli"
        given = ("--models", model, "--stimuli", str(stimuli), "--store", str(store))
        return _step(way, folder, arguments, "scan", *given)

    return _in_turns(arguments.turns, take)


def _scan(arguments: Namespace) -> dict[str, float]:
    """A scan with clocks in it, and then its forward passes alone."""
    found: dict[str, float] = {"forward": 0.0}
    shown: list[Any] = []  # the network, and one batch
    batches = 0
    capture, contrast = forward.capture, work.Work.contrast

    @contextmanager
    def clocked_capture(model: Any, layers: Any, take: Callable[..., None]) -> Iterator[Any]:
        def taken(*activation: Any) -> None:
            found["forward"] -= clocked(take, *activation)

        with capture(model, layers, taken) as show:

            def clocked_show(images: Any) -> None:
                nonlocal batches
                batches += 1
                shown[:] = [model, images]
                found["forward"] += clocked(show, images)

            yield clocked_show

    def clocked_contrast(self: work.Work) -> None:
        found.update(_watched(lambda: contrast(self)))

    forward.capture, work.Work.contrast = clocked_capture, clocked_contrast  # type: ignore
    shared.scan(arguments.models[0], arguments.stimuli, arguments.store)
    return {**found, "bare": _bare(*shown, batches)}


def _bare(model: Any, images: Any, batches: int) -> float:
    """Seconds of as many forward passes without hooks, after one that does not count."""
    import torch

    def show() -> None:
        for _ in range(batches):
            model(images)

    with recycled(), torch.no_grad():
        model(images)
        return clocked(show)


# Many categories


def _many(folder: Path, arguments: Namespace) -> Turns:
    """Contrasts of a made-up store of the last scan's layers; its copies stay in the folder."""
    made = folder / "made.zarr"
    shutil.rmtree(made, ignore_errors=True)
    given = ("--many", *arguments.many, "--like", str(folder / "before.zarr"))
    units = _step("before", folder, arguments, "make", "--store", str(made), *given)["units"]

    def take(way: str) -> dict[str, float]:
        store = folder / f"{way}.zarr"
        shutil.rmtree(store)
        # Moments are read alone, metadata is written.
        shutil.copytree(made, store, copy_function=_linked)
        found = _step(way, folder, arguments, "materialise", "--store", str(store))
        return {**found, "units": units}

    return _in_turns(arguments.turns, take)


def _linked(source: str, copy: str) -> None:
    if source.endswith("zarr.json"):
        shutil.copy2(source, copy)
    else:
        os.link(source, copy)


def _make(arguments: Namespace) -> dict[str, float]:
    """A draft with the moments of rectified normal responses, two images per category and fold."""
    from fusiform.engine.store.writing.creating import create_store
    from fusiform.kernels.moments import Moments

    rng, number = np.random.default_rng(1), CATEGORIES * PER_CATEGORY
    chosen = tuple(arguments.many)
    layers = [one for one in open_store(arguments.like).layers if one.name.startswith(chosen)]
    own = PER_CATEGORY // 2
    draft = create_store(
        arguments.store,
        layers=layers,
        categories=[f"n{k:03d}" for k in range(CATEGORIES)],
        counts=np.full((CATEGORIES, 2), own),
        stimuli={
            "stimulus_path": [str(i) for i in range(number)],
            "stimulus_category": np.arange(number) // PER_CATEGORY,
            "stimulus_fold": np.arange(number) % 2,
            "stimulus_sha256": [f"{i:064x}" for i in range(number)],
            "stimulus_status": ["shown"] * number,
        },
        provenance={"model": "made-up", "weights": "none"},
    )
    for layer in layers:
        scale = rng.gamma(2, 0.3, layer.shape)
        for k in range(CATEGORIES):
            typical = scale * rng.normal(0.5, 0.5, layer.shape)
            for fold in range(2):
                x = np.maximum(typical + scale * rng.standard_normal((own, *layer.shape)), 0)
                mean = x.mean(0)
                draft.write_moments(layer, k, fold, Moments(own, mean, ((x - mean) ** 2).sum(0)))
    return {"units": sum(layer.units for layer in layers)}


def _materialise(arguments: Namespace) -> dict[str, float]:
    from fusiform.engine.contrasts.select import materialise
    from fusiform.engine.store.writing.store_draft import StoreDraft

    draft = StoreDraft.join(arguments.store)
    found = _watched(lambda: materialise(draft))
    draft.complete()
    return found


_STEPS = {"scan": _scan, "make": _make, "materialise": _materialise}


# Values


def _compared(model: str, what: str, folder: Path, variables: tuple[str, ...]) -> Iterator[str]:
    """Rows about the values of both stores: how many differ in a bit, and by how much."""
    before, after = (open_store(folder / f"{way}.zarr") for way in WAYS)
    for variable in variables:
        compared = differ = 0
        largest = 0.0
        for layer in before.layers:
            a, b = (store.read(layer, variable) for store in (before, after))
            bits = f"u{a.itemsize}"
            apart = a.view(bits) != b.view(bits)
            compared, differ = compared + a.size, differ + int(apart.sum())
            if a.dtype != np.bool_:
                x, y = a[apart].astype(np.float64), b[apart].astype(np.float64)
                with np.errstate(all="ignore"):
                    relative = np.abs(x - y) / np.maximum(np.abs(x), np.abs(y))
                relative[x == y] = 0  # zeros of both signs
                largest = max(largest, np.nan_to_num(relative, nan=np.inf).max(initial=0))
        cells = (f"{compared:,}", f"{differ:,}", f"{largest:.1g}" if largest else "-")
        yield row(model, what, variable, *cells)


# The report


def _report(
    arguments: Namespace, scans: dict[str, Turns], many: dict[str, Turns], values: list[str]
) -> Iterator[str]:
    models, turns = " ".join(arguments.models), arguments.turns
    given = f"--beside PARENT --models {models} --images {arguments.images} --turns {turns}"
    checkouts = (arguments.beside / "fusiform", Path(__file__).parents[2])
    before, after = map(_commit, checkouts)
    title = "Contrasts at the end of a scan, before and after"
    yield from heading(__name__, title, f"{given} --many {' '.join(arguments.many)}", True)
    yield from (
        f"Before: {before}. After: {after}. Processes that took turns; medians of {turns}, ratios",
        "turn by turn.",
        "",
        "## After the forward passes",
        "",
        f"Untrained networks, every block, {arguments.images} photographs (fLoc) of five",
        "categories, two folds. Contrasts: t, q, CSI and masks, from moments on disk to the disk.",
        "Forward passes: those of the same scan without its statistics; bare: as many passes over",
        "one of its batches, without hooks, in the same process. Peak: the most resident memory",
        "during the contrasts, and how far that is above the memory before them.",
        "",
        *head("network", "", "contrasts, s", "of before", "forward passes, s", "bare, s",
              "contrasts / forward", "contrasts / bare", "peak, MiB", "above, MiB"),
    )  # fmt: skip
    for model, taken in scans.items():
        for way in WAYS:
            own = taken[way]
            yield row(
                model, way, _seconds(own), _of_before(taken, way),
                _seconds(own, "forward"), _seconds(own, "bare"),
                f"{ratio(_column(own, 'seconds'), _column(own, 'forward')):.3f}",
                f"{ratio(_column(own, 'seconds'), _column(own, 'bare')):.3f}", *_memory(own),
            )  # fmt: skip
    yield from (
        "",
        f"## {CATEGORIES} categories",
        "",
        f"Made-up moments, float64, of {PER_CATEGORY} images in each category, two folds; the",
        f"layers that begin with {' or '.join(arguments.many)}.",
        "",
        *head("network", "units", "", "contrasts, s", "of before", "peak, MiB", "above, MiB"),
    )
    for model, taken in many.items():
        for way in WAYS:
            own, units = taken[way], f"{taken[way][0]['units']:,}"
            yield row(model, units, way, _seconds(own), _of_before(taken, way), *_memory(own))
    yield from (
        "",
        "## Values",
        "",
        "Of the stores of the last turn. Largest: the difference as a share of the larger value.",
        "",
        *head("network", "store", "variable", "values", "differ in a bit", "largest"),
        *values,
    )


def _commit(checkout: Path) -> str:
    """The checkout's commit, and whether files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _column(taken: list[dict[str, float]], name: str) -> list[float]:
    return [found[name] for found in taken]


def _seconds(taken: list[dict[str, float]], name: str = "seconds") -> str:
    return f"{statistics.median(_column(taken, name)):.2f}"


def _of_before(taken: Turns, way: str) -> str:
    return f"{ratio(*(_column(taken[one], 'seconds') for one in (way, WAYS[0]))):.2f}"


def _memory(taken: list[dict[str, float]]) -> tuple[str, str]:
    """MiB at the peak, and above those before."""
    above = [found["peak"] - found["before"] for found in taken]
    peak, more = (statistics.median(v) / 2**20 for v in (_column(taken, "peak"), above))
    return f"{peak:,.0f}", f"{more:,.0f}"
