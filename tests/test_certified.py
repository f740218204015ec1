"""NIST's certified reference data, and bounds on lost digits.

Values go through the kernels in random batches and groups, several units at once, and groups merge
in random trees. Results are compared with the certified values of the decimals and, in rational
arithmetic, with the doubles, float32 or bfloat16 values that went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusiform.kernels import jit
from fusiform.kernels.indices import one_way_anova
from fusiform.kernels.moments import variance

from .nist import ANOVA, UNIVARIATE, exact
from .nist.streams import REGIMES, cut, streamed
from .test_moments import BACK_ENDS, Cpu

UNITS = 11  # more than a cache line of doubles
SEEDS = (0, 1, 2)
PARTS = pytest.mark.parametrize("parts", [1, 6])

# Digits of the standard deviation. The doubles nearest to the decimals allow 9.4 of NumAcc3, 8.2 of
# NumAcc4, 13 of Mavro and Michelso; merging costs the last two up to one.
DIGITS_OF_SD = dict.fromkeys(UNIVARIATE, 14) | {
    "Mavro": 12, "Michelso": 12, "NumAcc3": 9, "NumAcc4": 8,
}  # fmt: skip
# Of F: the doubles of AtmWtAg and SmLs04 to 06 (about 1e6) allow 10, those of SmLs07 to 09 (about
# 1e12) 4. One or two more go because a treatment's mean is read out as one double.
DIGITS_OF_F = dict.fromkeys(ANOVA, 8) | {
    "SiRstv": 12, "SmLs01": 14, "SmLs02": 14, "SmLs03": 13, "SmLs07": 2, "SmLs08": 2, "SmLs09": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: on a busy machine a second one wakes too slowly for such small batches."""
    before = numba.get_num_threads()
    jit.use_threads(1)
    yield
    jit.use_threads(before)


@pytest.mark.parametrize("name", UNIVARIATE)
def test_univariate_data_equal_nists(name: str) -> None:
    values, mean, sd = UNIVARIATE[name]
    found = exact.moments(values)
    assert len(values) == {
        "PiDigits": 5000, "Lottery": 218, "Lew": 200, "Mavro": 50, "Michelso": 100, "NumAcc1": 3
    }.get(name, 1001)  # fmt: skip
    assert exact.digits(float(found.mean), mean) > 14.5
    assert exact.digits(float(found.m2 / (found.count - 1)), Fraction(sd) ** 2) > 14


@pytest.mark.parametrize("name", ANOVA)
def test_anova_data_equal_nists(name: str) -> None:
    treatments, f, r_squared = ANOVA[name]
    found_f, found_eta = exact.one_way_anova([exact.moments(values) for values in treatments])
    assert exact.digits(float(found_f), f) > 14.5
    assert exact.digits(float(found_eta), r_squared) > 14.5


@BACK_ENDS
@PARTS
@pytest.mark.parametrize("name", UNIVARIATE)
def test_univariate_results_equal_certified_values(
    back_end: type[Cpu], parts: int, name: str
) -> None:
    decimals, mean, sd = UNIVARIATE[name]
    values = np.array(decimals, np.float64)
    expected = exact.moments(values.tolist())
    bounds = exact.of_parts(values.tolist(), parts)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = streamed([values], back_end.run_groups, rng, UNITS, parts)
        assert found.count.item() == len(values)
        for found_mean, found_m2, found_sd in zip(
            found.mean[0], found.m2[0], np.sqrt(variance(found)[0]), strict=True
        ):
            assert exact.digits(found_mean, mean) > 14
            assert exact.digits(found_sd, sd) > DIGITS_OF_SD[name]
            assert abs(Fraction(found_mean) - expected.mean) <= bounds.mean
            assert abs(Fraction(found_m2) - expected.m2) <= bounds.m2
            if parts == 1:  # however large the mean
                assert exact.digits(found_m2, expected.m2) > 14


@BACK_ENDS
@PARTS
@pytest.mark.parametrize("name", ANOVA)
def test_one_way_anova_equals_certified_values(back_end: type[Cpu], parts: int, name: str) -> None:
    decimals, certified_f, r_squared = ANOVA[name]
    treatments = [np.array(values, np.float64) for values in decimals]
    groups = [exact.moments(values.tolist()) for values in treatments]
    expected, _ = exact.one_way_anova(groups)
    bound = exact.of_f([values.tolist() for values in treatments], parts)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = streamed(treatments, back_end.run_groups, rng, UNITS, parts)
        for f, eta_squared in zip(*one_way_anova(found), strict=True):
            assert exact.digits(f, certified_f) > DIGITS_OF_F[name]
            assert exact.digits(eta_squared, r_squared) > DIGITS_OF_F[name]
            assert exact.relative_error(f, expected) <= bound
        if parts == 1:
            for within, group in zip(found.m2, groups, strict=True):
                assert all(exact.digits(m2, group.m2) > 13.5 for m2 in within)


HALF_AND_SINGLE = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def assert_within_bounds(back_end: type[Cpu], x: torch.Tensor, seed: int, *units: int) -> None:
    """Check that ``x [stimulus, unit]``, split at random, stays within the derived bounds."""
    rng = np.random.default_rng(seed)
    found = back_end.run([x[torch.from_numpy(rows)] for rows in cut(len(x), rng)])
    for unit in units:
        values = x[:, unit].double().tolist()
        expected, bounds = exact.moments(values), exact.of_group(values)
        assert abs(Fraction(found.mean[unit]) - expected.mean) <= bounds.mean
        assert abs(Fraction(found.m2[unit]) - expected.m2) <= bounds.m2
        # The bounds, relative to the largest value and to M2.
        largest = max(map(abs, values))
        assert bounds.mean <= 2**-53 * (2 * len(values) + 6) * largest
        assert bounds.m2 <= 2**-53 * (3 * len(values) + 6) * len(values) * float(expected.m2)


@BACK_ENDS
@HALF_AND_SINGLE
@pytest.mark.parametrize("regime", REGIMES)
def test_moments_of_activations_stay_within_derived_bounds(
    back_end: type[Cpu], dtype: torch.dtype, regime: str
) -> None:
    x = REGIMES[regime](np.random.default_rng(0), (250, 36))
    assert_within_bounds(back_end, torch.from_numpy(x).to(dtype), 1, *range(0, 36, 7))


@BACK_ENDS
@HALF_AND_SINGLE
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    x=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 40), st.just(3)),
        elements=st.floats(-(2.0**126), 2.0**126, width=32),
    ),
    seed=st.integers(0, 2**31),
)
def test_moments_of_any_activations_stay_within_derived_bounds(
    back_end: type[Cpu], dtype: torch.dtype, x: np.ndarray, seed: int
) -> None:
    assert_within_bounds(back_end, torch.from_numpy(x).to(dtype), seed, 0, 1, 2)
