"""Stores: round trips, reading by zarr and xarray, and protection against overwriting."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import warnings
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from fusiform.engine import waiting
from fusiform.engine.contrasts.summary import summary
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer, columns
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.registry import VARIABLES
from fusiform.engine.store import chunking
from fusiform.engine.store.store_reader import StoreReader
from fusiform.engine.store.writing.array_writer import background_writer
from fusiform.engine.store.writing.creating import StoreBlueprint, create_store
from fusiform.engine.store.writing.publishing import drafting, refuse_existing
from fusiform.kernels.moments import merge

from . import reference
from .made import CATEGORIES, COUNTS, LAYERS, annotate, contents, fill, samples, write

ROOT = Path(__file__).parents[1]


def test_written_moments_are_read_back(store: Store) -> None:
    for layer in LAYERS:
        drawn = samples(layer)
        slabs = [store.moments(layer, slab) for slab, _ in store.slabs(layer)]
        for folds in ([0, 1], [0], [1]):
            parts = [reduce(merge, [slab[fold] for fold in folds]) for slab in slabs]
            mean = np.concatenate([part.mean for part in parts], axis=1)
            m2 = np.concatenate([part.m2 for part in parts], axis=1)
            for k, groups in enumerate(drawn):
                x = np.concatenate([groups[fold] for fold in folds])
                assert parts[0].count[k, 0] == len(x)
                np.testing.assert_allclose(mean[k], x.mean(0), rtol=1e-12, atol=1e-14)
                np.testing.assert_allclose(
                    m2[k], reference.m2_longdouble(x).astype(float), rtol=1e-12
                )


def test_slabs_cover_a_layer_in_order(store: Store) -> None:
    for layer in LAYERS:
        units = [u for _, flat in store.slabs(layer) for u in range(flat.start, flat.stop)]
        assert units == list(range(layer.units))


def test_chunks_are_even_parts_of_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_CHUNK_UNITS", 24)  # four of five channels
    store = fill(tmp_path / "even.zarr")
    array = zarr.open_array(store.path / "layer1.0" / "mean", mode="r")
    assert array.chunks == (1, 1, 3, 3, 2)  # not four and one
    assert array.shards == (4, 2, 6, 3, 2)


def test_files_hold_the_groups_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_MOMENT_VALUES", 2**7)
    store = fill(tmp_path / "s.zarr")
    found = {
        layer.name: zarr.open_array(store.path / layer.name / "mean", mode="r") for layer in LAYERS
    }
    # Of 30, 24 and 11 units.
    assert [found[layer.name].shards[:2] for layer in LAYERS] == [(2, 2), (2, 2), (4, 2)]
    assert [found[layer.name].chunks[:2] for layer in LAYERS] == [(2, 2), (2, 2), (4, 2)]
    # Together they hold at most so much while they wait.
    monkeypatch.setattr(waiting, "_HELD_BYTES", 16 * 8 * 11)
    store = fill(tmp_path / "less.zarr")
    files = [len(list((store.path / layer.name / "m2").glob("c.*"))) for layer in LAYERS]
    array = zarr.open_array(store.path / "layer1.0" / "mean", mode="r")
    assert array.shards == (1, 1, 5, 3, 2)
    assert files[0] > files[2]


def test_background_writes_keep_their_order_and_raise() -> None:
    main, done = threading.get_ident(), []

    def write(name: str) -> None:
        assert threading.get_ident() != main
        time.sleep(0.01)
        if name == "full":
            raise OSError(28, "No space left on device")
        done.append(name)

    def write_all(*names: str) -> None:
        with background_writer() as later:
            for index, name in enumerate(names):
                later(write, name)
                assert len(done) >= index  # never more than one pending write

    write_all(*"abc")
    assert done == ["a", "b", "c"]
    for after in ("", "d"):  # raised at the end or by the next write
        with pytest.raises(OSError, match="No space"):
            write_all("full", *after)
    assert done == ["a", "b", "c"]


def test_pending_background_writes_are_bounded() -> None:
    allowed, done = threading.Semaphore(0), []

    def write(number: int) -> None:
        allowed.acquire()
        done.append(number)

    with background_writer(pending=3) as later:
        for number in range(3):
            later(write, number)
        assert not done
        fourth = threading.Thread(target=later, args=(write, 3))
        fourth.start()
        fourth.join(0.05)
        assert fourth.is_alive()
        allowed.release()
        fourth.join(10)
        assert done == [0]
        allowed.release(3)
        later.wait()
        assert done == [0, 1, 2, 3]


def test_after_a_failed_background_write_nothing_that_waits_is_written() -> None:
    allowed, done = threading.Semaphore(0), []

    def write(name: str) -> None:
        allowed.acquire()
        if name == "full":
            raise OSError(28, "No space left on device")
        done.append(name)

    def write_all() -> None:
        with background_writer(pending=3) as later:
            for name in ("a", "full", "commit"):
                later(write, name)
            allowed.release(9)

    with pytest.raises(OSError, match="No space"):
        write_all()
    assert done == ["a"]


@pytest.mark.parametrize("units", [[1], [3], [2, 1, 4]])
def test_moments_that_wait_for_their_file_are_kept_by_a_commit(
    tmp_path: Path, units: list[int]
) -> None:
    layers = [Layer(f"odd{n}", "Odd", ("unit",), (n,), "float32") for n in units]
    drafts = [
        create_store(tmp_path / f"{name}.zarr", **{**contents(), "layers": layers})
        for name in ("whole", "first", "rest")
    ]
    whole, first, rest = drafts
    mean, m2 = np.random.default_rng(0).random((2, 8, 2 * sum(units)))[..., ::2]  # strided
    whole.write_groups(layers, 0, mean, m2)
    for start, stop in ((0, 1), (1, 5)):
        first.write_groups(layers, start, mean[start:stop], m2[start:stop])
    waiting = first.moments.waiting()
    rest.moments.resume(waiting)
    again = rest.moments.waiting()  # a commit before the next groups come
    assert again.keys() == waiting.keys()
    assert all(again[key].tobytes() == waiting[key].tobytes() for key in waiting)
    assert not any(np.shares_memory(again[key], waiting[key]) for key in waiting)
    assert not list((tmp_path / "first.zarr").glob("*/mean/c.*"))
    rest.write_groups(layers, 5, mean[5:], m2[5:])
    assert not rest.moments.waiting()
    for layer, own in columns(layers):
        for variable, expected in (("mean", mean), ("m2", m2)):
            for draft in (whole, rest):
                found = draft.reader.read(layer, variable).reshape(8, -1)
                np.testing.assert_array_equal(found, expected[:, own])


@pytest.mark.smoke
def test_zarr_and_xarray_read_a_store(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(store.path, engine="zarr", chunks={})
    assert set(tree.children) == {layer.name for layer in LAYERS}
    for layer in LAYERS:
        dataset = tree[layer.name].to_dataset()
        assert set(dataset.data_vars) == {*VARIABLES, "extremes"}
        assert dataset["t"].dims == ("category", *layer.dims)
        assert dataset["mean"].dims == ("category", "fold", *layer.dims)
        assert dataset["category"].values.tolist() == list(CATEGORIES)
        assert dataset["t"].attrs["long_name"] == VARIABLES["t"].long_name
        for name, variable in VARIABLES.items():
            assert dataset[name].dtype == variable.dtype
            assert dataset[name].chunks is not None  # lazy: dask arrays
    assert tree["stimulus_path"].values[0] == "é/0.png"
    assert tree["count"].values.tolist() == COUNTS.tolist()


@pytest.mark.smoke
def test_a_store_is_read_without_fusiform(store: Store) -> None:
    """In an interpreter that cannot import fusiform."""
    code = f"""
import sys
sys.modules["fusiform"] = None
import xarray
tree = xarray.open_datatree({str(store.path)!r}, engine="zarr")
layer = tree["layer1.0"].to_dataset()
faces = layer["t"].sel(category="faces").isel(channel=3)
print(faces.dims, faces.sizes, float(faces.max()))
print(layer["csi"].attrs["formula"], layer["mean"].dims)
print(float(layer["mean"].sel(category="scenes", fold=1).mean()), float(layer["m2"].sum()))
print(tree["count"].sel(category="bodies").values, tree["stimulus_path"].values[2])
print(tree.attrs["fingerprint"])
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    layer = LAYERS[0]
    t = store.read(layer, "t")[0].reshape(layer.shape)[3]
    assert lines[0] == f"('y', 'x') Frozen({{'y': 3, 'x': 2}}) {float(t.max())}"
    assert lines[1] == (f"{VARIABLES['csi'].formula} ('category', 'fold', 'channel', 'y', 'x')")
    mean, m2 = (float(value) for value in lines[2].split())
    assert mean == pytest.approx(store.read(layer, "mean")[3, 1].mean())
    assert m2 == pytest.approx(store.read(layer, "m2").sum())
    assert lines[3] == "[9 9] é/2.png"
    assert lines[4] == store.provenance["fingerprint"]


def test_every_array_is_described(store: Store) -> None:
    root = zarr.open_group(store.path, mode="r")
    described = (ROOT / "docs" / "reference" / "store.md").read_text()
    for name, array in root.members(max_depth=None):
        if isinstance(array, zarr.Array):
            assert array.attrs["long_name"], name
            assert array.metadata.dimension_names, name
            assert f"`{name.rpartition('/')[2]}`" in described, name
    for attribute in root.attrs:
        assert f"`{attribute}`" in described, attribute


def test_store_arrays_are_lazy_and_named(store: Store) -> None:
    faces = store.dataset("layer1.0")["t"].sel(category="faces")
    assert faces.shape == (5, 3, 2)
    np.testing.assert_array_equal(faces.values.ravel(), store.read(LAYERS[0], "t")[0])
    assert "made-up" in repr(store)
    with pytest.raises(UserError, match=r"did you mean layer1\.0"):
        store.dataset("layer1.1")


def test_nothing_in_a_store_is_a_pickle(store: Store) -> None:
    for path in store.path.rglob("zarr.json"):
        assert "pickle" not in path.read_text()


def test_chunks_carry_checksums(store: Store) -> None:
    root = zarr.open_group(store.path, mode="r")
    for name, array in root.members(max_depth=None):
        if isinstance(array, zarr.Array) and array.dtype.kind in "fib":
            assert "crc32c" in json.dumps(array.metadata.to_dict()["codecs"], default=str), name


def test_a_flipped_byte_is_found(own_store: Store) -> None:
    chunk = max((own_store.path / "head" / "mean").glob("c.*"))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        open_store(own_store.path).read(LAYERS[2], "mean")


def test_a_layer_of_any_number_of_dimensions_is_stored(tmp_path: Path) -> None:
    layer = Layer(
        "windows", "Window", ("axis_0", "axis_1", "axis_2", "axis_3"), (2, 3, 2, 4), "float32"
    )
    draft = fill(tmp_path / "odd.zarr", [layer])
    assert draft.reader.dataset("windows")["mean"].dims == ("category", "fold", *layer.dims)


def test_an_existing_output_raises(own_store: Store) -> None:
    with pytest.raises(UserError, match="`overwrite=True`"):
        refuse_existing(own_store.path, overwrite=False)
    refuse_existing(own_store.path, overwrite=True)


def test_overwrite_replaces_nothing_but_stores(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("x")
    with pytest.raises(UserError, match="stores only"):
        refuse_existing(precious, overwrite=True)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="stores only"):
        refuse_existing(tmp_path / "other.zarr", overwrite=True)
    assert (precious / "chapter1.tex").read_text() == "x"


def test_the_outputs_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="create it"):
        refuse_existing(tmp_path / "no" / "made.zarr", overwrite=False)


def test_anything_but_a_store_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store at"):
        open_store(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="not a zarr v3 store"):
        open_store(tmp_path / "folder")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="not of fusiform"):
        open_store(tmp_path / "other.zarr")


def test_a_store_of_an_unknown_schema_raises(own_store: Store) -> None:
    annotate(own_store.path, schema_version=99)
    with pytest.raises(UserError, match=r"schema 4; .* has 99"):
        open_store(own_store.path)


def test_an_unfinished_store_raises_when_opened(own_store: Store) -> None:
    annotate(own_store.path, status="scanning")
    with pytest.raises(UserError, match="has not finished"):
        summary(open_store(own_store.path))


def test_a_finished_draft_replaces_a_store_and_leaves_nothing_beside_it(
    own_store: Store, tmp_path: Path
) -> None:
    with (
        pytest.raises(UserError, match="`overwrite=True`"),
        drafting(own_store.path, False, StoreBlueprint(**contents())),
    ):
        pass
    before = sorted(own_store.path.rglob("*"))
    full = OSError(28, "No space left on device")
    for error, seen in ((full, UserError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with (
            pytest.raises(seen),
            drafting(own_store.path, True, StoreBlueprint(**contents())) as draft,
        ):
            raise error
        assert draft.path != own_store.path
    assert sorted(own_store.path.rglob("*")) == before
    others = {**contents(), "provenance": {"model": "another", "weights": "none"}}
    with drafting(own_store.path, True, StoreBlueprint(**others)) as draft:
        write(draft)
        assert open_store(own_store.path).provenance["model"] == "made-up"
    assert open_store(own_store.path).provenance["model"] == "another"
    assert [path.name for path in tmp_path.iterdir()] == ["own.zarr"]


@pytest.mark.parametrize("units", [10, 50, 10_000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_moments_are_decoded_as_zarr_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, units: int
) -> None:
    monkeypatch.setattr(chunking, "_CHUNK_UNITS", units)
    monkeypatch.setattr(waiting, "_MOMENT_VALUES", 70)
    described = contents()
    described["provenance"]["store_dtype"] = dtype
    draft = create_store(tmp_path / "s.zarr", **described)
    write(draft)
    draft.complete()
    store = StoreReader.open(tmp_path / "s.zarr")
    for layer in store.layers:
        for slab, own in store.slabs(layer):
            moments = store.stacked_moments(layer, slab)
            for name in ("mean", "m2"):
                plain = zarr.open_array(tmp_path / "s.zarr" / layer.name / name, mode="r")[...]
                flat = plain.reshape(*plain.shape[:2], -1).swapaxes(0, 1)[..., own]
                np.testing.assert_array_equal(getattr(moments, name), flat.astype(np.float64))


def test_a_damaged_chunk_of_moments_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr")
    store = StoreReader.open(tmp_path / "s.zarr")
    layer = store.layers[0]
    file = tmp_path / "s.zarr" / layer.name / "mean" / "c.0.0.0.0.0"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    (slab, _), *_ = store.slabs(layer)
    with pytest.raises(UserError, match=r"layer1.0/mean .*its checksum differs"):
        store.stacked_moments(layer, slab)
