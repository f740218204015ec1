"""t, degrees of freedom, p, q and CSI against plain loops, scipy and statsmodels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from fusiform.kernels import contrast, pvalues
from fusiform.kernels import each as each_kernels

from . import reference

Moments = tuple[np.ndarray, np.ndarray, np.ndarray]


def moments_of(groups: list[np.ndarray]) -> Moments:
    """``count [category]``, ``mean, m2 [category, unit]`` of samples ``[stimulus, unit]``."""
    count = np.array([len(group) for group in groups])
    mean = np.stack([group.mean(0) for group in groups])
    m2 = np.stack([((group - group.mean(0)) ** 2).sum(0) for group in groups])
    return count, mean, m2


def rest(count: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, df = np.empty_like(mean), np.empty_like(mean)
    contrast.against_rest(count, mean, m2, t, df)
    return t, df


def each(count: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> np.ndarray:
    t = np.empty_like(mean)
    each_kernels.against_each(count, mean, m2, t)
    return t


def conjunction(*moments: np.ndarray, at_least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The preferred category of every unit, and its p."""
    units = moments[1].shape[1]
    category, t, p = np.empty(units, np.int64), *np.empty((2, units))
    each_kernels.preferred_against_each(*moments, category, t)
    pvalues.conjunction(*moments, category, t, at_least, p)
    return category, p


def draw(seed: int, sizes: list[int], units: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(rng.normal(0, 1, units), rng.uniform(0.1, 3, units), (n, units)) for n in sizes
    ]


CORRECTIONS = ("bh", "by", "bonferroni", "none")
SIZES = pytest.mark.parametrize(
    "sizes", [[2, 2], [2, 50], [5, 9, 13], [20, 2, 7, 30, 4, 11]], ids=str
)


@pytest.mark.smoke
@SIZES
def test_t_against_the_rest_equals_scipy(sizes: list[int]) -> None:
    groups = draw(0, sizes)
    t, df = rest(*moments_of(groups))
    p = pvalues.upper_tail(t, df)
    for k, group in enumerate(groups):
        others = np.concatenate([g for j, g in enumerate(groups) if j != k])
        oracle = stats.ttest_ind(group, others, equal_var=False, alternative="greater")
        np.testing.assert_allclose(t[k], oracle.statistic, rtol=1e-10)
        np.testing.assert_allclose(df[k], oracle.df, rtol=1e-10)
        np.testing.assert_allclose(p[k], oracle.pvalue, rtol=1e-9)


@pytest.mark.smoke
@SIZES
def test_t_against_each_category_equals_scipy(sizes: list[int]) -> None:
    groups = draw(1, sizes)
    found = moments_of(groups)
    t = each(*found)
    category, p = conjunction(*found)
    for k, group in enumerate(groups):
        oracles = [
            stats.ttest_ind(group, other, equal_var=False, alternative="greater")
            for j, other in enumerate(groups)
            if j != k
        ]
        np.testing.assert_allclose(t[k], np.min([o.statistic for o in oracles], axis=0), rtol=1e-10)
        largest = np.max([o.pvalue for o in oracles], axis=0)
        assert ((t[k] > 0) <= (category == k)).all()
        mine = category == k
        np.testing.assert_allclose(p[mine], np.where(t[k] > 0, largest, 1)[mine], rtol=1e-9)


@SIZES
def test_t_and_csi_equal_plain_loops(sizes: list[int]) -> None:
    groups = draw(2, sizes, units=5)
    found = moments_of(groups)
    t, df = rest(*found)
    t_each = each(*found)
    for unit in range(5):
        samples = [group[:, unit] for group in groups]
        np.testing.assert_allclose(
            np.stack([t[:, unit], df[:, unit]], axis=1), reference.against_rest(samples), rtol=1e-10
        )
        np.testing.assert_allclose(t_each[:, unit], reference.against_each(samples), rtol=1e-10)


def test_every_tile_of_units_is_computed() -> None:
    found = moments_of(draw(3, [6, 7, 8], units=2 * contrast.TILE + 5))
    t, df = rest(*found)
    alone = rest(*(part if part.ndim == 1 else part[:, -3:].copy() for part in found))
    np.testing.assert_array_equal(t[:, -3:], alone[0])
    np.testing.assert_array_equal(df[:, -3:], alone[1])
    few = [part if part.ndim == 1 else part[:, -3:].copy() for part in found]
    np.testing.assert_array_equal(each(*found)[:, -3:], each(*few))


def pooled(
    found: Moments, members: list[int], after: Sequence[int] = ()
) -> tuple[int, np.ndarray, np.ndarray]:
    mean, m2 = np.empty((2, found[1].shape[1]))
    before, after = np.array(members, np.int64), np.array(after, np.int64)
    contrast.pool(*found, before, after, mean, m2)
    return int(found[0][[*before, *after]].sum()), mean, m2


def two_sample(test: Any, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    t, df = np.empty((2, len(a[1])))
    test(*a, *b, t, df)
    return t, df


@pytest.mark.parametrize(("test", "equal_var"), [("welch", False), ("student", True)])
def test_two_sided_contrasts_equal_scipy(test: str, equal_var: bool) -> None:
    groups = draw(11, [2, 7, 8, 30, 5])
    found = moments_of(groups)
    t, df = two_sample(getattr(contrast, test), pooled(found, [1, 3]), pooled(found, [0], [2, 4]))
    sides = [np.concatenate([groups[k] for k in side]) for side in ([1, 3], [0, 2, 4])]
    oracle = stats.ttest_ind(*sides, equal_var=equal_var, alternative="greater")
    np.testing.assert_allclose(t, oracle.statistic, rtol=1e-11)
    np.testing.assert_allclose(df, oracle.df, rtol=1e-11)
    np.testing.assert_allclose(pvalues.upper_tail(t, df), oracle.pvalue, rtol=1e-9)


def test_a_contrast_of_one_against_all_others_gives_the_bits_of_the_rest() -> None:
    found = moments_of(draw(12, [6, 7, 8, 5, 9], units=3000))
    t, df = rest(*found)
    for k in range(5):
        baseline = pooled(found, list(range(k)), list(range(k + 1, 5)))
        own = two_sample(contrast.welch, pooled(found, [k]), baseline)
        np.testing.assert_array_equal(own[0], t[k])
        np.testing.assert_array_equal(own[1], df[k])


def test_one_category_against_each_gives_the_bits_of_its_row() -> None:
    found = moments_of(draw(13, [6, 7, 8, 5], units=3000))
    for k, expected in enumerate(each(*found)):
        t = np.empty(3000)
        each_kernels.one_against_each(*found, k, t)
        np.testing.assert_array_equal(t, expected)


# 2 to a million stimuli, equal to distant means, tiny to large variances; scipy takes the same
# summary statistics.
COUNTS = (2, 3, 30, 1_000_000)
SPREADS = (1e-12, 1e-3, 1.0, 1e6)
DIFFERENCES = (0.0, 1e-9, 0.1, 5.0, 1e4)


@pytest.mark.parametrize(("test", "equal_var"), [("welch", False), ("student", True)])
def test_welch_equals_scipy_on_a_wide_grid_of_summary_statistics(
    test: str, equal_var: bool
) -> None:
    for n_a, n_b in product(COUNTS, COUNTS):
        grid = np.array(list(product(DIFFERENCES, SPREADS, SPREADS))).T
        difference, sd_a, sd_b = (np.ascontiguousarray(row) for row in grid)
        a = n_a, 3 + difference, (n_a - 1) * sd_a**2
        b = n_b, np.full_like(difference, 3), (n_b - 1) * sd_b**2
        t, df = two_sample(getattr(contrast, test), a, b)
        oracle = stats.ttest_ind_from_stats(
            a[1], sd_a, n_a, b[1], sd_b, n_b, equal_var=equal_var, alternative="greater"
        )
        np.testing.assert_allclose(t, oracle.statistic, rtol=1e-12)
        # scipy's own degrees of freedom and p lose digits where one variance is far larger, and
        # scipy's p is 0 for some p that a double still holds with fewer digits.
        p = pvalues.upper_tail(t, df)
        held = p >= np.finfo(np.float64).tiny
        np.testing.assert_allclose(p[held], oracle.pvalue[held], rtol=1e-8, atol=0)
        assert (oracle.pvalue[~held] < np.finfo(np.float64).tiny).all()


@pytest.mark.smoke
def test_log_p_is_exact_below_the_smallest_double() -> None:
    df = np.array([1.0, 2.5, 20, 78, 478, 1e4, 1e6])
    for t in (0.0, 2.0, 39.0, 100.0, 1e4):
        log_p = pvalues.log10_upper_tail(np.full_like(df, t), df)
        for value, freedom in zip(log_p, df, strict=True):
            assert value == pytest.approx(log10_tail(t, freedom), rel=1e-9)
    extreme = pvalues.log10_upper_tail(np.array([np.inf, -np.inf, np.nan]), np.full(3, np.nan))
    assert extreme.tolist()[:2] == [-np.inf, 0]
    assert np.isnan(extreme[2])


def log10_tail(t: float, df: float) -> float:
    """log10 of the upper tail, integrating the density with 40 digits."""
    with mpmath.workdps(40):
        nu, t = mpmath.mpf(df), mpmath.mpf(t)
        scale = mpmath.gamma((nu + 1) / 2) / mpmath.gamma(nu / 2) / mpmath.sqrt(nu * mpmath.pi)
        step = 1 / (1 + t)  # the density falls like exp(-t x) beyond t
        grid = [t, *(t + step * 2**k for k in range(-3, 40, 2)), mpmath.inf]
        return float(
            mpmath.log10(scale * mpmath.quad(lambda x: (1 + x * x / nu) ** (-(nu + 1) / 2), grid))
        )


@SIZES
def test_weighted_contrasts_equal_plain_loops(sizes: list[int]) -> None:
    groups = draw(14, sizes)
    weights = np.random.default_rng(0).normal(size=len(sizes))
    weights -= weights.mean()
    t, df = np.empty((2, 40))
    contrast.weighted(weights, *moments_of(groups), t, df)
    for unit in range(40):
        samples = [group[:, unit] for group in groups]
        assert (t[unit], df[unit]) == pytest.approx(
            reference.weighted(list(weights), samples), rel=1e-9
        )


def test_a_weighted_contrast_of_two_is_welch() -> None:
    groups = draw(15, [9, 4, 12])
    found = moments_of(groups)
    t, df = np.empty((2, 40))
    contrast.weighted(np.array([2.0, 0, -2]), *found, t, df)
    oracle = stats.ttest_ind(groups[0], groups[2], equal_var=False)
    np.testing.assert_allclose(t, oracle.statistic, rtol=1e-11)
    np.testing.assert_allclose(df, oracle.df, rtol=1e-11)


def glm(weights: np.ndarray, found: Moments) -> tuple[np.ndarray, np.ndarray]:
    count, mean, m2 = found
    t, df = np.empty((2, mean.shape[1]))
    contrast.glm(weights, count, mean, m2.sum(axis=0), t, df)
    return t, df


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6).filter(lambda n: sum(n) > len(n)),
    seed=st.integers(0, 2**31),
)
def test_the_linear_model_equals_plain_loops_nilearn_and_statsmodels(
    sizes: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights, members = np.zeros(len(sizes)), rng.permutation(len(sizes))[: rng.integers(2, 7)]
    weights[members] = rng.normal(size=len(members))
    weights[members] -= weights[members].mean()
    groups = draw(seed, sizes, units=5)
    t, df = glm(weights, moments_of(groups))
    for unit in range(5):
        plain = reference.glm(list(weights), [group[:, unit] for group in groups])
        assert (t[unit], df[unit]) == pytest.approx(plain, rel=1e-9, abs=1e-12)
    design = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    responses = np.concatenate(groups)
    found = compute_contrast(*run_glm(responses, design, noise_model="ols"), weights, stat_type="t")
    np.testing.assert_allclose(t, found.stat(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(pvalues.upper_tail(t, df), found.p_value(), rtol=1e-7, atol=1e-30)
    for unit in range(5):
        again = OLS(responses[:, unit], design).fit().t_test(weights)
        assert t[unit] == pytest.approx(again.tvalue.item(), rel=1e-8, abs=1e-10)
        assert df[unit] == again.df_denom


def test_the_linear_model_of_two_categories_is_students_test() -> None:
    groups = draw(16, [9, 14])
    t, df = glm(np.array([1.0, -1]), moments_of(groups))
    oracle = stats.ttest_ind(*groups)
    np.testing.assert_allclose(t, oracle.statistic, rtol=1e-11)
    np.testing.assert_array_equal(df, oracle.df)


def test_units_without_residual_variance_have_t_of_0_or_infinity() -> None:
    # Constant over all stimuli; constant within categories, with and without an effect; NaN.
    mean = np.array([[0.1, 2, 1, np.nan], [0.1, 1, 1, 1], [0.1, 1, 5, 1]])
    m2 = np.zeros((3, 4))
    m2[0, 3] = np.nan
    t, df = glm(np.array([1.0, -1, 0]), (np.array([4, 5, 6]), mean, m2))
    np.testing.assert_array_equal(t, [0, np.inf, 0, np.nan])
    assert np.isnan(df).all()
    assert pvalues.upper_tail(t, df)[:3].tolist() == [1, 0, 1]
    even, _ = glm(np.array([1, -0.7, -0.3]), (np.array([4, 5, 6]), mean, m2))
    assert even[0] == 0


def test_weights_that_are_not_binary_fractions_leave_constant_units_at_0() -> None:
    mean = np.full((4, 2), [0.1, 3e7])
    t, df = np.empty((2, 2))
    contrast.weighted(
        np.array([1, -1 / 3, -1 / 3, -1 / 3]), np.arange(5, 9), mean, np.zeros_like(mean), t, df
    )
    assert t.tolist() == [0, 0]
    assert np.isnan(df).all()


def test_only_the_preferred_category_can_be_selected() -> None:
    found = moments_of(draw(9, [6, 7, 8, 5], units=3000))
    t = each(*found)
    category, preferred = np.empty(3000, np.int64), np.empty(3000)
    each_kernels.preferred_against_each(*found, category, preferred)
    np.testing.assert_array_equal(preferred, t[category, np.arange(3000)])
    t[category, np.arange(3000)] = -np.inf
    assert (t <= 0).all()


def test_pruned_p_is_exact_where_it_is_computed() -> None:
    found = moments_of(draw(4, [8, 9, 10, 11], units=3000))
    t = each(*found).max(axis=0)
    full, pruned = conjunction(*found)[1], conjunction(*found, at_least=1.6448)[1]
    np.testing.assert_array_equal(pruned[t > 1.6448], full[t > 1.6448])
    assert (pruned[t <= 1.6448] == 1).all()
    # Pruned pairs could not have been selected: no t distribution has lighter tails.
    assert full[t <= 1.6448].min() > 0.05


@pytest.mark.parametrize("sizes", [(40, 2, 3, 25), (40, 44, 3, 5), (300, 6, 7, 9)], ids=str)
def test_the_smallest_t_need_not_have_the_largest_p(sizes: tuple[int, ...]) -> None:
    # Few stimuli against many, and unequal variances: degrees of freedom from 1 to 40.
    rng = np.random.default_rng(8)
    groups = [rng.normal(0, rng.uniform(0.1, 9), (n, 4000)) for n in sizes]
    groups[0] += 3
    found = moments_of(groups)
    t = each(*found)[0]
    category, p = conjunction(*found)
    singles = [
        stats.ttest_ind(groups[0], other, equal_var=False, alternative="greater")
        for other in groups[1:]
    ]
    tails = np.array([single.pvalue for single in singles])
    above = t > 0
    assert (category[above] == 0).all()
    np.testing.assert_allclose(p[above], tails.max(axis=0)[above], rtol=1e-9)
    weakest = np.argmin([single.statistic for single in singles], axis=0)
    assert (tails.argmax(axis=0) != weakest)[above].any()


def test_the_bounds_of_the_normal_deviate_hold() -> None:
    # The bound that lets a pair skip its p, against p itself, far into the tails.
    df, t = np.meshgrid(np.geomspace(1, 1e6, 61), np.geomspace(1e-3, 30, 61))
    z_squared = stats.norm.isf(pvalues.upper_tail(t, df)) ** 2
    known = np.isfinite(z_squared)
    upper = np.vectorize(pvalues.squared_deviate)(t, df)
    assert known.mean() > 0.9
    assert (z_squared <= upper * (1 + 1e-6))[known].all()
    assert (z_squared >= (1 - 0.5 / df) * upper * (1 - 1e-6))[known].all()


def test_constant_units_follow_the_definition() -> None:
    groups = [np.array([[0.0, 1, 2, 0]] * 4), np.array([[0.0, 1, 1, 3]] * 5), np.zeros((6, 4))]
    groups[2][:, 1] = 1
    found = moments_of(groups)
    t, df = rest(*found)
    p = pvalues.upper_tail(t, df)
    t_each = each(*found)
    assert t[0, 0] == 0
    assert p[0, 0] == 1  # constant over all stimuli
    assert t[:, 1].tolist() == [0, 0, 0]
    # Unit 2: constant within each category, all three differ.
    assert t_each[0, 2] == math.inf
    category, p = conjunction(*found)
    assert (category[2], p[2]) == (0, 0)
    assert t_each[2, 2] == -math.inf


def test_t_is_infinite_for_different_means_without_variance() -> None:
    found = moments_of([np.full((3, 1), 2.0), np.full((4, 1), 1.0)])
    t, df = rest(*found)
    assert t[:, 0].tolist() == [math.inf, -math.inf]
    assert pvalues.upper_tail(t, df)[:, 0].tolist() == [0, 1]


def test_nan_moments_give_nan() -> None:
    groups = draw(5, [6, 7, 8], units=3)
    groups[1][2, 1] = np.nan
    found = moments_of(groups)
    t, df = rest(*found)
    assert np.isnan(t[:, 1]).all()
    assert np.isnan(pvalues.upper_tail(t, df)[:, 1]).all()
    t_each = each(*found)
    assert np.isnan(t_each[:, 1]).all()
    assert np.isnan(conjunction(*found)[1]).tolist() == [False, True, False]


def test_variances_near_the_limits_of_doubles() -> None:
    groups = draw(6, [5, 6], units=4)
    expected = rest(*moments_of(groups))
    for scale in (1e-140, 1e140):
        count, mean, m2 = moments_of(groups)
        t, df = rest(count, mean * scale, m2 * scale**2)
        np.testing.assert_allclose(t, expected[0], rtol=1e-12)
        np.testing.assert_allclose(df, expected[1], rtol=1e-12)


def test_the_pooled_rest_does_not_lose_a_small_group_beside_a_huge_one() -> None:
    rng = np.random.default_rng(7)
    groups = [rng.normal(1e9, 1, (50, 3)), rng.normal(1, 1e-3, (9, 3)), rng.normal(2, 1e-3, (8, 3))]
    count, mean, m2 = moments_of(groups)
    t, _ = rest(count, mean, m2)
    oracle = stats.ttest_ind(groups[0], np.concatenate(groups[1:]), equal_var=False).statistic
    np.testing.assert_allclose(t[0], oracle, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_equals_statsmodels_and_plain_loops(p: list[float]) -> None:
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-300)
    for correction, name in (("bh", "fdr_bh"), ("by", "fdr_by"), ("bonferroni", "bonferroni")):
        q = pvalues.adjusted(np.array(p), correction)
        close(q, multipletests(p, method=name)[1])
    close(pvalues.adjusted(np.array(p), "bh"), reference.benjamini_hochberg(p))
    close(pvalues.adjusted(np.array(p), "none"), p)


def test_q_leaves_nan_out_of_the_family() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    for correction in CORRECTIONS:
        q = pvalues.adjusted(p, correction)
        assert np.isnan(q[[1, 4]]).all()
        np.testing.assert_allclose(q[[0, 2, 3]], pvalues.adjusted(p[[0, 2, 3]], correction))


def test_q_within_a_subset_of_the_family() -> None:
    p = np.array([0.01, 1, 0.04, 0.03, 1])
    for correction in CORRECTIONS:
        part = pvalues.adjusted(p[p < 1], correction, family=5)
        np.testing.assert_array_equal(part, pvalues.adjusted(p, correction)[p < 1])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_t_is_invariant_to_scale_and_order_of_categories(
    seed: int, scale: float, shift: float
) -> None:
    groups = draw(seed % 1000, [5, 8, 6], units=3)
    t = each(*moments_of(groups))
    moved = each(*moments_of([group * scale + shift for group in groups]))
    np.testing.assert_allclose(moved, t, rtol=1e-6, atol=1e-9)
    backwards = each(*moments_of(groups[::-1]))
    np.testing.assert_allclose(backwards[::-1], t, rtol=1e-12)


@pytest.mark.parametrize("categories", [2, 3, 9, 60])
def test_pooling_all_others_at_once_gives_the_same_bits(categories: int) -> None:
    found = moments_of(draw(16, [3 + k % 5 for k in range(categories)], units=1500))
    mean, m2 = np.empty((2, categories, 1500))
    contrast.pool_others(*found, mean, m2)
    for k in range(categories):
        _, own, spread = pooled(found, list(range(k)), list(range(k + 1, categories)))
        np.testing.assert_array_equal(mean[k], own)
        np.testing.assert_array_equal(m2[k], spread)


@pytest.mark.parametrize("categories", [2, 3, 60])
def test_means_of_the_other_categories(categories: int) -> None:
    mean = np.random.default_rng(1).normal(3, 2, (categories, 1100))
    mean[:, 7] = 0.1
    mean[-1, 7], mean[0, 8], mean[1:, 8] = 5, 5, 0.1
    others = np.empty_like(mean)
    contrast.mean_of_others(mean, 0, others)
    for k in range(categories):
        expected = [math.fsum(np.delete(column, k)) / (categories - 1) for column in mean.T]
        np.testing.assert_allclose(others[k], expected, rtol=1e-13)
        row = np.empty((1, 1100))
        contrast.mean_of_others(mean, k, row)
        np.testing.assert_array_equal(row[0], others[k])
    assert (others[-1, 7], others[0, 8]) == (0.1, 0.1)  # exactly


# Many categories: a few pairs instead of all

AWKWARD = (0.0, -0.0, 1.0, 1.0, 2.0, -1.0, 1e-320, 1e-160, 1e160, -1e308, math.inf, math.nan)


def of_both(count: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs, rivals = np.empty((2, *mean.shape))
    error = m2 / (count - 1)[:, np.newaxis] / count[:, np.newaxis]
    each_kernels.pairs_of_tile(mean, error, pairs)
    each_kernels.rivals_of_tile(mean, error, rivals)
    return pairs, rivals


def assert_same_bits(pairs: np.ndarray, rivals: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(pairs), np.isnan(rivals))
    known = ~np.isnan(pairs)
    np.testing.assert_array_equal(pairs[known].view(np.int64), rivals[known].view(np.int64))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_comparing_with_few_rivals_gives_the_bits_of_all_pairs(data: st.DataObject) -> None:
    categories = data.draw(st.integers(2, 24))
    ordinary = st.floats(-3, 3) | st.integers(-2, 2).map(float)
    means = ordinary | st.sampled_from(AWKWARD) if data.draw(st.booleans()) else ordinary
    spreads = st.floats(0, 5) | st.integers(0, 3).map(float)
    spreads = spreads | st.sampled_from(AWKWARD).map(abs) if data.draw(st.booleans()) else spreads
    size = {"min_size": 3 * categories, "max_size": 3 * categories}
    mean = np.array(data.draw(st.lists(means, **size))).reshape(categories, 3)
    m2 = np.array(data.draw(st.lists(spreads, **size))).reshape(categories, 3)
    count = np.array(data.draw(st.lists(st.integers(2, 9), **dict.fromkeys(size, categories))))
    with np.errstate(all="ignore"):
        assert_same_bits(*of_both(count, mean, m2))


@pytest.mark.parametrize("categories", [2, 7, 100, 300])
@pytest.mark.parametrize("rectified", [False, True])
def test_rivals_among_many_categories(categories: int, rectified: bool) -> None:
    rng = np.random.default_rng(categories)
    count = rng.integers(4, 30, categories)
    groups = [rng.normal(rng.normal(-0.5, 1, 37), 1, (n, 37)) for n in count]
    if rectified:  # variances grow with means; many units are constant
        groups = [group.clip(0) for group in groups]
    found = moments_of(groups)
    found[1][:, 5], found[2][:, 5] = 0, 0
    found[1][:, 6], found[2][:, 7] = 3, 0
    found[1][1, 8] = np.nan
    pairs, rivals = of_both(*found)
    assert_same_bits(pairs, rivals)
    np.testing.assert_array_equal(each(*found), pairs)
    expected = reference.against_each([group[:, 1] for group in groups])
    np.testing.assert_allclose(rivals[:, 1], expected, rtol=1e-9)


def test_rivals_are_the_categories_no_other_dominates() -> None:
    rng = np.random.default_rng(3)
    for size in (1, 5, 200):
        mean, error = rng.integers(0, 30, (2, size)).astype(float)
        kept_mean, kept_error = np.empty((2, size))
        number = each_kernels.find_rivals(mean, error, kept_mean, kept_error)
        pairs = set(zip(mean, error, strict=True))
        best = {
            (m, e)
            for m, e in pairs
            if not any(other != (m, e) and other[0] >= m and other[1] <= e for other in pairs)
        }
        kept = list(zip(kept_mean[:number], kept_error[:number], strict=True))
        assert kept == sorted(best, reverse=True)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(3, 40),
    st.sampled_from([0.0, 1e-16, 1e-13, 1e-12, 1e-11, 1e-3, 0.1]),
    st.integers(-150, 145),
    st.integers(-300, 295),
    st.integers(0, 2**32 - 1),
)
def test_rivals_on_a_line_give_the_bits_of_all_pairs(
    categories: int, apart: float, means: int, errors: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 1, (categories, 3)) ** rng.choice([1, 8])
    mean = place + apart * rng.uniform(-1, 1, place.shape) + rng.choice([0, 1, 1e6])
    with np.errstate(all="ignore"):
        error = np.float64(10) ** errors * (place + rng.choice([0, 1e-9]))
        count = np.full(categories, 2)
        assert_same_bits(*of_both(count, np.float64(10) ** means * mean, 2 * error))


def test_most_rivals_lie_below_a_line_between_others() -> None:
    rng = np.random.default_rng(4)
    groups = rng.normal(rng.normal(-1, 0.5, (2000, 1)), 1, (2000, 10)).clip(0)
    mean, error = groups.mean(axis=1), groups.var(axis=1, ddof=1) / 10
    kept_mean, kept_error = np.empty((2, 2000))
    number = each_kernels.find_rivals(mean, error, kept_mean, kept_error)
    kept = each_kernels.keep_hull(mean, kept_mean, kept_error, number)
    assert kept < number / 2
    assert (np.diff(kept_mean[:kept]) < 0).all()
    slopes = np.diff(kept_mean[:kept]) / np.diff(kept_error[:kept])
    assert (np.diff(slopes) > 0).all()  # concave
