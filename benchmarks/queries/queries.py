"""Queries of a store, beside a plain dask graph, one big .npy, and pandas.

Takes a store with every block recorded (``r50.zarr``, the README's). Makes a store of 130 million
units of noise: 11 GB in the folder for temporary files, and half as much for the other ways' files.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusiform.engine.bench.measure import run
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store.writing.creating import create_store

from ..shared import again, head, heading, save

RULE, TOP = "t > 5 and csi > 0.33", "faces: t > 5 and csi > 0.33"
# Turns in a process; of what takes so many seconds at first, two.
WARM, LONG = 7, 4
# The size of RN50x64 at 448 pixels with every block: channels, side, how many.
BLOCKS = [
    *((128, 112, 4), (512, 112, 3), (1024, 56, 15), (2048, 28, 30), (4096, 14, 10)),
    (1024, 1, 1),
]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("store", type=Path, nargs="?", default=Path("r50.zarr"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ask", choices=list(WAYS), help="one way, in this process")


def main(arguments: Namespace) -> None:
    if arguments.ask:
        for module in IMPORTED.get(arguments.ask, ()):
            import_module(module)
        print(json.dumps(_asked(WAYS[arguments.ask], arguments.store)))
        return
    lines = [*_head(arguments.repeats)]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "r50"
        small.mkdir()
        (small / "store.zarr").symlink_to(arguments.store.resolve())
        lines += _section("A ResNet-50", small, arguments.repeats)
        big = Path(folder) / "big"
        big.mkdir()
        _make_big(big / "store.zarr")
        lines += _section("130 million units", big, max(1, arguments.repeats - 1))
    lines += ["", "## The README's queries", "", *_examples(arguments.store)]
    save(__name__, lines)


# The ways. Each asks for counts per layer and category, and for the top 20 of faces by t.


def _fusiform(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    store = open_store(folder / "store.zarr")
    top = store.query(TOP)
    return (
        lambda: store.query(RULE).counts()["matching"].tolist(),
        lambda: [round(float(t), 4) for t in top.top(20, columns=["t", "csi"])["t"]],
    )


def _dask(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import dask
    import xarray

    tree = xarray.open_datatree(folder / "store.zarr", engine="zarr", chunks={})
    names = [record["name"] for record in tree.attrs["layers"]]

    def counts() -> list[int]:
        found = []
        for name in names:
            layer = tree[name].to_dataset()
            matches = (layer.t > 5) & (layer.csi > 0.33)
            found.append(matches.sum([dim for dim in matches.dims if dim != "category"]).data)
        return [int(count) for layer in dask.compute(*found) for count in layer]

    def top() -> list[float]:
        best = []
        for name in names:
            layer = tree[name].to_dataset().sel(category="faces")
            t = layer.t.where((layer.t > 5) & (layer.csi > 0.33), -np.inf).data.ravel()
            best.append(dask.array.topk(t, 20))
        values = np.concatenate(dask.compute(*best))
        values = values[np.isfinite(values)]
        return [round(float(t), 4) for t in np.sort(values)[::-1][:20]]

    return counts, top


def _npy(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    t, csi = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("t", "csi"))
    starts = np.load(folder / "starts.npy")

    def counts() -> list[int]:
        matches = (t > 5) & (csi > 0.33)
        return np.add.reduceat(matches, starts, axis=1, dtype=np.int64).T.ravel().tolist()

    def top() -> list[float]:
        own = np.where((t[0] > 5) & (csi[0] > 0.33), t[0], -np.inf)
        best = own[np.argpartition(own, -20)[-20:]]
        return [round(float(value), 4) for value in np.sort(best)[::-1]]

    return counts, top


def _pandas(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import pandas

    frame = pandas.read_parquet(folder / "units.parquet")

    def counts() -> list[int]:
        matching = frame[(frame.t > 5) & (frame.csi > 0.33)]
        grouped = matching.groupby(["layer", "category"], observed=False).size()
        return [int(count) for count in grouped]

    def top() -> list[float]:
        own = frame[(frame.category == 0) & (frame.t > 5) & (frame.csi > 0.33)]
        return [round(float(t), 4) for t in own.t.nlargest(20)]

    return counts, top


WAYS: dict[str, Callable[[Path], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "fusiform": _fusiform,
    "dask": _dask,
    "npy": _npy,
    "pandas": _pandas,
}
IMPORTED = {"dask": ("dask.array", "xarray"), "pandas": ("pandas", "pyarrow.parquet")}
NAMES = {
    "fusiform": "`result.query(...)`",
    "dask": "a plain dask graph over `xarray.open_datatree`",
    "npy": "one .npy `[category, unit]` for t, one for CSI, mapped, numpy",
    "pandas": "pandas, all in memory, from a .parquet of units",
}


def _asked(way: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    """Open and ask twice: the first time of all, and the median of several after it."""
    started = time.perf_counter()
    counts, top = way(folder)
    found = {"counts": counts()}
    first = time.perf_counter() - started
    warm = {}
    for name, ask in (("counts", counts), ("top", top)):
        found[name] = ask()
        taken = []
        for _ in range(WARM if first < LONG else 2):
            started = time.perf_counter()
            ask()
            taken.append(time.perf_counter() - started)
        warm[name] = statistics.median(taken)
    return {"first": first, "warm": warm, "found": found}


def _section(title: str, folder: Path, repeats: int) -> Iterator[str]:
    store = open_store(folder / "store.zarr")
    units = sum(layer.units for layer in store.layers)
    possible = ["fusiform", "dask", "npy", "pandas"]
    _make_others(store, folder, parquet=units < 1e7)
    if not (folder / "units.parquet").exists():
        possible.remove("pandas")
    runs: dict[str, list[Any]] = {way: [] for way in possible}
    for _ in range(repeats):  # they take turns
        for way in possible:
            _forget(folder)
            finished = again(__name__, str(folder), "--ask", way)
            runs[way].append((finished, json.loads(finished.output)))
            print(title, way, f"{finished.seconds:.2f} s", flush=True)
    answers = {way: of[0][1]["found"] for way, of in runs.items()}
    yield from (
        "",
        f"## {title}",
        "",
        f"{len(store.layers)} layers, {units / 1e6:.1f} million units, {len(store.categories)} "
        f"categories. {sum(answers['fusiform']['counts']):,} units match; all ways agree: "
        f"{'yes' if all(answer == answers['fusiform'] for answer in answers.values()) else 'NO'}.",
        "",
        "| way | counts, s | top 20, s | opened and counted, nothing in memory, s | "
        "process, MiB of its own |",
        "|---|---|---|---|---|",
    )
    for way, found in runs.items():
        warm = [statistics.median(a["warm"][n] for _, a in found) for n in ("counts", "top")]
        first = statistics.median(a["first"] for _, a in found)
        memory = statistics.median(f.anonymous_bytes for f, _ in found) / 2**20
        yield f"| {NAMES[way]} | {warm[0]:.3f} | {warm[1]:.3f} | {first:.2f} | {memory:,.0f} |"
    if "pandas" not in possible:
        yield "\npandas would hold 650 million rows: not tried."
    yield from ("", *_commands(folder, repeats))


def _commands(folder: Path, repeats: int) -> Iterator[str]:
    """Whole processes of the command line, start-up included."""
    yield from head("command", "s, nothing in memory", "s", "MiB of its own")
    store = str(folder / "store.zarr")
    commands = [(RULE,), (TOP, "--top", "20", "--columns", "t,csi")]
    if (folder / "units.parquet").exists():  # the other has no moments
        commands.append((TOP, "--top", "20"))
    for options in commands:
        cold = []
        for _ in range(repeats):
            _forget(folder)
            cold.append(run("query", store, *options).seconds)
        warm = [run("query", store, *options) for _ in range(repeats)]
        shown = " ".join(f"'{o}'" if " " in o else o for o in options)
        memory = statistics.median(f.anonymous_bytes for f in warm) / 2**20
        yield (
            f"| `fusiform query STORE {shown}` | {statistics.median(cold):.2f} | "
            f"{statistics.median(f.seconds for f in warm):.2f} | {memory:,.0f} |"
        )


def _forget(folder: Path) -> None:
    """Let the system forget the files of a folder, so that they are read from disk."""
    for path in folder.resolve().rglob("*"):
        for file in path.resolve().rglob("*") if path.is_symlink() else [path]:
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def _make_others(store: Store, folder: Path, parquet: bool) -> None:
    """Write the files from which the other ways start."""
    units = sum(layer.units for layer in store.layers)
    shape = (len(store.categories), units)
    starts = np.cumsum([0, *(layer.units for layer in store.layers[:-1])])
    np.save(folder / "starts.npy", starts)
    for name in ("t", "csi"):
        kept = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for start, layer in zip(starts, store.layers, strict=True):
            kept[:, start : start + layer.units] = store.read(layer, name)
        kept.flush()
    if parquet:
        import pandas

        pandas.DataFrame(
            {
                "layer": pandas.Categorical.from_codes(
                    np.tile(
                        np.repeat(np.arange(len(starts)), [layer.units for layer in store.layers]),
                        shape[0],
                    ),
                    [layer.name for layer in store.layers],
                ),
                "category": np.repeat(np.arange(shape[0], dtype=np.int16), units),
                "t": np.load(folder / "t.npy").ravel(),
                "csi": np.load(folder / "csi.npy").ravel(),
            }
        ).to_parquet(folder / "units.parquet")


def _make_big(path: Path) -> None:
    """A store of noise, and no moments, in the shapes of RN50x64 at 448 pixels.

    Nothing asks for its other variables, which no store is without.
    """
    layers = [
        Layer(f"{block}.{n}", "Bottleneck", ("channel", "y", "x"), (c, side, side), "float32")
        for block, (c, side, times) in enumerate(BLOCKS)
        for n in range(times)
    ]
    categories = ("faces", "bodies", "characters", "objects", "places")
    draft = create_store(
        path,
        layers=layers,
        categories=categories,
        counts=np.full((5, 2), 48),
        stimuli={
            "stimulus_path": [str(i) for i in range(480)],
            "stimulus_category": np.repeat(range(5), 96),
            "stimulus_fold": np.arange(480) % 2,
            "stimulus_sha256": [f"{i:064x}" for i in range(480)],
            "stimulus_status": ["shown"] * 480,
        },
        provenance={"model": "noise", "weights": "none"},
    )
    rng = np.random.default_rng(0)
    for layer in layers:
        # Of t some 1 in 1,000 above 5, CSI going with it.
        t = rng.standard_t(4, (5, layer.units)).astype(np.float32)
        csi = np.tanh(t / 8 + 0.1 * rng.standard_normal(t.shape, np.float32))
        none = np.zeros((5, 2, layer.units), np.bool_)
        draft.write_contrasts(layer, {
            "t": t, "t_each": t, "q_each": np.zeros_like(t), "csi": csi, "selective": none[:, 0],
            "selective_fold": none, "dead": none[0, 0], "nonfinite": none[0, 0],
        })  # fmt: skip
    draft.complete()
    print("made", path, flush=True)


def _examples(store: Path) -> Iterator[str]:
    for options in (
        (TOP, "--layers", "layer4.*", "--top", "5"),
        ("selective and t > 10", "--layers", "layer4.2,avgpool"),
        ("faces: selective", "--layers", "layer4.2", "--quantiles", "csi"),
    ):
        shown = " ".join(f"'{o}'" if set(o) & set(" *") else o for o in options)
        yield from (f"`fusiform query r50.zarr {shown}`", "", "```")
        yield from (run("query", str(store), *options).output.rstrip(), "```", "")


def _head(repeats: int) -> list[str]:
    return [
        *heading(__name__, "Asking for units", f"r50.zarr --repeats {repeats}"),
        f"Medians of {repeats} processes ({repeats - 1} of the larger store), and in each of",
        f"{WARM} turns (2 of what takes over {LONG} s at first). Memory is what a process has of",
        "its own, without mapped files, looked at 50 times a second. Nothing in memory: the system",
        "was made to forget the files. Imports are in none of the first three columns.",
        "",
        f"Counts of `{RULE}` per layer and category; the top 20 of `{TOP}` by t.",
    ]
