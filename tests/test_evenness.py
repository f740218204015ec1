"""Entropy, Gini, Moran's I and the similarity of patterns against plain loops and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from fusiform.kernels.similarity import (
    correlation_distances,
    euclidean_distances,
    join,
    linear_cka,
    patterns_of,
)
from fusiform.kernels.spatial import (
    NEIGHBOURS,
    entropy_of_numbers,
    gini,
    gini_of_numbers,
    morans_i,
    normalised_entropy,
    share_of_numbers,
)

from . import reference

COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any)


@given(COUNTS)
def test_entropy_and_gini_equal_plain_loops(counts: list[int]) -> None:
    entropy = float(normalised_entropy(np.array(counts)))
    assert entropy == pytest.approx(reference.normalised_entropy(counts), abs=1e-12)
    assert entropy == pytest.approx(stats.entropy(counts) / np.log(len(counts)), abs=1e-12)
    assert float(gini(np.array(counts))) == pytest.approx(reference.gini(counts), abs=1e-12)


@given(COUNTS, st.randoms(), st.integers(1, 9))
def test_evenness_is_invariant_to_order_and_scale(counts: list[int], random, times: int) -> None:
    other = [times * count for count in counts]
    random.shuffle(other)
    for index in (normalised_entropy, gini):
        assert float(index(np.array(counts))) == pytest.approx(float(index(np.array(other))))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_evenness_from_numbers_of_locations_is_the_same(counts: list[int]) -> None:
    values, numbers = np.unique([one for one in counts if one], return_counts=True)
    given_ = values.astype(float), numbers.astype(float), len(counts)
    for own, other in (
        (gini_of_numbers(*given_), gini(np.array(counts))),
        (entropy_of_numbers(*given_), normalised_entropy(np.array(counts))),
        (share_of_numbers(*given_), np.mean(np.array(counts) > 0)),
    ):
        np.testing.assert_allclose(own, other, atol=1e-12)


def test_evenness_of_extreme_distributions() -> None:
    one, even = np.eye(20, dtype=int)[3] * 7, np.full(20, 7)
    assert normalised_entropy(np.stack([one, even])) == pytest.approx([0, 1])
    assert gini(np.stack([one, even])) == pytest.approx([0.95, 0])
    assert not np.signbit(normalised_entropy(one))
    # Undefined for no locations and for one.
    assert np.isnan([normalised_entropy(np.zeros(3)), gini(np.zeros(3))]).all()
    assert np.isnan(normalised_entropy(np.array([5])))


@given(
    arrays(float, (4, 5), elements=st.floats(0, 1, width=16)),
    arrays(bool, (4, 5)),
    st.sampled_from(sorted(NEIGHBOURS)),
)
def test_morans_i_equals_plain_loops(values, known, neighbours: str) -> None:
    found = morans_i(values, known, neighbours)
    try:
        with np.errstate(all="ignore"):
            expected = reference.morans_i(values, known, corners=neighbours == "queen")
    except ZeroDivisionError:  # no neighbours, or no deviations
        assert np.isnan(found)
        return
    if known.any() and np.ptp(values[known]) > 1e-3:
        assert float(found) == pytest.approx(expected, abs=1e-9)


def test_morans_i_of_patterns_with_known_answers() -> None:
    board = np.indices((6, 6)).sum(axis=0) % 2.0
    everywhere = np.ones((6, 6), bool)
    assert float(morans_i(board, everywhere, "rook")) == pytest.approx(-1)
    halves = np.repeat([[0.0], [1.0]], 3, axis=0) * np.ones((1, 6))
    # 60 pairs of neighbours, 6 of them across the border.
    assert float(morans_i(halves, everywhere, "rook")) == pytest.approx((54 - 6) / 60)
    assert morans_i(np.stack([board, halves]), everywhere, "rook").shape == (2,)
    # All locations equal, even if their mean is rounded.
    assert np.isnan(morans_i(np.full((6, 6), 0.1), everywhere, "queen"))


@given(
    arrays(float, (4, 9), elements=st.floats(-100, 100, width=16)),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_pattern_distances_do_not_depend_on_chunks(
    means: np.ndarray, first: int, second: int
) -> None:
    whole = patterns_of(means)
    joined = patterns_of(means[:, :0])
    for part in np.split(means, sorted([first, second]), axis=1):
        joined = join(joined, patterns_of(part))
    for one, other in zip(whole, joined, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-7)


def test_distances_equal_scipy_and_plain_loops() -> None:
    means = np.random.default_rng(0).normal(3, 1, (5, 40)) + np.arange(40)
    patterns = patterns_of(means)
    expected = squareform(pdist(means, "correlation"))
    np.testing.assert_allclose(correlation_distances(patterns), expected, atol=1e-13)
    assert correlation_distances(patterns)[1, 2] == pytest.approx(
        1 - reference.pearson(means[1], means[2])
    )
    np.testing.assert_allclose(
        euclidean_distances(patterns), squareform(pdist(means, "euclidean")), rtol=1e-10
    )


def test_distances_do_not_lose_digits_to_a_large_common_response() -> None:
    means = np.random.default_rng(0).normal(0, 1, (5, 40))
    np.testing.assert_allclose(
        euclidean_distances(patterns_of(means + 1e6)), squareform(pdist(means)), rtol=1e-8
    )


def test_patterns_that_do_not_vary_have_no_correlation() -> None:
    means = np.stack([np.full(9, 0.1), np.arange(9.0), np.arange(9.0) ** 2])
    found = correlation_distances(patterns_of(means))
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, 0]).all()
    assert found[1, 1] == 0
    assert np.isfinite(found[1:, 1:]).all()
    assert np.isnan(correlation_distances(patterns_of(np.zeros((3, 0))))).all()


def test_cka_equals_its_definition_by_units() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(5, 4))
    grams = patterns_of(a).gram, patterns_of(b).gram
    assert linear_cka(*grams) == pytest.approx(reference.linear_cka(a, b))
    rotation = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    assert linear_cka(grams[0], patterns_of(3 * a @ rotation + 2).gram) == pytest.approx(1)
    assert np.isnan(linear_cka(grams[0], patterns_of(np.ones((5, 3))).gram))
