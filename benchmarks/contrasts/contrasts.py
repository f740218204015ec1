"""Criteria from a store, beside scipy and scanpy on stored activations: time, memory, agreement.

Needs the test data. A ResNet-50 with every block recorded: 12 GB in the folder for temporary files,
half an hour.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiform.engine.bench.measure import Finished, run
from fusiform.engine.querying.store import open_store

from ..shared import RESNET50, again, head, heading, link_images, save, scan, testdata

IMAGES = 480
# Units whose activations scipy is given at a time.
_SLAB = 83_886
# What all three ways are asked: Welch against the pooled rest, larger, at a false discovery rate.
SAME = ("--all", "--test", "rest", "--sides", "2", "--where", "q <= 0.05 and t > 0")
ASKED = [
    ("--contrast", "faces"),
    ("--contrast", "faces > bodies + objects"),
    ("--contrast", "faces - (bodies + objects + places)/3"),
    ("--all",),
    ("--all", "--where", "q <= 0.01"),
    ("--all", "--test", "rest", "--where", "t > 5"),
    SAME,
    ("--all", "--test", "weighted"),
    ("--all", "--test", "student", "--correction", "by"),
    ("--all", "--test", "rest", "--correction", "bonferroni", "--family", "model"),
    ("--all", "--test", "rest", "--where", "t > 3 and csi > 1/3"),
    ("--all", "--test", "rest", "--where", "d_prime > 1 or top 1% by csi_strongest"),
    ("--all", "--test", "rest", "--where", "f > 20 and preferred and category_sparseness > 0.3"),
    ("--all", "--preset", "prince2024"),
    ("--all", "--test", "rest", "--save", "saved"),
]
WAYS = {
    "fusiform": "`fusiform select`, from the store",
    "scipy": "`scipy.stats.ttest_ind` and `false_discovery_control`, from .npy files",
    "scanpy": '`scanpy.tl.rank_genes_groups(method="t-test")`, from .npy files',
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=["record", "scipy", "scanpy"], help="run one way, here")


def main(arguments: Namespace) -> None:
    if arguments.way:
        print(json.dumps(_WAYS[arguments.way]()))
        return
    weights = testdata() / "weights" / RESNET50
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        link_images(Path("stimuli"), IMAGES)
        Path("r50.safetensors").symlink_to(weights)
        network = ("resnet50", "stimuli", "--weights", "r50.safetensors", "--device", "cpu")
        run("scan", *network, "-o", "r50.zarr")
        print(again(__name__, "--way", "record").output, flush=True)
        asked = {options: [_asked(options) for _ in range(arguments.repeats)] for options in ASKED}
        ways: dict[str, list[Finished]] = {way: [] for way in WAYS}
        for _ in range(arguments.repeats):  # they take turns
            ways["fusiform"].append(_asked(SAME))
            for way in ("scipy", "scanpy"):
                ways[way].append(again(__name__, "--way", way))
                print(way, f"{ways[way][-1].seconds:.0f} s", flush=True)
        lines = [*_head(arguments.repeats), *_table(asked), *_compared(ways, _agreement())]
    save(__name__, lines)


def _asked(options: tuple[str, ...]) -> Finished:
    finished = run("select", "r50.zarr", *options, "--format", "json")
    print(options, f"{finished.seconds:.1f} s", flush=True)
    return finished


def _record() -> dict[str, int]:
    """Keep what the scan of ``r50.zarr`` saw: ``LAYER.npy [stimulus shown, unit]``, and labels."""
    from fusiform.engine.moments.accumulators import Live

    kept: dict[str, Any] = {}
    shown: dict[str, int] = {}
    take = Live.take

    def keeping(self: Any, layer: str, activation: Any) -> None:
        take(self, layer, activation)
        rows = sum(run.stop - run.start for run in self._runs)
        own = activation[:rows].flatten(1).numpy()
        if layer not in kept:
            shape = (IMAGES, own.shape[1])
            kept[layer] = np.lib.format.open_memmap(f"{layer}.npy", "w+", np.float32, shape)
            shown[layer] = 0
        kept[layer][shown[layer] : shown[layer] + rows] = own
        shown[layer] += rows

    Live.take = keeping  # type: ignore[method-assign]
    store = scan("resnet50", "stimuli", "kept.zarr", weights="r50.safetensors").store
    np.save("labels.npy", np.repeat(np.arange(5), store.counts.sum(axis=1)))
    return shown


def _layers() -> Iterator[tuple[str, NDArray[Any]]]:
    for layer in open_store("r50.zarr").layers:
        yield layer.name, np.load(f"{layer.name}.npy", mmap_mode="r")


def _scipy() -> None:
    from scipy import stats

    labels = np.load("labels.npy")
    for name, activations in _layers():
        t, p = np.empty((2, 5, activations.shape[1]))
        for start in range(0, activations.shape[1], _SLAB):
            units = slice(start, start + _SLAB)
            slab = activations[:, units]
            for k in range(5):
                own = labels == k
                with np.errstate(all="ignore"):
                    test = stats.ttest_ind(slab[own], slab[~own], equal_var=False)
                t[k, units], p[k, units] = np.nan_to_num(test.statistic), test.pvalue
        q = [stats.false_discovery_control(np.nan_to_num(values, nan=1)) for values in p]
        _keep("scipy", name, t, (np.array(q) <= 0.05) & (t > 0))


def _scanpy() -> None:
    import anndata
    import pandas
    import scanpy

    labels = pandas.Categorical(np.load("labels.npy").astype(str))
    for name, activations in _layers():
        units = [str(unit) for unit in range(activations.shape[1])]
        cells = pandas.DataFrame({"domain": labels}, index=[str(i) for i in range(len(labels))])
        table = anndata.AnnData(np.asarray(activations), cells, pandas.DataFrame(index=units))
        with np.errstate(all="ignore"):
            scanpy.tl.rank_genes_groups(table, "domain", method="t-test")
        found = table.uns["rank_genes_groups"]
        t, q = np.empty((2, 5, activations.shape[1]))
        for k in range(5):
            order = found["names"][str(k)].astype(int)
            t[k, order] = np.nan_to_num(found["scores"][str(k)])
            q[k, order] = found["pvals_adj"][str(k)]
        _keep("scanpy", name, t, (q <= 0.05) & (t > 0))


_WAYS = {"record": _record, "scipy": _scipy, "scanpy": _scanpy}


def _keep(way: str, layer: str, t: NDArray[Any], selective: NDArray[Any]) -> None:
    np.savez(f"{way}.{layer}.npz", t=t.astype(np.float32), selective=selective)


def _agreement() -> dict[str, tuple[float, int, int]]:
    """Of each way: the largest difference of t in all units, masks that differ, masks compared."""
    run("select", "r50.zarr", *SAME, "--save", "same", "--measures", "t")
    store = open_store("r50.zarr")
    found = {}
    for way in ("scipy", "scanpy"):
        difference, differ, compared = 0.0, 0, 0
        for layer in store.layers:
            kept = np.load(f"{way}.{layer.name}.npz")
            t, selective = (store.read(layer, f"same/{name}") for name in ("t", "selective"))
            size = np.maximum(np.abs(kept["t"]), 1)
            difference = max(difference, float(np.max(np.abs(t - kept["t"]) / size)))
            differ += int((selective != kept["selective"]).sum())
            compared += selective.size
        found[way] = difference, differ, compared
    return found


def _head(repeats: int) -> list[str]:
    return [
        *heading(__name__, "Asking again", f"--repeats {repeats}", needs_testdata=True),
        f"Whole processes, start-up included; medians of {repeats}. Memory is what a process has",
        "of its own, without mapped files, looked at 50 times a second.",
        "",
        "A trained ResNet-50, the stem, 16 blocks and the pooled output: 5.7 million units, 480",
        "photographs (fLoc) of five domains, two folds. The store holds moments; a criterion is",
        "tested on all stimuli and on each fold, and its selection measured on the other fold.",
    ]


def _median(runs: list[Finished]) -> tuple[float, float]:
    return (
        statistics.median(finished.seconds for finished in runs),
        statistics.median(finished.anonymous_bytes for finished in runs) / 2**20,
    )


def _table(asked: dict[tuple[str, ...], list[Finished]]) -> Iterator[str]:
    yield from ("", "## Every kind of question", "", "| fusiform select r50.zarr ... | s | MiB |")
    yield "|---|---|---|"
    for options, runs in asked.items():
        seconds, memory = _median(runs)
        shown = " ".join(f"'{o}'" if " " in o else o for o in options)
        yield f"| `{shown}` | {seconds:.1f} | {memory:,.0f} |"


def _compared(
    ways: dict[str, list[Finished]], agreement: dict[str, tuple[float, int, int]]
) -> Iterator[str]:
    shown = " ".join(f"'{o}'" if " " in o else o for o in SAME)
    yield from (
        "",
        "## The same question in three ways",
        "",
        f"`{shown}`:",
        "Welch's t of every domain against the rest, two-sided Benjamini-Hochberg in the layer.",
        "The others start from activations that were kept on disk, 11 GB, and make the one test",
        "on all stimuli, where fusiform makes three, and measures on held-out stimuli.",
        "t differs by at most so much of itself (of 1 where it is smaller): they compute in the",
        "float32 of the activations. In float64 scipy's t is the store's, to its own float32",
        "(`tests/test_scan.py`).",
        "",
        *head("way", "s", "MiB", "t differs by", "selected differently"),
    )
    for way, name in WAYS.items():
        seconds, memory = _median(ways[way])
        cells = "- | -"
        if way in agreement:
            difference, differ, compared = agreement[way]
            cells = f"{difference:.1g} | {differ:,} of {compared:,}"
        yield f"| {name} | {seconds:.0f} | {memory:,.0f} | {cells} |"
