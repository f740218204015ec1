"""Upper tail of Student's t against mpmath, scipy, closed forms and the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from fusiform.kernels import pvalues, student

TINY = np.finfo(np.float64).tiny
FREEDOM = (
    *(1e-3, 0.1, 0.5, 1, 1.3, 2, 2.5, 3, 5.5, 9.2, 13.7, 20, 18.49, 18.5, 31.5, 33, 60),
    *(120.3, 478, 1e3, 1e4, 1e6, 1e8, 1e10, 1e12),
)
LARGE_T = (*np.geomspace(1e-10, 1e8, 37), *np.linspace(0.1, 40, 43), 1e20, 1e100, 1e200)

positive = st.floats(1e-8, 1e8)
freedom = st.floats(1e-2, 1e12)


def exact_tail(t: float, df: float) -> mpmath.mpf:
    """P(T >= t) for t >= 0, by the continued fraction or the central series."""
    t, df = mpmath.mpf(t), mpmath.mpf(df)
    a, half, x = df / 2, mpmath.mpf(1) / 2, df / (df + t * t)
    front = mpmath.exp(mpmath.loggamma(a + half) - mpmath.loggamma(a)) / mpmath.sqrt(mpmath.pi)
    front *= x**a * mpmath.sqrt(t * t / (df + t * t))
    if t < 1:
        return half - front * mpmath.hyp2f1(a + half, 1, 3 * half, t * t / (df + t * t))
    c, d, fraction = mpmath.inf, mpmath.mpf(1), front / (2 * a)
    for step in steps_of(a, x):  # Lentz (1976)
        d = 1 / (1 + step * d)
        c = 1 + step / c
        fraction *= c * d
        if abs(c * d - 1) < mpmath.mpf(10) ** -40:
            return fraction
    raise AssertionError


def steps_of(a: mpmath.mpf, x: mpmath.mpf) -> Iterator[mpmath.mpf]:
    """Coefficients of the continued fraction of I_x(a, 1/2), DLMF 8.17.23."""
    half = mpmath.mpf(1) / 2
    for m in range(10_000):
        if m:
            yield m * (half - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        yield -(a + m) * (a + half + m) * x / ((a + 2 * m) * (a + 2 * m + 1))


def edges(df: float) -> tuple[float, ...]:
    """t's on both sides of the change from the expansion to the series."""
    edge = math.sqrt(df * math.expm1(2))
    return edge * (1 - 1e-9), edge, edge * (1 + 1e-9)


@pytest.mark.smoke
@pytest.mark.parametrize("df", FREEDOM)
def test_the_errors_are_within_the_stated_bounds(df: float) -> None:
    grid = np.array([*LARGE_T, *edges(df)])
    tail = pvalues.upper_tail(grid, np.full_like(grid, df))
    log_tail = pvalues.log10_upper_tail(grid, np.full_like(grid, df))
    with mpmath.workdps(50):
        for t, p, log_p in zip(grid, tail, log_tail, strict=True):
            exact = exact_tail(float(t), df)
            bound = 2e-15 - 6e-16 * float(mpmath.log(exact))
            # Below the smallest normal double the spacing of doubles is constant.
            assert abs(mpmath.mpf(p) - exact) <= max(bound * exact, 2 * 5e-324), t
            assert bound <= 1e-12 or exact < TINY
            assert abs(log_p / mpmath.log10(exact) - 1) <= 3e-15, t


@pytest.mark.parametrize("most", [1.0, 10, 40, 500, 1e6])
def test_tails_equal_scipy(most: float) -> None:
    rng = np.random.default_rng(int(most))
    df = most * rng.uniform(0.01, 1, 20_000)
    t = rng.normal(0, 5, 20_000)
    p = pvalues.upper_tail(t, df)
    np.testing.assert_allclose(p, special.stdtr(df, -t), rtol=1e-12, atol=0)
    np.testing.assert_allclose(p, stats.t.sf(t, df), rtol=1e-12, atol=0)
    np.testing.assert_allclose(pvalues.log10_upper_tail(t, df), np.log10(p), rtol=1e-12, atol=1e-16)


@settings(deadline=None)
@given(positive, freedom)
def test_both_tails_sum_to_1(t: float, df: float) -> None:
    p, rest = student.upper_tail_of(t, df), student.upper_tail_of(-t, df)
    assert p <= 0.5 <= rest
    assert p + rest == pytest.approx(1, rel=1e-15)
    log_rest = student.log10_upper_tail_of(-t, df)
    assert log_rest == pytest.approx(math.log1p(-p) / math.log(10), rel=1e-14, abs=0)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), freedom, st.floats(1, 1.5))
def test_p_falls_with_t_and_for_positive_t_with_df(t: float, df: float, factor: float) -> None:
    p = student.upper_tail_of(t, df)
    slack = 1 + 2e-12
    farther = t * factor if t > 0 else t / factor
    assert student.upper_tail_of(farther, df) <= p * slack
    log_p = student.log10_upper_tail_of(t, df)
    assert student.log10_upper_tail_of(farther, df) <= log_p + 2e-12 * abs(log_p)
    assert student.upper_tail_of(abs(t), df * factor) <= student.upper_tail_of(abs(t), df) * slack


@settings(deadline=None)
@given(st.floats(1e-8, 1e150))
def test_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    cauchy = math.atan2(1, t) / math.pi
    assert student.upper_tail_of(t, 1.0) == pytest.approx(cauchy, rel=1e-12, abs=0)
    root = math.hypot(math.sqrt(2), t)
    assert student.upper_tail_of(t, 2.0) == pytest.approx(1 / root / (root + t), rel=1e-12, abs=0)


@settings(deadline=None)
@given(st.floats(-37, 37), st.sampled_from([1e20, 1e250, math.inf]))
def test_endless_degrees_of_freedom_give_the_normal_distribution(t: float, df: float) -> None:
    normal = math.erfc(t / math.sqrt(2)) / 2
    assert student.upper_tail_of(t, df) == pytest.approx(normal, rel=1e-12, abs=0)
    logs = student.log10_upper_tail_of(t, df), special.log_ndtr(-t) / math.log(10)
    assert logs[0] == pytest.approx(logs[1], rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [
        *((0.0, 3.0, 0.5), (-0.0, 0.1, 0.5), (0.0, math.inf, 0.5)),
        *((math.inf, 3.0, 0), (-math.inf, 3.0, 1), (math.inf, math.inf, 0)),
        *((2.0, math.nan, 0), (0.0, math.nan, 1), (-2.0, math.nan, 1)),
        *((math.inf, math.nan, 0), (-math.inf, math.nan, 1)),
        *((math.nan, 3.0, math.nan), (math.nan, math.nan, math.nan)),
        *((2.0, 0.0, math.nan), (2.0, -1.0, math.nan)),
        *((1e200, 3.0, 0.0), (-1e200, 3.0, 1), (1e-200, 3.0, 0.5)),
    ],
)
def test_limits_and_undefined_values(t: float, df: float, p: float) -> None:
    values = np.array([t]), np.array([df])
    assert pvalues.upper_tail(*values) == pytest.approx(p, rel=0, abs=0, nan_ok=True)
    log_p = pvalues.log10_upper_tail(*values)[0]
    if p or df != 3 or math.isinf(t):
        with np.errstate(divide="ignore"):
            assert log_p == pytest.approx(float(np.log10(p)), rel=1e-15, nan_ok=True)
    else:
        assert log_p == pytest.approx(-600 + math.log10(special.stdtr(3, -1e3) * 1e9), rel=1e-6)


def test_every_kernel_gives_the_same_bits() -> None:
    t, df = np.random.default_rng(1).uniform(0.1, 60, size=(2, 20_000))
    alone = [student.upper_tail_of(*pair) for pair in zip(t, df, strict=True)]
    np.testing.assert_array_equal(pvalues.upper_tail(t, df), alone)
    alone = [student.log10_upper_tail_of(*pair) for pair in zip(t, df, strict=True)]
    np.testing.assert_array_equal(pvalues.log10_upper_tail(t, df), alone)


def test_any_layout_of_an_array_is_taken() -> None:
    t, df = np.random.default_rng(0).normal(size=(2, 6, 4)) ** 2 + 1
    expected = [
        [student.upper_tail_of(*pair) for pair in zip(*row, strict=True)]
        for row in zip(t, df, strict=True)
    ]
    np.testing.assert_array_equal(pvalues.upper_tail(t, df), expected)
    np.testing.assert_array_equal(pvalues.upper_tail(t.T, df.T), np.transpose(expected))
    assert pvalues.upper_tail(t[:0], df[:0]).shape == (0, 4)


def test_polynomials_are_as_exact_as_they_say() -> None:
    with mpmath.workdps(40):
        for u in np.linspace(0.01, 3, 50):
            half = mpmath.mpf(u) / 2
            value = mpmath.polyval(student._CORRECTION[::-1], mpmath.mpf(u) ** 2)
            assert abs(value - mpmath.sqrt(half / mpmath.sinh(half))) < 2e-17
        for x in np.geomspace(1e-3, 1e3, 50):
            x = mpmath.mpf(x)
            value = mpmath.polyval(student._ERFCX[::-1], (x - 3.5) / (x + 3.5))
            exact = (1 + 2 * x) * mpmath.exp(x * x) * mpmath.erfc(x)
            assert abs(value - exact) < 1e-16
