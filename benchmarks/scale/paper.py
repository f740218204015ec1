"""From the ladder's slopes: what a scan of a thousand layers and a million pictures would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import nnls

from fusiform.engine.layer import Layer
from fusiform.engine.registry import MOMENTS, VARIABLES
from fusiform.engine.store.chunking import chunk_shape, moments_grid, variable_grid
from fusiform.engine.store.writing.store_draft import max_store_bytes
from fusiform.engine.waiting import groups_held

from ..shared import head, row

if TYPE_CHECKING:
    from .ladder import Result

LAYERS, UNITS, PICTURES, WORKERS = 1_000, 1_000_000_000, 1_000_000, 100
CATEGORIES, FOLDS = (20, 1_000), 2
# Batches, and most shards, of a plan.
BATCH, SHARDS = 32, 256
# Assumed: what shared storage takes from a worker, bytes a second, and what one task costs the
# scheduler, seconds.
STORAGE, TASK = 1e9, 1e-3

# Parts of a command's time, each with what it is per, by a function of a result.
_PARTS: dict[str, Callable[[Result], float]] = {
    "start, s": lambda _: 1,
    "GB of the store, s": lambda r: r.bytes / 1e9,
    "GB of activations, s": lambda r: r.point.activations / 1e9,
    "1,000 layers, s": lambda r: r.point.layers / 1e3,
    "1,000 categories, s": lambda r: r.point.categories / 1e3,
    "million (layer, category), s": lambda r: r.point.layers * r.point.categories / 1e6,
    "million (layer, batch), s": lambda r: r.point.layers * _batches(r) / 1e6,
}
_ASKING = [name for name in _PARTS if "activations" not in name and "batch" not in name]


def _batches(result: Result) -> float:
    return -(-result.point.categories * result.point.pictures // BATCH)


class Slopes(NamedTuple):
    """Seconds of each part of a command, and how far its points lie off, at the median."""

    parts: dict[str, float]
    off: float

    def __getitem__(self, name: str) -> float:  # type: ignore[override]
        return self.parts.get(name, 0)


def estimated(
    results: Sequence[Result], scans: dict[int, str], loop: str, asked: Sequence[str]
) -> Iterator[str]:
    """Two tables: slopes of every command, and the calculation."""
    one = scans[1]
    slopes = {loop: _fitted(results, lambda r: r.seconds(loop), list(_PARTS))}
    slopes |= {name: _fitted(results, _beyond(name, loop), list(_PARTS)) for name in scans.values()}
    slopes |= {n: _fitted(results, lambda r, n=n: r.seconds(n), _ASKING) for n in asked}  # type: ignore[misc]
    yield from (
        "## Slopes",
        "",
        "Seconds of each part, none below 0, that fit all points best in relative terms; scans",
        "without what the plain loop takes at the same point. `off`: the median distance of a",
        "point from the fit. Beside the grid there are points of four times the units, and of",
        "sixteen times the pictures.",
        "",
        *head("", *_PARTS, "off"),
    )
    for name, own in slopes.items():
        cells = (f"{own.parts[part]:.2f}" if part in own.parts else "" for part in _PARTS)
        yield row(name, *cells, f"{own.off:.0%}")
    yield from ("", *_paper(results, slopes, one))


def _beyond(name: str, loop: str) -> Callable[[Result], float | None]:
    """Seconds of a scan beyond those of the plain loop."""

    def seconds(result: Result) -> float | None:
        own, its = result.seconds(name), result.seconds(loop)
        return None if own is None or its is None else max(own - its, 0.0)

    return seconds


def _fitted(
    results: Sequence[Result], seconds: Callable[[Result], float | None], parts: list[str]
) -> Slopes:
    taken = [(result, found) for result in results if (found := seconds(result)) is not None]
    if not taken:
        return Slopes({}, 0)
    x = np.array([[_PARTS[part](result) for part in parts] for result, _ in taken])
    y = np.array([found for _, found in taken])
    weight = 1 / np.maximum(y, 1)  # relative, of points of a second and more
    slopes, _ = nnls(x * weight[:, None], y * weight)
    off = float(np.median(np.abs(x @ slopes - y) * weight))
    return Slopes(dict(zip(parts, map(float, slopes), strict=True)), off)


def _paper(results: Sequence[Result], slopes: dict[str, Slopes], scan: str) -> Iterator[str]:
    columns = [_costs(results, slopes[scan], number) for number in CATEGORIES]
    yield from (
        f"## On paper: {LAYERS:,} layers, {UNITS:,} units, {PICTURES:,} pictures, "
        f"{WORKERS} workers",
        "",
        f"Two folds, float64, batches of {BATCH}. Not run: sizes follow from the schema, times",
        "from the slopes of a scan by one worker, without the network and its pictures. Assumed,",
        f"not measured: {1e3 * TASK:g} ms of the scheduler for a task, and shared storage of",
        f"{STORAGE / 1e9:g} GB/s for each worker.",
        "",
        *head("", *(f"{number:,} categories" for number in CATEGORIES)),
    )
    for name in columns[0]:
        yield row(name, *(column[name] for column in columns))
    yield from (
        "",
        "What breaks first: what the scan needs, as a share of a limit.",
        "",
        *head("limit", *(f"{number:,} categories" for number in CATEGORIES)),
    )
    shares = [_limits(results, slopes[scan], number) for number in CATEGORIES]
    for name in sorted(shares[0], key=lambda one: -shares[-1][one]):
        yield row(name, *(f"{share[name]:.2g}" for share in shares))


class _Needs(NamedTuple):
    """The needs of a scan of so many categories: bytes, pieces, and seconds of one worker."""

    store: float
    parts: float
    files: int
    root: float
    tasks: int
    folding: float
    hooks: float
    writing: float
    pieces: float
    alone: float


def _needs(results: Sequence[Result], own: Slopes, categories: int) -> _Needs:
    layer = Layer("layer", "Block", ("unit",), (UNITS // LAYERS,), "float32")
    store = LAYERS * max_store_bytes([layer], categories, FOLDS, "float64")
    spanning = min(SHARDS - 1, categories * FOLDS)
    activations = 4.0 * PICTURES * UNITS / 1e9
    return _Needs(
        store=store,
        parts=2.0 * (SHARDS - 1) * 16 * UNITS,
        files=LAYERS * _files(layer, categories),
        root=_root_bytes(results, categories),
        tasks=SHARDS + spanning + LAYERS,
        folding=own["GB of activations, s"] * activations,
        hooks=own["million (layer, batch), s"] * LAYERS * PICTURES / BATCH / 1e6,
        writing=own["GB of the store, s"] * store / 1e9,
        pieces=own["million (layer, category), s"] * LAYERS * categories * FOLDS / 1e6,
        alone=own["1,000 layers, s"] * LAYERS / 1e3 + own["1,000 categories, s"] * categories / 1e3,
    )


def _files(layer: Layer, categories: int) -> int:
    """Files of a layer: of moments, contrasts, extremes, and metadata of each array and group."""
    groups = categories * FOLDS
    leading, slab = {"category": categories, "fold": FOLDS}, chunk_shape(layer, groups)
    held = groups_held([layer] * LAYERS, groups)[layer.name]
    files = 0
    for name, variable in VARIABLES.items():
        own = tuple(leading[dim] for dim in variable.leading)
        grid = (
            moments_grid(layer, own, slab, held, 8)
            if name in MOMENTS
            else variable_grid(layer, own, slab, 4, compressed=False)
        )
        files += math.prod(map(math.ceil, np.divide(grid.shape, grid.file)))
    return files + len(VARIABLES) + 3


def _root_bytes(results: Sequence[Result], categories: int) -> float:
    """Bytes of the root's metadata, by those of the ladder's layers and categories."""

    def features(a: int, k: int) -> list[int]:
        return [1, a, k, a * k]

    measured = [r for r in results if r.root]
    x = np.array([features(r.point.layers, r.point.categories) for r in measured])
    y = np.array([r.root for r in measured], np.float64)
    slopes, _ = nnls(x / y[:, None], np.ones(len(y)))
    return float(slopes @ features(LAYERS, categories))


def _costs(results: Sequence[Result], own: Slopes, categories: int) -> dict[str, str]:
    needs = _needs(results, own, categories)
    shared = {
        "folding activations in": needs.folding,
        "pieces: (layer, batch)": needs.hooks,
        "the store's bytes, with contrasts": needs.writing,
        "pieces: (layer, category, fold)": needs.pieces,
    }
    return {
        "activations, of which none is kept": f"{4 * PICTURES * UNITS / 1e15:,.0f} PB",
        "live moments of a worker, in one pass": f"{20 * UNITS / 1e9:,.0f} GB",
        "store, at most": f"{needs.store / 1e12:,.1f} TB",
        "parts of groups at the ends of shards": f"{needs.parts / 1e12:,.1f} TB",
        "files": f"{needs.files:,.0f}",
        "metadata of the root": f"{needs.root / 1e6:,.1f} MB",
        "tasks": f"{needs.tasks:,}",
        **{f"{name}, on each worker": _time(s / WORKERS) for name, s in shared.items()},
        "layers and categories, in one process": _time(needs.alone),
        "store and parts through storage": _time(
            (needs.store + 2 * needs.parts) / WORKERS / STORAGE
        ),
        "the scheduler": _time(needs.tasks * TASK),
    }


def _limits(results: Sequence[Result], own: Slopes, categories: int) -> dict[str, float]:
    """Needs as shares of limits, of fusiform's own or assumed ones."""
    needs = _needs(results, own, categories)
    busy = (needs.folding + needs.hooks + needs.writing + needs.pieces) / WORKERS
    stored = (needs.store + 2 * needs.parts) / WORKERS / STORAGE
    return {
        "memory: live moments in 64 GiB of a worker, else more passes": 20 * UNITS / 2**36,
        "metadata: the root in its 64 MiB": needs.root / 2**26,
        "file system: files in a quota of 1 million": needs.files / 1e6,
        "file system: bytes at 1 GB/s for each worker, in the workers' own time": stored / busy,
        "scheduler: tasks, in the workers' own time": needs.tasks * TASK / busy,
        "one process: layers and categories, in the workers' own time": needs.alone / busy,
    }


def _time(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
