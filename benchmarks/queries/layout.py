"""Layouts of a store: writing, size, files and queries of one ResNet-50's result.

Takes a store with every block recorded (``r50.zarr``, the README's). Ten minutes, 3 GB of memory
and of disk.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import zarr

from fusiform.engine import waiting
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.registry import STIMULUS_COLUMNS, VARIABLES
from fusiform.engine.store import chunking
from fusiform.engine.store.writing import array_writer, creating
from fusiform.engine.store.writing.creating import create_store
from fusiform.kernels.moments import Moments

from ..shared import clocked, files_of, heading, save

REPEATS = 3
QUERY = "t > 5 and csi > 0.33"
# How chunks are encoded.
CODECS = {"none": False, "lz4, bytes shuffled": True}


class Way(NamedTuple):
    """A layout: units per chunk, codecs of moments and contrasts, precision and file of moments.

    ``values`` are those of a file that holds the moments of several groups.
    """

    units: int
    moments: str
    contrasts: str
    dtype: str = "float64"
    values: int = 2**19


# Replaced while a store is written.
REPLACED = (
    (chunking, "_CHUNK_UNITS"), (waiting, "_MOMENT_VALUES"), (creating, "moments_grid"),
    (array_writer, "variable_grid"),
)  # fmt: skip
OWN = Way(262_144, "lz4, bytes shuffled", "none")
WAYS = [
    OWN,
    *(OWN._replace(units=units) for units in (16_384, 65_536, 1_048_576)),
    *(OWN._replace(values=values) for values in (1, 2**17, 2**21)),
    OWN._replace(contrasts="lz4, bytes shuffled"),
    OWN._replace(moments="none"),
    OWN._replace(dtype="float32"),
]


class Measured(NamedTuple):
    """Seconds to write moments and contrasts, bytes, files, seconds of queries."""

    moments: float
    contrasts: float
    size: int
    files: int
    count: float
    plain: float


def options(parser: ArgumentParser) -> None:
    parser.add_argument("store", nargs="?", default="r50.zarr")


def main(arguments: Namespace) -> None:
    source = open_store(arguments.store)
    rows: dict[str, list[Measured]] = {}
    for repeat in range(REPEATS):
        for way in WAYS:
            rows.setdefault(_named(way), []).append(_measure(source, way))
            print(repeat, _named(way), rows[_named(way)][-1], flush=True)
        rows.setdefault("zarr's defaults", []).append(_defaults(source))
        print(repeat, "zarr's defaults", rows["zarr's defaults"][-1], flush=True)
    save(__name__, [*_head(source), *_table(rows), *_precision(source)])


def _named(way: Way) -> str:
    if way == OWN:
        return f"as it is: {way.units:,} units, moments lz4, contrasts uncompressed"
    (name,) = (name for name in Way._fields if getattr(way, name) != getattr(OWN, name))
    value = getattr(way, name)
    return {
        "units": f"chunks of {value:,} units" if name == "units" else "",
        "moments": f"moments: {value}",
        "contrasts": f"contrasts: {value}",
        "dtype": f"moments in {value}",
        "values": f"files of moments of {value:,} values, or a group",
    }[name]


def _values(way: Way) -> tuple[Any, ...]:
    """Values that take the places of ``REPLACED``."""

    def moments_grid(*arguments: Any) -> chunking.Grid:
        grid = chunking.moments_grid(*arguments)
        return replace(grid, compressed=CODECS[way.moments])

    def variable_grid(layer: Any, leading: Any, slab: Any, size: int, compressed: bool) -> Any:
        own = compressed or CODECS[way.contrasts]
        return chunking.variable_grid(layer, leading, slab, size, own)

    return way.units, way.values, moments_grid, variable_grid


def _measure(source: Store, way: Way) -> Measured:
    """Write what the source holds in another layout, and query it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "way.zarr"
        with ExitStack() as replaced:
            for (module, name), value in zip(REPLACED, _values(way), strict=True):
                replaced.enter_context(mock.patch.object(module, name, value))
            moments, contrasts = _write(source, path, way.dtype)
        files = files_of(path)
        store = open_store(path)
        count = statistics.median(_seconds(store) for _ in range(5))
        return Measured(moments, contrasts, sum(files), len(files), count, _plain_seconds(path))


def _write(source: Store, path: Path, dtype: str) -> tuple[float, float]:
    names = ("model", "weights", "preprocessing", "batch_size", "device_type")
    draft = create_store(
        path,
        layers=source.layers,
        categories=source.categories,
        counts=source.counts,
        stimuli={name: list(source.stimulus_column(name)) for name in STIMULUS_COLUMNS},
        provenance={**{n: source.provenance[n] for n in names}, "store_dtype": dtype},
    )
    taken = [0.0, 0.0]
    for layer in source.layers:
        every = (slice(0, size) for size in source.counts.shape)
        for (k, fold), moments in source.moments_between(layer, *every):
            taken[0] += clocked(draft.write_moments, layer, k, fold, moments)
        columns = {
            name: source.read(layer, name) for name in VARIABLES if name not in ("mean", "m2")
        }
        taken[1] += clocked(draft.write_contrasts, layer, columns)
    draft.annotate(criterion=source.provenance["criterion"])
    draft.complete()
    return taken[0], taken[1]


def _defaults(source: Store) -> Measured:
    """The same arrays, as zarr lays them out if nothing is said: no shards, its own chunks."""
    folder = Path(tempfile.mkdtemp())
    try:
        root = zarr.create_group(folder / "way.zarr", zarr_format=3)
        taken = {"moments": 0.0, "contrasts": 0.0}
        for layer in source.layers:
            for name in VARIABLES:
                values = source.read(layer, name)
                values = values.reshape(*values.shape[:-1], *layer.shape)
                array = root.create_array(
                    f"{layer.name}/{name}", shape=values.shape, dtype=values.dtype
                )
                kind = "moments" if name in ("mean", "m2") else "contrasts"
                taken[kind] += clocked(array.__setitem__, Ellipsis, values)
        files = files_of(folder)
        plain = _plain_seconds(folder / "way.zarr", [layer.name for layer in source.layers])
        return Measured(*taken.values(), sum(files), len(files), float("nan"), plain)
    finally:
        shutil.rmtree(folder)


def _seconds(store: Store) -> float:
    return clocked(lambda: store.query(QUERY).counts())


def _plain_seconds(path: Path, names: list[str] | None = None) -> float:
    """The same counts by zarr and numpy alone, layer by layer."""
    root = zarr.open_group(path, mode="r")
    names = names or [record["name"] for record in root.attrs["layers"]]  # type: ignore[index,union-attr]

    def count() -> None:
        for name in names:
            t, csi = (np.asarray(root[f"{name}/{variable}"][:]) for variable in ("t", "csi"))
            ((t > 5) & (csi > 0.33)).reshape(len(t), -1).sum(axis=1)

    return statistics.median(clocked(count) for _ in range(3))


def _head(source: Store) -> list[str]:
    units = sum(layer.units for layer in source.layers)
    return [
        *heading(__name__, "Layout of a store", "r50.zarr"),
        f"Medians of {REPEATS}; all ways take turns.",
        "",
        f"{len(source.layers)} layers, {units / 1e6:.1f} million units, "
        f"{len(source.categories)} categories, {source.folds} folds: moments in float64 "
        f"({units * len(source.categories) * source.folds * 16 / 1e6:,.0f} MB), four contrasts in",
        "float32, masks. Writing is by one thread, what a scan does beside the network. A query is",
        f"`{QUERY}`, counted per layer and category, of files that the system has in memory: by",
        "fusiform, and by zarr and numpy alone.",
    ]


def _table(rows: dict[str, list[Measured]]) -> Iterator[str]:
    yield (
        "\n| layout | moments written, s | contrasts written, s | MB | files | query, s | "
        "by zarr alone, s |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, runs in rows.items():
        m = Measured(*(statistics.median(values) for values in zip(*runs, strict=True)))
        count = "-" if np.isnan(m.count) else f"{m.count:.2f}"
        yield (
            f"| {name} | {m.moments:.1f} | {m.contrasts:.1f} | {m.size / 1e6:,.0f} | "
            f"{m.files:,.0f} | {count} | {m.plain:.2f} |"
        )


def _precision(source: Store) -> Iterator[str]:
    """Errors of t and of the masks of a rule, from moments rounded to float32."""
    from functools import reduce

    from fusiform.engine.contrasts.language.contrast import every_category
    from fusiform.engine.contrasts.language.criterion import Criterion
    from fusiform.engine.contrasts.measures import Measured as Measure
    from fusiform.engine.contrasts.sample import Sample
    from fusiform.kernels.moments import merge

    largest, differ, units = 0.0, 0, 0
    for layer in source.layers:
        for slab, _ in source.slabs(layer):
            folds = source.moments(layer, slab)
            rounded = [
                Moments(n, mean.astype("f4").astype("f8"), m2.astype("f4").astype("f8"))
                for n, mean, m2 in folds
            ]
            samples = [Sample(reduce(merge, part)) for part in (folds, rounded)]
            for contrast in every_category(source.categories):
                with np.errstate(all="ignore"):
                    t, t32 = (Measure(s, contrast, Criterion("rest")).t for s in samples)
                finite = np.isfinite(t) & np.isfinite(t32)
                size = np.maximum(np.abs(t[finite]), 1)
                largest = max(largest, float((np.abs(t32 - t)[finite] / size).max(initial=0)))
                differ += int(((t > 5) != (t32 > 5)).sum())
                units += len(t)
    yield from (
        "",
        "## Moments in float32",
        "",
        f"t of {units:,} units and categories differs by at most {largest:.1g} of itself (of 1",
        f"where it is smaller) from that of float64 moments; `t > 5` says otherwise of {differ:,}.",
    )
