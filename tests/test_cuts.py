"""Slabs: chunking of layers by the number of categories, written and read back."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import fusiform
from fusiform import Criterion, open_store, save_contrast
from fusiform.engine import waiting
from fusiform.engine.contrasts.select import materialise, select
from fusiform.engine.layer import Layer
from fusiform.engine.store import chunking
from fusiform.engine.store.chunking import (
    chunk_shape,
    is_contiguous,
    moments_grid,
    slabs,
    variable_grid,
)
from fusiform.engine.store.writing.creating import create_store
from fusiform.engine.store.writing.store_draft import StoreDraft
from fusiform.kernels.moments import Moments

from .made import LAYERS, fill


def layer_of(*shape: int) -> Layer:
    return Layer("odd", "Odd", tuple(f"axis_{i}" for i in range(len(shape))), shape, "float32")


def test_with_few_categories_slabs_are_chunks_of_the_first_dimension() -> None:
    stem = layer_of(64, 112, 112)
    for groups in (1, 5, 12):
        assert chunk_shape(stem, groups) == (16, 112, 112)
    assert chunk_shape(layer_of(100, 7), 12) == (100, 7)
    grid = variable_grid(stem, (5,), (16, 112, 112), 4, compressed=False)
    assert (grid.chunk, grid.file) == ((1, 16, 112, 112), (5, 64, 112, 112))
    grid = moments_grid(stem, (5, 2), (16, 112, 112), 1, 8)
    assert (grid.chunk, grid.file) == ((1, 1, 16, 112, 112), (1, 1, 64, 112, 112))


def test_small_layers_and_many_categories_share_chunks_and_files() -> None:
    head, leading = layer_of(1000), (5000, 2)
    slab = chunk_shape(head, math.prod(leading))
    grid = variable_grid(head, leading[:1], slab, 4, compressed=False)
    chunks = math.prod(-(-s // c) for s, c in zip(grid.shape, grid.chunk, strict=True))
    assert chunks <= 2 * math.prod(grid.shape) / 2**18
    assert 5000 <= grid.file[0] <= 5000 * 65 / 64
    held = waiting.groups_held([head], math.prod(leading))["odd"]
    assert held == 2**19 // 1000
    moments = moments_grid(head, leading, slab, held, 8)
    files = math.prod(-(-s // f) for s, f in zip(moments.shape, moments.file, strict=True))
    assert files <= 2 * math.prod(moments.shape) / 2**19


def test_with_many_categories_slabs_are_small() -> None:
    for shape in ((64, 112, 112), (1, 900_000), (1, 56, 56, 128), (197, 768), (2048,)):
        layer = layer_of(*shape)
        for groups in (2_000, 20_000):
            chunk = chunk_shape(layer, groups)
            assert math.prod(chunk) * groups <= chunking._CHUNK_VALUES


@settings(max_examples=200, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    most=st.integers(1, 60),
    leading=st.tuples(st.integers(1, 9), st.integers(1, 3)),
    values=st.integers(1, 300),
    held=st.integers(1, 30),
)
def test_slabs_and_files_cover_a_layer_in_order(
    shape: list[int], most: int, leading: tuple[int, int], values: int, held: int
) -> None:
    layer = layer_of(*shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "_CHUNK_UNITS", most)
        patch.setattr(chunking, "_FILE_VALUES", values)
        chunk = chunk_shape(layer, 1)
        variable = variable_grid(layer, leading[:1], chunk, 4, compressed=False)
        moments = moments_grid(layer, leading, chunk, min(held, math.prod(leading)), 8)
    file = variable.file[1:]
    assert math.prod(chunk) <= most
    assert variable.file[0] == leading[0]  # what is not compressed is hardly filled up
    for grid in (variable, moments):
        n = len(grid.shape) - len(shape)
        assert all(f % c == 0 for f, c in zip(grid.file, grid.chunk, strict=True))
        for part in (grid.chunk, grid.file):
            assert is_contiguous(grid.shape[:n], part[:n])
            assert is_contiguous(shape, part[n:])
        assert grid.chunk[n:] == chunk
        assert math.prod(grid.chunk) <= max(most, math.prod(chunk))
    assert math.prod(file) * leading[0] <= max(values, math.prod(chunk) * leading[0])
    assert variable.file[0] >= leading[0]
    assert all(f >= s for f, s in zip(moments.file[2:], shape, strict=True))
    assert math.prod(moments.file[:2]) <= min(held, math.prod(leading))
    flat = np.arange(layer.units).reshape(shape)
    seen, files = [], []
    for slab, units in slabs(tuple(shape), chunk):
        assert flat[slab].ravel().tolist() == list(range(units.start, units.stop))
        seen += flat[slab].ravel().tolist()
        files.append(tuple(part.start // f for part, f in zip(slab, file, strict=True)))
    assert seen == list(range(layer.units))
    assert files == sorted(files)  # a file is filled before the next one starts


def test_planned_files_equal_those_zarr_writes(tmp_path: Path) -> None:
    fill(tmp_path / "own.zarr")
    root = zarr.open_group(tmp_path / "own.zarr", mode="r+")
    for name in ("layer1.0/mean", "head/m2", "encoder.ln/mean"):
        files = sorted((tmp_path / "own.zarr" / name).glob("c.*"))
        before = [file.read_bytes() for file in files]
        root[name][...] = root[name][...]
        assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("values", [1, 40, 100])
def test_fine_chunks_hold_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    whole = fill(tmp_path / "whole.zarr")
    monkeypatch.setattr(chunking, "_CHUNK_VALUES", 8 * 4)  # four units
    monkeypatch.setattr(chunking, "_FILE_VALUES", values)
    fill(tmp_path / "cut.zarr")
    cut, whole = open_store(tmp_path / "cut.zarr"), open_store(whole.path)
    assert len(list((cut.path / "layer1.0" / "t").glob("c.*"))) > 1
    for store in (cut, whole):
        save_contrast(store, "mine", Criterion("rest", "q <= 0.2 and csi > 0"), None, ["t", "q"])
        save_contrast(store, "one", Criterion("each", "top 3 or d_prime > 2"), "faces", ["csi"])
    for layer in LAYERS:
        assert math.prod(cut.chunk_shape(layer)) <= 4
        names = ("mean", "t", "q_each", "selective_fold", "dead", "mine/q", "mine/selective",
                 "one/csi", "one/selective_fold")  # fmt: skip
        for name in names:
            np.testing.assert_array_equal(cut.read(layer, name), whole.read(layer, name))
    assert fusiform.check(cut.path).problems == ()
    for text in ("faces: t > 1 and y == 2", "t_each > 0", "selective and csi > 0.2"):
        found, expected = (store.query(text) for store in (cut, whole))
        assert found.counts()["matching"].tolist() == expected.counts()["matching"].tolist()
        assert sorted(found.units()["t"]) == sorted(expected.units()["t"])
        for layer in LAYERS:
            np.testing.assert_array_equal(
                found.masks()[layer.name]["matches"].values,
                expected.masks()[layer.name]["matches"].values,
            )
    rows = zip(fusiform.summary(cut), fusiform.summary(whole), strict=True)
    assert all(a.selective == b.selective and a.replicated == b.replicated for a, b in rows)
    tree = cut.select("faces", Criterion("rest"))
    assert tree["layer1.0"]["selective"].shape == (1, 5, 3, 2)


def noise(path: Path, categories: int, layer: Layer) -> StoreDraft:
    rng = np.random.default_rng(0)
    draft = create_store(
        path,
        layers=[layer],
        categories=[f"c{k}" for k in range(categories)],
        counts=np.full((categories, 2), 5),
        stimuli={
            "stimulus_path": [str(i) for i in range(10 * categories)],
            "stimulus_category": np.arange(10 * categories) // 10,
            "stimulus_fold": np.arange(10 * categories) % 2,
            "stimulus_sha256": [f"{i:064x}" for i in range(10 * categories)],
            "stimulus_status": ["shown"] * (10 * categories),
        },
        provenance={"model": "noise", "weights": "none", "store_dtype": "float32"},
    )
    for k, fold in np.ndindex(categories, 2):
        mean = rng.normal(size=layer.shape)
        draft.write_moments(layer, k, fold, Moments(5, mean, rng.chisquare(4, layer.shape)))
    return draft


def test_contrast_memory_grows_neither_with_categories_nor_with_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunking, "_CHUNK_VALUES", 30_000)
    monkeypatch.setattr(chunking, "_FILE_VALUES", 30_000)
    rest, measures = Criterion("rest", "t > 3"), ["t", "csi", "d_prime"]

    def run(categories: int, units: int, call: Callable[[Callable[[], object]], object]) -> None:
        draft = noise(tmp_path / f"{categories}-{units}.zarr", categories, layer_of(2, units))
        call(lambda: materialise(draft))
        draft.complete()
        store = open_store(draft.path)
        call(lambda: fusiform.summary(store))
        call(lambda: fusiform.summary(store, rest))
        call(lambda: store.query("t > 3 and csi > 0.1").counts())
        call(lambda: fusiform.check(store.path))
        call(lambda: save_contrast(store, "own", rest, None, measures))

    def bounded(work: Callable[[], object]) -> None:
        tracemalloc.start()
        work()
        # All of t, t_each, q_each and csi would be 3.8 MB, the moments 7.7 MB in double precision.
        assert tracemalloc.get_traced_memory()[1] < 120 * 30_000
        tracemalloc.stop()

    run(6, 100, lambda work: work())  # compiling and importing allocate no arrays
    for categories in (6, 24):
        run(categories, 120_000 // categories, bounded)


def test_contrasts_of_many_categories_equal_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = noise(tmp_path / "own.zarr", 60, layer_of(700))
    materialise(draft)
    draft.complete()
    store = open_store(draft.path)
    layer = store.layers[0]
    save_contrast(store, "one", Criterion("rest"), "c7", ["t", "csi", "d_prime"])
    save_contrast(store, "all", Criterion("rest"), None, ["t", "csi", "d_prime"])
    np.testing.assert_array_equal(store.read(layer, "one/csi"), store.read(layer, "csi")[7])
    np.testing.assert_array_equal(store.read(layer, "one/t"), store.read(layer, "t")[7])
    np.testing.assert_array_equal(
        store.read(layer, "one/d_prime"), store.read(layer, "all/d_prime")[7]
    )
    ((_, found),) = select(store, Criterion())
    np.testing.assert_array_equal(found.selective, store.read(layer, "selective"))
