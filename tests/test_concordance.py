"""Rank correlations of many vectors, and similarities of many layers, against scipy and loops."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from fusiform import analyse
from fusiform.engine import blocks
from fusiform.engine.analyses import consistency as layers_compared
from fusiform.engine.analyses import costs
from fusiform.engine.analyses.patterns import CategoryMeans
from fusiform.engine.errors import UserError
from fusiform.engine.querying.store import Store, open_store
from fusiform.kernels import concordance
from fusiform.kernels.concordance import doubled_ranks, kendall, spearman
from fusiform.kernels.similarity import (
    Symmetric,
    alignments,
    correlation_distances,
    euclidean_distances,
    extend,
    linear_cka,
    patterns_of,
)

from . import reference
from .made import fill


def rows_of(items: int, rows: int, seed: int) -> np.ndarray:
    """Vectors with no ties, some, many, in groups, and only ties."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, items))
    found[1::4] = rng.integers(0, max(2, items // 3), found[1::4].shape)
    found[2::4] = np.round(found[2::4] + found[0])
    found[-1] = 3
    return found


def scipys(function: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where all values are tied
        return np.array([[function(a, b).statistic for b in second] for a in first])


@settings(max_examples=10, deadline=None)
@given(items=st.integers(2, 90), seed=st.integers(0, 2**32))
def test_all_pairs_of_rows_equal_scipy(items: int, seed: int) -> None:
    first, second = rows_of(items, 7, seed), rows_of(items, 5, seed + 1)
    ranks, others = (np.stack([doubled_ranks(row) for row in one]) for one in (first, second))
    np.testing.assert_array_equal(ranks, 2 * stats.rankdata(first, axis=1))
    # The same counts of pairs, and the same formula: the same bits.
    np.testing.assert_array_equal(kendall(ranks), scipys(stats.kendalltau, first, first))
    np.testing.assert_array_equal(kendall(ranks, others), scipys(stats.kendalltau, first, second))
    expected = scipys(stats.spearmanr, first, second)
    np.testing.assert_allclose(spearman(ranks, others), expected, atol=1e-12)


def test_kendall_equals_plain_loops() -> None:
    values = rows_of(12, 5, 0)[:-1]
    found = kendall(np.stack([doubled_ranks(row) for row in values]))
    for i, j in np.ndindex(found.shape):
        assert found[i, j] == pytest.approx(reference.kendall(*values[[i, j]].tolist()))


def test_products_do_not_depend_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = np.stack([doubled_ranks(row) for row in rows_of(3000, 6, 0)])
    whole = spearman(ranks, ranks), kendall(ranks)
    monkeypatch.setattr(concordance, "_AT_ONCE", 64)
    np.testing.assert_allclose(spearman(ranks, ranks), whole[0], atol=1e-14)
    np.testing.assert_array_equal(kendall(ranks), whole[1])


def test_vectors_of_one_value_or_none_have_no_correlation() -> None:
    for items in (0, 1):
        ranks = np.full((2, items), items + 1, np.int32)
        assert np.isnan(kendall(ranks)).all()
        assert np.isnan(spearman(ranks, ranks)).all()


# Patterns of few units, kept as they are, and of many, kept as sums


@pytest.mark.parametrize("units", [0, 1, 5, 9, 30])
@pytest.mark.parametrize("tile", [1, 2**22])
def test_kept_means_and_sums_give_the_same_distances(
    units: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiform.kernels.similarity._TILE", tile)
    monkeypatch.setattr("fusiform.kernels.similarity._WHOLE", tile)
    means = np.random.default_rng(units).normal(2, 1, (9, units))
    found = CategoryMeans(9)
    for part in np.array_split(means, 4, axis=1):
        found.add(part)
    assert found.units == units
    for distance, of in (
        ("correlation", correlation_distances),
        ("euclidean", euclidean_distances),
    ):
        triangle, diagonal = found.triangle(distance)
        expected = of(patterns_of(means))
        np.testing.assert_allclose(triangle, expected[np.triu_indices(9, 1)], atol=1e-12)
        np.testing.assert_array_equal(diagonal, np.diag(expected))
        if units > 1:
            np.testing.assert_allclose(triangle, pdist(means, distance), atol=1e-12)


def test_sums_are_extended_in_place() -> None:
    means = np.random.default_rng(0).normal(5, 1, (6, 40))
    whole, found = patterns_of(means), patterns_of(means[:, :0])
    products = found.products
    for part in np.split(means, [3, 4, 20], axis=1):
        found = extend(found, part)
    assert found.products is products
    for own, expected in zip(found, whole, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-12, atol=1e-11)


def test_alignment_of_matrices_and_factors_is_cka() -> None:
    rng = np.random.default_rng(1)
    means = [rng.normal(size=(12, units)) for units in (3, 5, 40, 60)]
    grams = [patterns_of(one).gram for one in means]
    factors = [one - one.mean(axis=0) for one in means]
    expected = [[reference.linear_cka(a, b) for b in means] for a in means]
    forms = [
        [Symmetric(gram) for gram in grams],
        [Symmetric(factor=factor) for factor in factors],
        [Symmetric(factor=factors[0]), *map(Symmetric, grams[1:])],
    ]
    for first in forms:
        for second in forms:
            np.testing.assert_allclose(alignments(first, second), expected, rtol=1e-12)
    assert linear_cka(grams[0], grams[2]) == pytest.approx(expected[0][2])


def symmetric(patterns: np.ndarray, whole: bool = True) -> Symmetric:
    centred = patterns - patterns.mean(axis=0)
    return Symmetric(centred @ centred.T) if whole else Symmetric(factor=centred)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 7), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 999))
def test_unbiased_cka_equals_its_definition_over_quadruples(
    stimuli: int, units: int, others: int, whole: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(5, 1, (stimuli, units)), rng.normal(size=(stimuli, others))
    b[:, : min(units, others)] += a[:, : min(units, others)]
    k, other = a @ a.T, b @ b.T
    hsic = reference.unbiased_hsic(k, other)
    together = (reference.u_centred(k) * reference.u_centred(other)).sum()
    assert hsic == pytest.approx(together / stimuli / (stimuli - 3), rel=1e-6, abs=1e-6)
    ((found,),) = alignments([symmetric(a)], [symmetric(b, whole)], unbiased=True)
    assert found == pytest.approx(reference.unbiased_cka(a, b), rel=1e-6, abs=1e-8)
    assert found == pytest.approx(
        hsic / math.sqrt(reference.unbiased_hsic(k, k) * reference.unbiased_hsic(other, other)),
        rel=1e-5, abs=1e-6,
    )  # fmt: skip


def test_unbiased_cka_of_independent_layers_is_0_in_the_mean_and_the_biased_is_not() -> None:
    rng = np.random.default_rng(0)
    layers = [symmetric(rng.normal(size=(20, 200))) for _ in range(60)]
    biased, unbiased = (alignments(layers[:30], layers[30:], one) for one in (False, True))
    assert biased.min() > 0.85
    assert abs(unbiased.mean()) < 4 * unbiased.std() / math.sqrt(unbiased.size)
    assert unbiased.std() == pytest.approx(math.sqrt(2 / (20 * 17)), rel=0.1)
    same = alignments(layers[:5], layers[:5], unbiased=True)
    np.testing.assert_allclose(same.diagonal(), 1, rtol=1e-12)
    scaled = symmetric(3 * rng.normal(size=(20, 4)) + 7)
    np.testing.assert_allclose(alignments([scaled], [scaled], unbiased=True), 1)


def test_unbiased_cka_is_undefined_for_few_or_alike_stimuli() -> None:
    rng = np.random.default_rng(1)
    for stimuli in (1, 2, 3):
        few = symmetric(rng.normal(size=(stimuli, 6)))
        assert np.isnan(alignments([few], [few], unbiased=True)).all()
    alike, even = (
        symmetric(np.ones((6, 3))),
        symmetric(0.1 * np.eye(6)),
    )  # all pairs at one distance
    other = symmetric(rng.normal(size=(6, 4)))
    assert np.isnan(alignments([alike, even], [other], unbiased=True)).all()
    nan = symmetric(np.full((6, 2), np.nan))
    assert np.isnan(alignments([nan], [other], unbiased=True)).all()


# What pairs cost


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("pairs") / "made.zarr"
    fill(path)
    return open_store(path)


def test_analyses_that_cost_much_are_left_out_and_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = analyse(store, resamples=20)
    assert whole.left_out == ()
    monkeypatch.setattr(costs, "_ROW", 2**40)
    found = analyse(store, resamples=20)
    assert [line.partition(" is left out: ")[0] for line in found.left_out] == [
        "overlap", "confusion",
    ]  # fmt: skip
    assert "18 pairs of contrasts take about" in found.left_out[0]
    assert found.left_out[0].endswith("ask for it by name, or choose fewer contrasts or layers")
    assert (found.overlap, found.confusion) == ((), ())
    assert (found.shares, found.consistency) == (whole.shares, whole.consistency)
    with pytest.raises(UserError, match=r"overlap must fit .* of memory; 18 pairs of contrasts"):
        analyse(store, analyses="overlap")


def test_long_comparisons_are_said_first_and_may_do_without_kendall(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = analyse(store, resamples=20).consistency
    monkeypatch.setattr(costs, "_LEVEL", 1)
    (line,) = analyse(store, resamples=20).left_out
    assert "6 distances of 3 layers" in line
    assert line.endswith("or choose fewer layers, or similarities without kendall")
    said: list[str] = []
    found = analyse(store, resamples=20, analyses="consistency", note=said.append)
    assert found.consistency == whole
    (line,) = said
    assert line.startswith("consistency: 6 distances of 3 layers take about")
    some = analyse(store, analyses="consistency", similarities=["spearman", "cka"]).consistency
    assert whole is not None
    assert some is not None
    assert (some.kendall, some.kendall_folds) == (None, None)
    assert (some.spearman, some.cka_folds, some.rdms) == (
        whole.spearman, whole.cka_folds, whole.rdms,
    )  # fmt: skip
    with pytest.raises(UserError, match="spearman, kendall, cka, cka_unbiased; got 'pearson'"):
        analyse(store, similarities="pearson")


def test_analyses_keep_to_a_memory_budget(store: Store) -> None:
    with blocks.memory_budget("1MiB"):
        assert len(analyse(store, resamples=20).left_out) == 3
        with pytest.raises(UserError, match="consistency must fit 0 B of memory"):
            analyse(store, analyses="consistency")
    with blocks.memory_budget("8GiB"):
        assert analyse(store, resamples=20).left_out == ()


def test_large_matrices_of_dissimilarities_are_not_given(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers_compared, "MOST_VALUES", 32)
    analysis = analyse(store, analyses="consistency")
    assert "choose fewer layers" in analysis.left_out[0]
    found = analysis.consistency
    assert found is not None
    assert [one.rdm for one in found.rdms] == [None] * 3
    one = analyse(store, analyses="consistency", layers="head").consistency
    assert one is not None
    assert one.rdms[0].rdm is not None
    assert one.rdms[0].reliability == found.rdms[2].reliability
