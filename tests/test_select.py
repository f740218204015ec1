"""Contrasts and criteria over a store, against scipy, statsmodels and plain loops."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy import stats
from statsmodels.stats.multitest import multipletests

import fusiform
from fusiform.engine import registry, waiting
from fusiform.engine.contrasts import measures
from fusiform.engine.contrasts.evaluate import Evaluation
from fusiform.engine.contrasts.language.contrast import Contrast, every_category, parse_contrast
from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.language.presets import preset
from fusiform.engine.contrasts.select import materialise, save_contrast, select, select_slabs
from fusiform.engine.contrasts.slab import Selection
from fusiform.engine.contrasts.summary import HeldOut, Row, _replication
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.registry import SAVED
from fusiform.engine.store.store_reader import StoreReader
from fusiform.kernels.moments import Moments, merge, read_out

from . import reference
from .made import CATEGORIES, COUNTS, LAYERS, fill, samples

FACES_AGAINST_TWO = "faces > bodies + scenes"
TWO_AGAINST_TWO = "faces + bodies > scenes + '<b>words</b>'"
A_SUM = "faces - (bodies + scenes)/2"


def chosen(
    store: StoreReader, layer: Layer, criterion: Criterion = DEFAULT, contrasts: Any = None
) -> Selection:
    parsed = contrasts and [parse_contrast(text, CATEGORIES) for text in contrasts]
    ((found, selection),) = select(store, criterion, parsed, [layer])
    assert found == layer
    return selection


def parts(layer: Layer) -> list[list[np.ndarray]]:
    """Responses ``[sample][category] [stimulus, unit]``: all stimuli, then each fold."""
    drawn = samples(layer)
    whole = [np.concatenate(groups) for groups in drawn]
    return [whole, *([groups[fold] for groups in drawn] for fold in range(COUNTS.shape[1]))]


def sides(contrast: Contrast, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [
        np.concatenate([groups[k] for k in side]) for side in (contrast.target, contrast.baseline)
    ]


def oracle(
    contrast: Contrast, groups: Sequence[np.ndarray], test: str, two_sided: bool
) -> tuple[np.ndarray, np.ndarray]:
    """scipy's t and p ``[unit]`` of a contrast; constant units as the definitions say."""
    # scipy has no answer for the dead unit: t 0 and p 1.
    alive = [group[:, 1:] for group in groups]
    t, p = oracle_of_living(contrast, alive, test, "two-sided" if two_sided else "greater")
    return np.concatenate([[0], t]), np.concatenate([[1], p])


def oracle_of_living(
    contrast: Contrast, groups: Sequence[np.ndarray], test: str, alternative: str
) -> tuple[np.ndarray, np.ndarray]:
    target, baseline = sides(contrast, groups)
    if test == "glm":
        design = np.repeat(np.eye(len(groups)), [len(group) for group in groups], axis=0)
        weights = np.zeros(len(groups))
        weights[[*contrast.target, *contrast.baseline]] = contrast.weights
        fitted = run_glm(np.concatenate(groups), design, noise_model="ols")
        t = compute_contrast(*fitted, weights, stat_type="t").stat()
        df = len(design) - len(groups)
        return t, stats.t.sf(t, df) if alternative == "greater" else 2 * stats.t.sf(abs(t), df)
    if contrast.weighted:
        weights = [0.0] * len(groups)
        for k, weight in zip((*contrast.target, *contrast.baseline), contrast.weights, strict=True):
            weights[k] = float(weight)
        units = range(target.shape[1])
        t, df = np.array([reference.weighted(weights, [g[:, u] for g in groups]) for u in units]).T
        return t, stats.t.sf(t, df) if alternative == "greater" else 2 * stats.t.sf(abs(t), df)
    if test in ("rest", "student"):
        equal = test == "student"
        found = stats.ttest_ind(target, baseline, equal_var=equal, alternative=alternative)
        return found.statistic, found.pvalue
    singles = [
        stats.ttest_ind(target, groups[k], equal_var=False, alternative=alternative)
        for k in contrast.baseline
    ]
    t = np.array([single.statistic for single in singles])
    p = np.array([single.pvalue for single in singles]).max(axis=0)
    if alternative == "greater":
        return t.min(axis=0), np.where(t.min(axis=0) > 0, p, 1)
    agree = (np.sign(t) == np.sign(t[0])).all(axis=0)
    nearest = np.take_along_axis(t, abs(t).argmin(axis=0)[np.newaxis], axis=0)[0]
    return np.where(agree, nearest, 0), np.where(agree, p, 1)


METHODS = {"bh": "fdr_bh", "by": "fdr_by", "bonferroni": "bonferroni"}


@pytest.mark.smoke
@pytest.mark.parametrize("sided", [1, 2])
@pytest.mark.parametrize("test", ["rest", "each", "glm", "student"])
@pytest.mark.parametrize("text", ["faces", FACES_AGAINST_TWO, TWO_AGAINST_TWO, A_SUM])
def test_selected_t_p_and_q_equal_scipy_nilearn_and_statsmodels(
    store: StoreReader, text: str, test: str, sided: int
) -> None:
    contrast, layer = parse_contrast(text, CATEGORIES), LAYERS[0]

    def check(rule: str, expected: Sequence[np.ndarray], correction: Any = "none") -> None:
        found = chosen(store, layer, Criterion(test, rule, sided, correction), [text])
        np.testing.assert_array_equal([found.selective[0], *found.selective_fold[0]], expected)

    tests = [oracle(contrast, groups, test, sided == 2) for groups in parts(layer)]
    check("t > 2", [t > 2 for t, _ in tests])
    check("t < -1 or p <= 0.02", [(t < -1) | (p <= 0.02) for t, p in tests])
    for correction, method in METHODS.items():
        q = [multipletests(p, method=method)[1] for _, p in tests]
        check("q <= 0.1", [rates <= 0.1 for rates in q], correction)
        check("q > 0.6", [rates > 0.6 for rates in q], correction)


@pytest.mark.parametrize("test", ["rest", "each", "weighted", "glm", "student"])
def test_all_categories_at_once_equal_each_alone(store: StoreReader, test: str) -> None:
    layer = LAYERS[0]
    for sides, rule in itertools.product((1, 2), ("q <= 0.1 and t > -1", "t > 1")):
        criterion = Criterion(test, rule, sides)
        together = chosen(store, layer, criterion)
        for k, name in enumerate(CATEGORIES):
            alone = chosen(store, layer, criterion, [f"'{name}'"])
            np.testing.assert_array_equal(alone.selective[0], together.selective[k])
            np.testing.assert_array_equal(alone.selective_fold[0], together.selective_fold[k])


def test_masks_equal_plain_loops(store: StoreReader) -> None:
    for layer in LAYERS:
        masks = []
        for groups in parts(layer):
            p = np.ones((len(CATEGORIES), layer.units))
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
        found = chosen(store, layer)
        np.testing.assert_array_equal(found.selective, masks[0])
        np.testing.assert_array_equal(found.selective_fold.transpose(1, 0, 2), masks[1:])
        assert found.dead.tolist() == [True] + [False] * (layer.units - 1)
        assert found.selective.any(axis=1).all()
        assert (store.read(layer, "csi")[:, 0] == 0).all()


def one_sided(a: np.ndarray, b: np.ndarray) -> float:
    t, df = reference.welch(a, b)
    return float(stats.t.sf(t, df))


def test_stored_and_recomputed_contrasts_are_equal(store: StoreReader) -> None:
    for layer in LAYERS:
        read = chosen(store, layer, DEFAULT)
        again = Criterion(
            "each", "q <= 0.05 and q <= 1"
        )  # not the default: recomputed from the moments
        computed = chosen(store, layer, again)
        for name in ("selective", "selective_fold", "dead", "nonfinite"):
            np.testing.assert_array_equal(getattr(read, name), getattr(computed, name))


def test_the_whole_model_can_be_the_family(store: StoreReader) -> None:
    contrast = parse_contrast(FACES_AGAINST_TWO, CATEGORIES)
    p = [oracle(contrast, parts(layer)[0], "rest", False)[1] for layer in LAYERS]
    for correction, method in METHODS.items():
        criterion = Criterion("rest", "q <= 0.05", correction=correction, family="model")
        found = dict(select(store, criterion, [contrast]))
        q = np.split(
            multipletests(np.concatenate(p), method=method)[1],
            np.cumsum([layer.units for layer in LAYERS])[:-1],
        )
        for layer, rates in zip(LAYERS, q, strict=True):
            np.testing.assert_array_equal(found[layer].selective[0], rates <= 0.05)
        # The family is that of the store, whatever layers are requested.
        ((_, alone),) = select(store, criterion, [contrast], LAYERS[1:2])
        np.testing.assert_array_equal(alone.selective, found[LAYERS[1]].selective)


def test_the_top_of_the_model_is_that_of_all_layers(store: StoreReader) -> None:
    units = sum(layer.units for layer in LAYERS)
    t = [oracle(parse_contrast("faces", CATEGORIES), parts(one)[0], "rest", False)[0]
         for one in LAYERS]  # fmt: skip
    values = np.nan_to_num(np.concatenate(t), nan=0).tolist()  # dead units have t = 0
    for rule, size in (("top 9 of model", 9), ("top 10% of model", units // 10)):
        masks = dict(select(store, Criterion("rest", rule)))
        whole = np.concatenate([masks[layer].selective[0] for layer in LAYERS])
        assert set(np.flatnonzero(whole)) == reference.top(values, size)
        # The model is that of the store, whatever layers are requested.
        ((_, alone),) = select(store, Criterion("rest", rule), layers=LAYERS[1:2])
        np.testing.assert_array_equal(alone.selective, masks[LAYERS[1]].selective)


def test_slabs_of_layers_may_be_left_out(store: StoreReader) -> None:
    criterion = Criterion("each", "t > 1")
    whole = {layer.name: masks.selective for layer, masks in select(store, criterion)}
    seen = []
    for layer, slabs in select_slabs(store, criterion):
        if layer.name == "encoder.ln":
            continue
        parts = [slab.selective for slab in slabs]
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole[layer.name])
        seen.append(layer.name)
    assert seen == ["layer1.0", "head"]


def test_the_top_fraction_of_a_layer_is_selected(store: StoreReader) -> None:
    layer = LAYERS[0]
    for sample, groups in enumerate(parts(layer)):
        t, _ = oracle(parse_contrast("faces", CATEGORIES), groups, "rest", False)
        for rule, size in (("top 4", 4), ("top 10%", 3), ("top 9.9% by t", 2), ("top 999", 30)):
            found = chosen(store, layer, Criterion("rest", rule), ["faces"])
            mask = found.selective[0] if sample == 0 else found.selective_fold[0, sample - 1]
            assert set(np.flatnonzero(mask)) == set(np.argsort(-t)[:size])
    csi = store.read(layer, "csi")[0]
    found = chosen(store, layer, Criterion("rest", "top 5 by csi and t > 1"), ["faces"])
    expected = [u for u in np.argsort(-csi, kind="stable")[:5] if t_of(layer, u) > 1]
    assert set(np.flatnonzero(found.selective[0])) == set(expected)


def t_of(layer: Layer, unit: int) -> float:
    columns = [group[:, unit] for group in parts(layer)[0]]
    return reference.against_rest(columns)[0][0]


def test_ties_in_the_top_are_broken_by_unit_order(store: StoreReader) -> None:
    found = chosen(store, LAYERS[2], Criterion("rest", "top 3 by ratio"), ["faces > bodies"])
    assert found.selective.sum() <= 3
    constant = [Moments(np.full((2, 1), 5), np.ones((2, 6)), np.zeros((2, 6)))]
    evaluation = Evaluation(Criterion("rest", "top 2"), every_category("ab"))
    mask = decided(evaluation, constant)
    assert mask.tolist() == [[True, True, False, False, False, False]] * 2


def test_a_rule_joins_conditions(store: StoreReader) -> None:
    layer = LAYERS[0]

    def mask(rule: str) -> np.ndarray:
        return chosen(store, layer, Criterion("rest", rule), ["faces"]).selective[0]

    t, csi, q = mask("t > 2"), mask("csi > 1/3"), mask("q <= 0.05")
    assert t.any()
    np.testing.assert_array_equal(mask("t > 2 and csi > 1/3"), t & csi)
    np.testing.assert_array_equal(mask("t > 2 or csi > 1/3 and q <= 0.05"), t | (csi & q))
    np.testing.assert_array_equal(mask("(t > 2 or csi > 1/3) and q <= 0.05"), (t | csi) & q)
    means = np.stack([group.mean(0) for group in parts(layer)[0]])
    np.testing.assert_array_equal(mask("preferred")[1:], means.argmax(axis=0)[1:] == 0)


def test_pairwise_equals_every_pair_alone(store: StoreReader) -> None:
    layer = LAYERS[0]
    pairs = ["faces > bodies", "faces > scenes"]
    criterion = Criterion("student", "q <= 0.2 and t > 0", 2, "by")
    alone = chosen(store, layer, criterion, pairs)
    together = Criterion("student", "q <= 0.2 and t > 0", 2, "by", pairwise=True)
    found = chosen(store, layer, together, [FACES_AGAINST_TWO])
    assert found.selective.any()
    np.testing.assert_array_equal(found.selective[0], alone.selective.all(axis=0))
    np.testing.assert_array_equal(found.selective_fold[0], alone.selective_fold.all(axis=0))


def test_prince2024_equals_its_recipe(store: StoreReader) -> None:
    for layer in LAYERS:
        found = chosen(store, layer, preset("prince2024"))
        for k, group in enumerate(parts(layer)[0]):
            mask = np.ones(layer.units, bool)
            for j, other in enumerate(parts(layer)[0]):
                if j != k:
                    pair = stats.ttest_ind(group[:, 1:], other[:, 1:])
                    p = np.concatenate([[1], pair.pvalue])  # dead units count as tests
                    mask &= multipletests(p, method="fdr_by")[0]
                    mask[1:] &= pair.statistic > 0
            np.testing.assert_array_equal(found.selective[k], mask)


def test_margalit2024_and_floc_equal_their_recipes(store: StoreReader) -> None:
    for layer in LAYERS:
        groups = parts(layer)[0]
        pooled, model = (chosen(store, layer, preset(name)) for name in ("margalit2024", "floc"))
        for k, name in enumerate(CATEGORIES):
            contrast = parse_contrast(f"'{name}'", CATEGORIES)
            t, _ = oracle(contrast, groups, "rest", False)
            np.testing.assert_array_equal(pooled.selective[k], t >= 10)
            t, _ = oracle(contrast, groups, "glm", False)
            np.testing.assert_array_equal(model.selective[k], t > 3)


def test_alkhamissi2025_equals_its_recipe(store: StoreReader) -> None:
    contrast = parse_contrast("faces > bodies", CATEGORIES)
    t = []
    for layer in LAYERS:
        target, baseline = sides(contrast, parts(layer)[0])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the dead unit, whose t is NaN
            t.append(stats.ttest_ind(target, baseline, equal_var=False).statistic)
    _, ranks = np.unique(-np.concatenate(t), return_inverse=True)
    size = int(20 / 100 * len(ranks))
    criterion = replace(preset("alkhamissi2025"), where="top 20% of model")
    masks = dict(select(store, criterion, [contrast]))
    found = np.concatenate([masks[layer].selective[0] for layer in LAYERS])
    np.testing.assert_array_equal(found, ranks < size)
    assert found.sum() == size


def test_pairs_under_the_linear_model_share_the_variance_of_all_categories(
    store: StoreReader,
) -> None:
    layer = LAYERS[0]
    found = chosen(store, layer, Criterion("glm", "t > 1", pairwise=True), ["faces"])
    others = [k for k in range(len(CATEGORIES)) if CATEGORIES[k] != "faces"]
    pair = [parse_contrast(f"faces > '{CATEGORIES[k]}'", CATEGORIES) for k in others]
    for sample, groups in enumerate(parts(layer)):
        t = np.array([oracle(one, groups, "glm", False)[0] for one in pair])
        mask = found.selective[0] if sample == 0 else found.selective_fold[0, sample - 1]
        np.testing.assert_array_equal(mask, (t > 1).all(axis=0))


def test_a_weighted_sum_cannot_be_pairwise(store: StoreReader) -> None:
    with pytest.raises(UserError, match="write A > B"):
        chosen(store, LAYERS[0], preset("prince2024"), [A_SUM])


# Saved contrasts


@pytest.mark.smoke
def test_a_saved_contrast_is_read_by_zarr_and_xarray(own_store: StoreReader) -> None:
    save_contrast(own_store, "two", Criterion("rest"), FACES_AGAINST_TWO)
    tree = xarray.open_datatree(own_store.path, engine="zarr", chunks={})
    for layer in LAYERS:
        found = tree[f"{layer.name}/two"].to_dataset(inherit=False)
        assert set(found.data_vars) == {*SAVED, "selective", "selective_fold", "extremes"}
        assert found["t"].dims == layer.dims
        assert found["selective_fold"].dims == ("fold", *layer.dims)
        t, p = oracle(parse_contrast(FACES_AGAINST_TWO, CATEGORIES), parts(layer)[0], "rest", False)
        np.testing.assert_allclose(found["t"].values.ravel(), t, rtol=1e-6)
        np.testing.assert_allclose(
            found["log10_p"].values.ravel(), np.log10(p), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            found["q"].values.ravel(), multipletests(p, method="fdr_bh")[1], rtol=1e-5
        )
        mask = chosen(own_store, layer, Criterion("rest"), [FACES_AGAINST_TWO]).selective[0]
        np.testing.assert_array_equal(found["selective"].values.ravel(), mask)
        assert found["d_prime"].attrs["long_name"].startswith("difference of means")
    record = open_store(own_store.path).saved["two"]
    assert record["contrasts"] == [FACES_AGAINST_TWO]
    assert record["criterion"]["test"] == "rest"


def test_saved_for_every_category_equals_the_scan_to_the_bit(own_store: StoreReader) -> None:
    save_contrast(own_store, "again", Criterion("rest", "q <= 0.3"), measures=["t", "csi"])
    save_contrast(own_store, "each", Criterion("each", "q <= 0.3"), measures=["t", "q"])
    faces = Criterion("rest", "q <= 0.3", family="model")
    save_contrast(own_store, "faces", faces, "faces", ["t", "csi", "q", "preferred_category"])
    for layer in LAYERS:
        read = {
            name: own_store.read(layer, name)
            for name in ("t", "t_each", "csi", "q_each", "again/t", "again/csi", "each/t", "each/q",
                         "faces/t", "faces/csi", "faces/preferred_category")
        }  # fmt: skip
        for saved, scanned in (("again/t", "t"), ("again/csi", "csi"), ("each/t", "t_each"),
                               ("each/q", "q_each")):  # fmt: skip
            np.testing.assert_array_equal(read[saved], read[scanned])
        np.testing.assert_array_equal(read["faces/t"], read["t"][0])
        np.testing.assert_array_equal(read["faces/csi"], read["csi"][0])
        assert read["faces/preferred_category"].dtype == np.int32


def test_a_measure_saved_under_a_former_name_is_read(own_store: StoreReader) -> None:
    with pytest.MonkeyPatch.context() as patch:  # as saved before it was renamed
        patch.setitem(registry.MEASURES, "sparseness", "lifetime sparseness of the category means")
        computed = measures._MEASURES["category_sparseness"]
        patch.setitem(measures._MEASURES, "sparseness", computed)
        save_contrast(own_store, "old", Criterion("rest"), "faces", ["t", "sparseness"])
    store = open_store(own_store.path)
    save_contrast(store, "new", Criterion("rest"), "faces", ["t", "category_sparseness"])
    store = open_store(own_store.path)
    for layer in LAYERS:
        old, new = (store.read(layer, name) for name in ("old/sparseness",
                                                         "new/category_sparseness"))  # fmt: skip
        np.testing.assert_array_equal(old, new)
    assert store.query("sparseness > 0.2", saved="old").counts()["units"].sum() > 0
    assert fusiform.check(store.path).problems == ()
    for wrong in (
        lambda: Criterion("rest", "sparseness > 0.3"),
        lambda: save_contrast(store, "no", Criterion(), "faces", ["sparseness"]),
        lambda: store.query("sparseness > 0.3"),
    ):
        with pytest.raises(UserError, match="did you mean category_sparseness"):
            wrong()


def test_saving_under_a_name_again_is_atomic(
    own_store: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_contrast(own_store, "mine", Criterion("rest"), "faces", ["t"])
    before = own_store.read(LAYERS[2], "mine/t")
    with monkeypatch.context() as patch:
        patch.setattr(
            "fusiform.engine.store.writing.saved_contrasts.SavedContrast.write", lambda *_: 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            save_contrast(own_store, "mine", Criterion("rest"), "bodies", ["t"])
    assert open_store(own_store.path).saved["mine"]["contrasts"] == ["faces"]
    np.testing.assert_array_equal(open_store(own_store.path).read(LAYERS[2], "mine/t"), before)
    assert set(xarray.open_datatree(own_store.path, engine="zarr")["head"].children) == {"mine"}
    store = open_store(own_store.path)
    save_contrast(store, "mine", Criterion("rest"), "bodies", ["csi"])
    assert set(store.saved) == {"mine"}
    layer = xarray.open_datatree(store.path, engine="zarr")["head/mine"]
    assert set(layer.data_vars) == {"csi", "selective", "selective_fold", "extremes"}
    assert before.any()


@pytest.mark.parametrize("name", ["t", "shuffled", "a b", "../x", "", "a/b", "1st", "x" * 300])
def test_hidden_and_escaping_contrast_names_raise(own_store: StoreReader, name: str) -> None:
    with pytest.raises(UserError, match="a contrast's name"):
        save_contrast(own_store, name, DEFAULT, "faces")
    assert not (Path(own_store.path) / ".saving").exists()
    with pytest.raises(UserError, match="did you mean csi"):
        save_contrast(own_store, "ok", DEFAULT, "faces", ["csj"])


# Summaries


def test_summary_equals_plain_loops(store: StoreReader) -> None:
    rows = {(row.layer, row.contrast): row for row in fusiform.summary(store)}
    assert len(rows) == len(LAYERS) * len(CATEGORIES)
    for layer in LAYERS:
        found = chosen(store, layer)
        drawn = samples(layer)
        for k, category in enumerate(CATEGORIES):
            row = rows[layer.name, category]
            assert (row.units, row.dead, row.nonfinite) == (layer.units, 1, 0)
            assert row.selective == found.selective[k].sum()
            assert row.share == row.selective / layer.units
            assert row.chance is None
            masks = found.selective_fold[k]
            both = masks.all(axis=0).sum()
            assert row.replicated == pytest.approx(np.mean([both / m.sum() for m in masks]))
            for fold, mask in enumerate(masks):
                other = [groups[1 - fold][:, mask] for groups in drawn]
                target, rest = other[k], np.concatenate([*other[:k], *other[k + 1 :]])
                csi = [
                    reference.selectivity_index([g[:, u].mean() for g in other])[k]
                    for u in range(mask.sum())
                ]
                spread = (target.var(0, ddof=1) + rest.var(0, ddof=1)) / 2
                held_out = row.held_out[fold]
                assert held_out.fold == fold
                assert held_out.selected == mask.sum()
                assert held_out.csi == pytest.approx(np.mean(csi))
                d_prime = (target.mean(0) - rest.mean(0)) / np.sqrt(spread)
                assert held_out.d_prime == pytest.approx(np.mean(d_prime))
                assert held_out.response == pytest.approx(target.mean())
            assert row.csi == pytest.approx(np.mean([held.csi for held in row.held_out]))


def test_a_summary_of_given_contrasts(store: StoreReader) -> None:
    rows = fusiform.summary(store, Criterion("rest"), ["head"], [FACES_AGAINST_TWO, A_SUM])
    assert [(row.layer, row.contrast) for row in rows] == [
        ("head", FACES_AGAINST_TWO), ("head", A_SUM)
    ]  # fmt: skip
    masks = chosen(store, LAYERS[2], Criterion("rest"), [FACES_AGAINST_TWO, A_SUM])
    assert [row.selective for row in rows] == masks.selective.sum(axis=1).tolist()


def test_replication_over_several_folds_and_one() -> None:
    folds = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    both = folds.astype(int) @ folds.astype(int).T
    rates = [_replication(both, fold) for fold in range(3)]
    assert rates == [pytest.approx(0.25), pytest.approx(0.25), None]
    nothing = HeldOut(2, 0, None, None, None, None)
    some = HeldOut(0, 2, 0.25, 0.5, 1.0, 2.0)
    row = Row("a", "b", 4, 0, 0, 1, (some, some, nothing), None, None)
    assert (row.replicated, row.csi) == (0.25, 0.5)
    assert Row("a", "b", 4, 0, 0, 0, (nothing,), None, None).d_prime is None


def test_a_unit_that_is_not_finite_in_one_fold_is_never_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_MOMENT_VALUES", 1)  # a group per file
    layer = LAYERS[0]
    draft = fill(tmp_path / "nan.zarr")
    store = draft.reader
    preferring = np.flatnonzero(chosen(store, layer).selective_fold[0, 0])
    assert len(preferring) > 1
    mean, m2 = store.read(layer, "mean")[:, 1], store.read(layer, "m2")[:, 1]
    mean[1, preferring[0]] = m2[1, preferring[0]] = np.nan  # one stimulus of the second fold
    values = [m.reshape(layer.shape) for m in (mean[1], m2[1])]
    draft.write_moments(layer, 1, 1, Moments(COUNTS[1, 1], *values))
    materialise(draft)
    assert np.isnan(store.read(layer, "q_each")[:, preferring[0]]).all()
    for rule in ("q <= 0.05", "t > 1", "t > 1 or t <= 1", "top 30", "p <= 1 or q > 0"):
        for test in ("each", "rest", "weighted", "glm"):
            found = chosen(store, layer, Criterion(test, rule))
            assert found.nonfinite[preferring[0]]
            assert not found.selective[:, preferring[0]].any()
            assert not found.selective_fold[:, :, preferring[0]].any()
    row = fusiform.summary(store, layers=["layer1.0"])[0]
    assert row.nonfinite == 1
    assert row.csi is not None
    assert 0 < row.csi < 1


def decided(evaluation: Evaluation, folds: list[Moments]) -> np.ndarray:
    """Selection of units that form a family of their own."""
    slab = evaluation.evaluate(Moments(*map(np.stack, zip(*folds, strict=True))))
    evaluation.settle([[slab]], slab.units)
    return evaluation.decide(slab).selection.selective


# Invariance


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), folds=st.integers(1, 6))
def test_selection_does_not_depend_on_folds_order_or_merging(seed: int, folds: int) -> None:
    """Dealing stimuli to folds differently changes neither the total moments nor the selection."""
    rng = np.random.default_rng(seed)
    groups = [rng.normal(rng.normal(0, 1, 60), 1, (n, 60)) for n in rng.integers(12, 30, 4)]

    def moments(parts: list[np.ndarray]) -> Moments:
        read = [read_out(len(x), x[0], (x - x[0]).sum(0), ((x - x[0]) ** 2).sum(0)) for x in parts]
        count = np.array([[one.count] for one in read])
        return Moments(count, np.stack([r.mean for r in read]), np.stack([r.m2 for r in read]))

    criterion = Criterion("each", "q <= 0.05 or t > 4 or csi > 0.9 and d_prime > 0.2")
    evaluation = Evaluation(criterion, every_category("abcd"))
    expected = moments(groups)
    selected = decided(evaluation, [expected])
    dealt = []
    for group in groups:
        order = rng.permutation(len(group))
        cuts = np.sort(rng.choice(np.arange(1, len(group) // 2), folds - 1, replace=False)) * 2
        dealt.append(np.split(group[order], cuts))
    found = [moments([parts[fold] for parts in dealt]) for fold in rng.permutation(folds)]
    merged = reduce(merge, found)
    np.testing.assert_allclose(merged.mean, expected.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.m2, expected.m2, rtol=1e-12)
    again = decided(evaluation, found)
    np.testing.assert_array_equal(again, selected)


def test_criteria_round_trip_through_json(own_store: StoreReader) -> None:
    save_contrast(own_store, "kept", preset("prince2024"), "faces", ["t"])
    record = open_store(own_store.path).saved["kept"]
    assert Criterion(**json.loads(json.dumps(record["criterion"]))) == preset("prince2024")


# Lazily, in xarray


@pytest.mark.parametrize(
    ("criterion", "contrasts"),
    [
        (Criterion(), None),
        (Criterion("rest", "t > 1 and csi > 0.1"), ["faces"]),
        (Criterion("each", "q <= 0.2", family="model"), ["scenes", FACES_AGAINST_TWO]),
        (Criterion("student", "top 10%", sides=2, pairwise=True), None),
        (Criterion("rest", "top 10% of model"), ["faces", "scenes"]),
    ],
)
def test_lazy_masks_equal_selected_masks(
    store: Store, criterion: Criterion, contrasts: list[str] | None
) -> None:
    tree = store.select(contrasts, criterion)
    for layer in LAYERS:
        dataset = tree[layer.name].to_dataset()
        assert dataset.chunks  # dask arrays: nothing has been computed yet
        assert dataset["contrast"].values.tolist() == (contrasts or list(CATEGORIES))
        assert dataset["selective_fold"].dims == ("contrast", "fold", *layer.dims)
        expected = chosen(store, layer, criterion, contrasts)
        for name, mask in vars(expected).items():
            shape = (*mask.shape[:-1], *layer.shape)
            np.testing.assert_array_equal(dataset[name].values, mask.reshape(shape))
        first = (contrasts or CATEGORIES)[0]
        quoted = first if first.isidentifier() or contrasts else f'"{first}"'
        np.testing.assert_array_equal(
            store.mask(quoted, layer.name, criterion), dataset["selective"].values[0]
        )


def test_masks_of_a_scanned_contrast_are_read_from_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoreReader, "stacked_moments", lambda *_: 1 / 0)
    assert store.mask("faces", "head").any()
    assert store.mask('faces > bodies + "<b>words</b>" + scenes', "head").any()
    with pytest.raises(ZeroDivisionError):
        store.mask("faces > bodies", "head")


def test_unknown_layers_and_contrasts_of_lazy_masks_raise_at_once(store: Store) -> None:
    assert list(store.select("faces", layers="h*").children) == ["head"]
    with pytest.raises(UserError, match="did you mean head"):
        store.select("faces", layers="haed")
    with pytest.raises(UserError, match="did you mean faces"):
        store.select("fases")
    with pytest.raises(UserError, match="has no layer 'haed'"):
        store.mask("faces", "haed")
