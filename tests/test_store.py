"""The store: what is written is read again, by anyone; nothing is overwritten by accident."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from fusiform.engine import store as store_module
from fusiform.engine.asking import select
from fusiform.engine.asking.select import DEFAULT
from fusiform.engine.asking.summary import replication, summarise
from fusiform.engine.errors import UserError
from fusiform.engine.spec import VARIABLES, Criterion, Layer, as_record
from fusiform.engine.store import Store, create_store, open_store, refuse_existing, write_behind
from fusiform.kernels.moments import Moments, merge

from . import reference

LAYERS = (
    Layer("layer1.0", "BasicBlock", ("channel", "y", "x"), (5, 3, 2), "float32"),
    Layer("encoder.ln", "LayerNorm", ("token", "channel"), (4, 6), "float32"),
    Layer("head", "Linear", ("unit",), (11,), "float32"),
)
CATEGORIES = ("faces", "bodies", "<b>words</b>")
COUNTS = np.array([[12, 11], [9, 9], [10, 12]])


def samples(layer: Layer) -> list[list[np.ndarray]]:
    """Responses ``[category][fold] [stimulus, unit]``: a quarter prefer each, a quarter none."""
    rng = np.random.default_rng(len(layer.name))
    drawn = []
    for k in range(len(CATEGORIES)):
        preferred = 2.0 * (np.arange(layer.units) % (len(CATEGORIES) + 1) == k)
        drawn.append([rng.normal(preferred, 1, (n, layer.units)) for n in COUNTS[k]])
    for groups in drawn:
        for group in groups:
            group[:, 0] = 0.5  # a dead unit
    return drawn


def fill(path: Path) -> Store:
    count = int(COUNTS.sum())
    store = create_store(
        path,
        layers=LAYERS,
        categories=CATEGORIES,
        counts=COUNTS,
        stimuli={
            "stimulus_path": [f"é/{i}.png" for i in range(count)],
            "stimulus_category": np.arange(count) % 3,
            "stimulus_fold": np.arange(count) % 2,
            "stimulus_sha256": ["0" * 64] * count,
        },
        provenance={"model": "made-up", "weights": "none", "criterion": as_record(DEFAULT)},
    )
    for layer in LAYERS:
        for category, folds in enumerate(samples(layer)):
            for fold, x in enumerate(folds):
                mean, m2 = x.mean(0).reshape(layer.shape), ((x - x.mean(0)) ** 2).sum(0)
                store.write_moments(
                    layer, category, fold, Moments(len(x), mean, m2.reshape(layer.shape))
                )
    select.materialise(store)
    store.complete()
    return store


@pytest.fixture(scope="module", params=[262_144, 12], ids=["whole layers", "small chunks"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store") / "made.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "_CHUNK_UNITS", request.param)
        fill(path)
        yield open_store(path)


@pytest.fixture
def own_store(tmp_path: Path) -> Store:
    """One that a test may damage."""
    return fill(tmp_path / "own.zarr")


def test_moments_come_back(store: Store) -> None:
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
    monkeypatch.setattr(store_module, "_CHUNK_UNITS", 24)  # four channels, of five
    store = fill(tmp_path / "even.zarr")
    array = store.array(LAYERS[0], "mean")
    assert array.chunks == (1, 1, 3, 3, 2)  # not four and one
    assert array.shards == (1, 1, 6, 3, 2)


def test_what_is_written_behind_comes_in_order_and_raises() -> None:
    main, done = threading.get_ident(), []

    def write(name: str) -> None:
        assert threading.get_ident() != main
        time.sleep(0.01)
        if name == "full":
            raise OSError(28, "No space left on device")
        done.append(name)

    def write_all(*names: str) -> None:
        with write_behind() as later:
            for index, name in enumerate(names):
                later(write, name)
                assert len(done) >= index  # never more than one behind

    write_all(*"abc")
    assert done == ["a", "b", "c"]
    for after in ("", "d"):  # raised at the end, or by what is handed over next
        with pytest.raises(OSError, match="No space"):
            write_all("full", *after)
    assert done == ["a", "b", "c"]


def test_masks_equal_plain_loops(store: Store) -> None:
    for layer in LAYERS:
        drawn = samples(layer)
        parts = [
            [np.concatenate(groups) for groups in drawn],
            *([g[f] for g in drawn] for f in (0, 1)),
        ]
        masks = []
        for groups in parts:
            p = np.ones((3, layer.units))
            for unit in range(layer.units):
                columns = [g[:, unit] for g in groups]
                for k, t in enumerate(reference.against_each(columns)):
                    if t > 0:
                        p[k, unit] = max(
                            one_sided(columns[k], other)
                            for j, other in enumerate(columns)
                            if j != k
                        )
            masks.append([np.array(reference.benjamini_hochberg(list(row))) <= 0.05 for row in p])
        chosen = select.select(store, layer)
        np.testing.assert_array_equal(chosen.selective, masks[0])
        np.testing.assert_array_equal(chosen.selective_fold.transpose(1, 0, 2), masks[1:])
        assert chosen.dead.tolist() == [True] + [False] * (layer.units - 1)
        assert chosen.selective.any(axis=1).all()
        assert (store.read(layer, "csi")[:, 0] == 0).all()


def one_sided(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import t as student

    t, df = reference.welch(a, b)
    return float(student.sf(t, df))


def test_what_is_materialised_equals_what_is_recomputed(store: Store) -> None:
    for layer in LAYERS:
        read = select.select(store, layer, DEFAULT)
        again = Criterion("each", q=np.nextafter(0.05, 1))  # not the default: from the moments
        computed = select.select(store, layer, again)
        for name in ("selective", "selective_fold", "dead", "nonfinite"):
            np.testing.assert_array_equal(getattr(read, name), getattr(computed, name))


@pytest.mark.parametrize("contrast", ["each", "rest"])
def test_a_threshold_on_t(store: Store, contrast: str) -> None:
    layer = LAYERS[0]
    chosen = select.select(store, layer, Criterion(contrast, t=2.5))
    groups = [np.concatenate(folds) for folds in samples(layer)]
    for unit in range(1, layer.units):
        columns = [group[:, unit] for group in groups]
        each, rest = (
            reference.against_each(columns),
            [t for t, _ in reference.against_rest(columns)],
        )
        expected = [t > 2.5 for t in (each if contrast == "each" else rest)]
        assert chosen.selective[:, unit].tolist() == expected


def test_rest_with_q(store: Store) -> None:
    from scipy import stats

    layer = LAYERS[0]
    groups = [np.concatenate(folds) for folds in samples(layer)]
    chosen = select.select(store, layer, Criterion("rest", q=0.01))
    for k, group in enumerate(groups):
        others = np.concatenate([g for j, g in enumerate(groups) if j != k])
        p = np.ones(layer.units)
        p[1:] = stats.ttest_ind(
            group[:, 1:], others[:, 1:], equal_var=False, alternative="greater"
        ).pvalue
        assert chosen.selective[k].tolist() == [
            q <= 0.01 for q in reference.benjamini_hochberg(list(p))
        ]


def test_summary_equals_plain_loops(store: Store) -> None:
    rows = {(row.layer, row.category): row for row in summarise(store)}
    assert len(rows) == 9
    for layer in LAYERS:
        chosen = select.select(store, layer)
        means = [[group.mean(0) for group in folds] for folds in samples(layer)]
        for k, category in enumerate(CATEGORIES):
            row = rows[layer.name, category]
            assert (row.units, row.dead, row.nonfinite) == (layer.units, 1, 0)
            assert row.selective == chosen.selective[k].sum()
            assert row.share == row.selective / layer.units
            first, second = chosen.selective_fold[k]
            both = (first & second).sum()
            assert row.replicated == pytest.approx((both / first.sum() + both / second.sum()) / 2)
            held_out = [
                np.mean([
                    reference.selectivity_index([folds[1 - f][u] for folds in means])[k]
                    for u in np.flatnonzero(mask)
                ])
                for f, mask in enumerate((first, second))
            ]  # fmt: skip
            assert row.csi == pytest.approx(np.mean(held_out))


def test_replication_over_more_folds_and_none() -> None:
    folds = np.array([[[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], [[0] * 4] * 3], bool)
    chosen = select.Selection(folds[:, 0], folds, np.zeros(4, bool), np.zeros(4, bool))
    assert replication(chosen, 0) == pytest.approx((0.5 + 0 + 0.5 + 0) / 4)
    assert replication(chosen, 1) is None


def test_anyone_can_read_it(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(store.path, engine="zarr", chunks={})
    assert set(tree.children) == {layer.name for layer in LAYERS}
    for layer in LAYERS:
        dataset = tree[layer.name].to_dataset()
        assert set(dataset.data_vars) == set(VARIABLES)
        assert dataset["t"].dims == ("category", *layer.dims)
        assert dataset["mean"].dims == ("category", "fold", *layer.dims)
        assert dataset["category"].values.tolist() == list(CATEGORIES)
        assert dataset["t"].attrs["long_name"] == VARIABLES["t"].long_name
        for name, variable in VARIABLES.items():
            assert dataset[name].dtype == variable.dtype
            assert dataset[name].chunks is not None  # lazy: dask arrays
    assert tree["stimulus_path"].values[0] == "é/0.png"
    assert tree["count"].values.tolist() == COUNTS.tolist()


def test_the_python_face_is_lazy_and_named(store: Store) -> None:
    faces = store.dataset("layer1.0")["t"].sel(category="faces")
    assert faces.shape == (5, 3, 2)
    np.testing.assert_array_equal(faces.values.ravel(), store.read(LAYERS[0], "t")[0])
    assert "made-up" in repr(store)
    with pytest.raises(UserError, match=r"did you mean layer1\.0"):
        store.dataset("layer1.1")


def test_nothing_in_it_is_a_pickle(store: Store) -> None:
    for path in store.path.rglob("zarr.json"):
        assert "pickle" not in path.read_text()


def test_chunks_carry_checksums(store: Store) -> None:
    codecs = json.dumps(store.array(LAYERS[0], "mean").metadata.to_dict()["codecs"], default=str)
    assert "crc32c" in codecs


def test_a_flipped_byte_is_found(own_store: Store) -> None:
    chunk = max(
        (own_store.path / "head" / "mean" / "c").rglob("*"), key=lambda p: (p.is_file(), str(p))
    )
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        open_store(own_store.path).read(LAYERS[2], "mean")


def test_an_existing_output_is_refused(own_store: Store) -> None:
    with pytest.raises(UserError, match="--overwrite"):
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


def test_the_outputs_folder_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="create it"):
        refuse_existing(tmp_path / "no" / "made.zarr", overwrite=False)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store at"):
        open_store(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="not a zarr v3 store"):
        open_store(tmp_path / "folder")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="not of fusiform"):
        open_store(tmp_path / "other.zarr")


def test_another_schema_is_refused(own_store: Store) -> None:
    own_store.annotate(schema_version=99)
    with pytest.raises(UserError, match=r"schema 1; .* has 99"):
        open_store(own_store.path)


def test_an_unfinished_store_is_not_summarised(own_store: Store) -> None:
    own_store.annotate(status="scanning")
    with pytest.raises(UserError, match="has not finished"):
        summarise(open_store(own_store.path))


def test_publishing_replaces_a_store_and_leaves_nothing_beside_it(
    own_store: Store, tmp_path: Path
) -> None:
    other = fill(tmp_path / "new.zarr")
    with pytest.raises(UserError, match="--overwrite"):
        other.publish(own_store.path)
    published = other.publish(own_store.path, overwrite=True)
    assert published.path == own_store.path
    assert [path.name for path in tmp_path.iterdir()] == ["own.zarr"]


def test_a_unit_that_is_not_finite_in_one_fold_is_selected_in_none(tmp_path: Path) -> None:
    layer = LAYERS[0]
    store = fill(tmp_path / "nan.zarr")
    preferring = np.flatnonzero(select.select(store, layer).selective_fold[0, 0])
    assert len(preferring) > 1
    mean, m2 = store.read(layer, "mean")[:, 1], store.read(layer, "m2")[:, 1]
    mean[1, preferring[0]] = m2[1, preferring[0]] = np.nan  # one stimulus of the second fold
    values = [m.reshape(layer.shape) for m in (mean[1], m2[1])]
    store.write_moments(layer, 1, 1, Moments(COUNTS[1, 1], *values))
    select.materialise(store)
    for criterion in (DEFAULT, Criterion("rest"), Criterion("each", t=1.0)):
        chosen = select.select(store, layer, criterion)
        assert chosen.nonfinite[preferring[0]]
        assert not chosen.selective[:, preferring[0]].any()
        assert not chosen.selective_fold[:, :, preferring[0]].any()
    row = summarise(store, layers=["layer1.0"])[0]
    assert row.nonfinite == 1
    assert row.csi is not None
    assert 0 < row.csi < 1
