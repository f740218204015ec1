"""Contrasts of many categories: seconds and memory per unit.

Stores are synthetic; with 1,000 categories one takes 12 GB in the folder for temporary files.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

import numba
import numpy as np

from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import open_store
from fusiform.kernels import each
from fusiform.kernels.moments import Moments, merge

from ..shared import again, files_of, head, heading, save

NUMBERS = (6, 16, 32, 48, 64, 100, 300, 1000, 5000)
STORES = (6, 100, 1000)
# A convolution, a smaller one, and tokens: 402,176 units.
LAYERS = (
    Layer("conv", "Conv2d", ("channel", "y", "x"), (64, 56, 56), "float32"),
    Layer("block", "Bottleneck", ("channel", "y", "x"), (256, 14, 14), "float32"),
    Layer("encoder", "EncoderBlock", ("token", "channel"), (197, 768), "float32"),
)
QUERY = "t > 5 and csi > 1/3"
STEPS = ("materialise", "summary", "query")
_PER_FOLD = 25


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--stores", type=int, nargs="+", default=STORES, help="of so many categories"
    )
    parser.add_argument("--step", choices=["make", *STEPS], help="one step, here")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--categories", type=int)


def main(arguments: Namespace) -> None:
    if arguments.step == "make":
        _make(arguments.store, arguments.categories)
    elif arguments.step:
        print(json.dumps(_STEPS[arguments.step](arguments.store)))
    else:
        stores = " ".join(map(str, arguments.stores))
        options = f"--repeats {arguments.repeats} --stores {stores}"
        title = heading(__name__, "Many categories", options)
        lines = [*title, *_kernels(arguments.repeats), *_stores(arguments.stores)]
        save(__name__, lines)


# The kernel


def _moments(kind: str, categories: int, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moments of 25 to 75 stimuli per category, with means that differ from unit to unit."""
    rng = np.random.default_rng(0)
    count = rng.integers(25, 75, categories)
    mean, m2 = np.empty((2, categories, units))
    for k, n in enumerate(count):
        x = rng.normal(rng.normal(-1 if kind == "rectified" else 0, 0.5, units), 1, (n, units))
        x = x.clip(0) if kind == "rectified" else x
        mean[k], m2[k] = x.mean(0), ((x - x.mean(0)) ** 2).sum(0)
    return count, mean, m2


def _kernels(repeats: int) -> Iterator[str]:
    numba.set_num_threads(1)
    yield from (
        "",
        "## The smallest t against each other category",
        "",
        "Nanoseconds of one core per unit and category, medians; both ways take turns, and give",
        "the same bits. All pairs: what `against_each` does up to "
        f"{each.FEW} categories. Rivals: what it",
        "does with more. Looked at: pairs per category, the mean over units. Normal responses, and",
        "rectified ones, whose variance grows with their mean and of which many are constant.",
        "",
        *head("responses", "categories", "all pairs, ns", "rivals, ns", "looked at"),
    )
    for kind in ("normal", "rectified"):
        for categories in NUMBERS:
            units = min(4096, max(64, 200_000 // categories))
            count, mean, m2 = _moments(kind, categories, units)
            error = m2 / (count[:, np.newaxis] - 1) / count[:, np.newaxis]
            ways = {way: np.empty_like(mean) for way in (each.pairs_of_tile, each.rivals_of_tile)}
            taken: dict = {way: [] for way in ways}
            for turn in range(repeats + 1):
                for way, t in ways.items():
                    started = time.process_time()
                    way(mean, error, t)
                    if turn:  # the first compiles
                        taken[way].append(time.process_time() - started)
            pairs, rivals = (t.view(np.int64) for t in ways.values())
            assert (pairs == rivals).all()
            costs = [1e9 * statistics.median(taken[way]) / mean.size for way in ways]
            looked = _looked_at(count, mean, m2)
            yield (f"| {kind} | {categories:,} | {costs[0]:.1f} | {costs[1]:.1f} | {looked:.1f} |")


def _looked_at(count: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> float:
    """Pairs per category: all rivals, and for the preferred category all others."""
    error = m2 / (count[:, np.newaxis] - 1) / count[:, np.newaxis]
    kept_mean, kept_error = np.empty((2, len(count)))
    found = [
        each.keep_hull(m, kept_mean, kept_error, each.find_rivals(m, e, kept_mean, kept_error))
        for m, e in zip(mean.T.copy(), error.T.copy(), strict=True)
    ]
    return float(np.mean(found)) + (len(count) - 1) / len(count)


# Stores


def _make(path: Path, categories: int) -> None:
    """A store of moments in float32: rectified normal responses, as large samples have them."""
    from fusiform.engine.store.writing.creating import create_store

    rng = np.random.default_rng(1)
    stimuli = categories * 2 * _PER_FOLD
    draft = create_store(
        path,
        layers=LAYERS,
        categories=[f"n{k:04d}" for k in range(categories)],
        counts=np.full((categories, 2), _PER_FOLD),
        stimuli={
            "stimulus_path": [str(i) for i in range(stimuli)],
            "stimulus_category": np.arange(stimuli) // (2 * _PER_FOLD),
            "stimulus_fold": np.arange(stimuli) % 2,
            "stimulus_sha256": [f"{i:064x}" for i in range(stimuli)],
            "stimulus_status": ["shown"] * stimuli,
        },
        provenance={"model": "made-up", "weights": "none", "store_dtype": "float32"},
    )
    for layer in LAYERS:
        scale = rng.gamma(2, 0.3, layer.shape)
        for k in range(categories):
            response = scale * rng.gamma(1.5, 0.5, layer.shape)
            for fold in range(2):
                noise = rng.standard_normal(layer.shape, np.float32) / np.sqrt(_PER_FOLD)
                mean = np.maximum(response * (1 + noise), 0)
                spread = response**2 * (1 + rng.standard_normal(layer.shape, np.float32) / 5) ** 2
                draft.write_moments(
                    layer, k, fold, Moments(_PER_FOLD, mean, spread * (_PER_FOLD - 1))
                )


def _materialise(path: Path) -> float:
    import zarr

    from fusiform.engine.contrasts.select import materialise
    from fusiform.engine.store.location import zarr_store
    from fusiform.engine.store.writing.store_draft import StoreDraft

    store = zarr_store(path, read_only=False)
    draft = StoreDraft(path, zarr.open_group(store, mode="r+", use_consolidated=False))
    started = time.perf_counter()
    materialise(draft)
    draft.complete()
    return time.perf_counter() - started


def _summary(path: Path) -> float:
    from fusiform.engine.contrasts.summary import summary

    store = open_store(path)
    started = time.perf_counter()
    assert len(summary(store)) == len(LAYERS) * len(store.categories)
    return time.perf_counter() - started


def _query(path: Path) -> float:
    store = open_store(path)
    started = time.perf_counter()
    store.query(QUERY).counts()
    return time.perf_counter() - started


_STEPS = {"materialise": _materialise, "summary": _summary, "query": _query}


def _stores(numbers: Sequence[int]) -> Iterator[str]:
    units = sum(layer.units for layer in LAYERS)
    yield from (
        "",
        "## Stores",
        "",
        f"{len(LAYERS)} layers, {units:,} units, 2 folds, float32 moments, made up. Each step in",
        "a process of its own: seconds without imports, and the most memory that it had of its own",
        f"(without mapped files), imports included. The query: counts of `{QUERY}` per layer",
        "and category.",
        "",
        *head("categories", "store, MB", "files", "step", "s", "us per unit and category", "MiB"),
    )
    checks = []
    for categories in numbers:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.zarr"
            own = ("--store", str(path), "--categories", str(categories))
            made = again(__name__, "--step", "make", *own)
            print(categories, "made", f"{made.seconds:.0f} s", flush=True)
            rows = []
            for step in STEPS:
                finished = again(__name__, "--step", step, *own)
                seconds, memory = json.loads(finished.output), finished.anonymous_bytes / 2**20
                cost = 1e6 * seconds / units / categories
                rows.append(f"{step} | {seconds:.1f} | {cost:.2f} | {memory:,.0f} |")
                print(categories, rows[-1], flush=True)
            files = files_of(path)
            size = sum(files) / 1e6
            checks.append(_against_scipy(path))
            for row in rows:
                yield f"| {categories:,} | {size:,.0f} | {len(files):,} | {row}"
    differences = ", ".join(f"{difference:.1g}" for difference in checks)
    yield from (
        "",
        "Of 8 units of every layer, t and t_each of 6 categories against scipy's",
        "`ttest_ind_from_stats` on the same moments: they differ by at most so much of themselves",
        f"(of 1 where they are smaller), store by store: {differences}. They are kept in float32.",
    )


def _against_scipy(path: Path) -> float:
    from scipy.stats import ttest_ind_from_stats

    store, rng, largest = open_store(path), np.random.default_rng(2), 0.0
    count = store.counts.sum(axis=1)
    for layer in store.layers:
        slabs = list(store.slabs(layer))
        for number in rng.integers(0, len(slabs), 8):
            slab = slabs[number][0]
            parts = store.moments(layer, slab)
            unit = int(rng.integers(parts[0].mean.shape[1]))
            own = reduce(
                merge, (Moments(n, m[:, unit:][:, :1], s[:, unit:][:, :1]) for n, m, s in parts)
            )
            mean, m2 = own.mean[:, 0], own.m2[:, 0]
            sd = np.sqrt(m2 / (count - 1))
            t, t_each = (store.read_slab(layer, name, slab)[:, unit] for name in ("t", "t_each"))
            for k in rng.permutation(len(count))[:6]:
                others = np.delete(np.arange(len(count)), k)
                pairs = ttest_ind_from_stats(
                    mean[k], sd[k], count[k], mean[others], sd[others], count[others], False
                ).statistic
                rest = mean[others] @ count[others] / count[others].sum()
                squares = m2[others].sum() + count[others] @ (mean[others] - rest) ** 2
                n = count[others].sum()
                pooled = ttest_ind_from_stats(
                    mean[k], sd[k], count[k], rest, np.sqrt(squares / (n - 1)), n, False
                ).statistic
                for found, expected in ((t[k], pooled), (t_each[k], pairs.min())):
                    largest = max(largest, abs(found - expected) / max(abs(expected), 1))
    return largest
