"""t to p and q: tails of Student's distribution, conjunctions, false discovery rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from .contrast import Counts, Floats, squared_error, welch_df, welch_t
from .jit import inner, parallel
from .student import log10_upper_tail_of, upper_tail_of


@parallel
def _fill(tail: Floats, t: Floats, df: Floats) -> None:
    for index in prange(len(t)):
        tail[index] = upper_tail_of(t[index], df[index])


@parallel
def _fill_log10(tail: Floats, t: Floats, df: Floats) -> None:
    for index in prange(len(t)):
        tail[index] = log10_upper_tail_of(t[index], df[index])


def upper_tail(t: Floats, df: Floats) -> Floats:
    """One-sided p, ``P(T >= t)``, by :func:`.student.upper_tail_of`.

    Units without variance have no degrees of freedom (NaN): their p is 0 for a t above 0, else 1.
    """
    p = np.empty(t.shape)
    _fill(p.ravel(), t.ravel(), df.ravel())
    return p


def log10_upper_tail(t: Floats, df: Floats) -> Floats:
    """log10 of :func:`upper_tail`, also for a p too small for a double."""
    log_p = np.empty(t.shape)
    _fill_log10(log_p.ravel(), t.ravel(), df.ravel())
    return log_p


@inner
def _pair(count: Counts, mean: Floats, m2: Floats, target: int, other: int, unit: int) -> Any:
    """Welch's t and degrees of freedom of one category against another, for one unit."""
    error = squared_error(m2[target, unit], count[target])
    rest = squared_error(m2[other, unit], count[other])
    t = welch_t(mean[target, unit] - mean[other, unit], error + rest)
    return t, welch_df(error, count[target], rest, count[other])


@inner
def squared_deviate(t: float, df: float) -> float:
    """``df log(1 + t**2 / df)``, close to the square of the normal deviate z with the same p.

    Wallace (1959), "Bounds on normal approximations to Student's and the chi-square distributions",
    Ann. Math. Statist. 30(4): z**2 is at most this and, for df > 1/2, at least (1 - 1 / (2 df))
    times this.
    """
    return df * float(np.log1p(t * t / df))


@inner
def rival_bound(smallest_t: float, smallest_df: float) -> float:
    """An upper bound of :func:`squared_deviate`: ``log(1 + x) <= x / sqrt(1 + x)``."""
    square = smallest_t * smallest_t
    return float(square / np.sqrt(1 + square / smallest_df))


@inner
def may_be_rival(t: float, df: float, smallest_df: float, bound: float) -> bool:
    """Whether a simple bound fails to rule out a pair as a rival, see :func:`is_rival`.

    The bound is ``2 x / (2 + x) <= log(1 + x)``, and rules out most pairs. ``bound`` is the
    :func:`rival_bound` of the pair with the smallest t.
    """
    square = t * t
    return df < smallest_df and not (df - 0.5) * 2 * square / (2 * df + square) >= bound


@inner
def is_rival(t: float, df: float, smallest_t: float, smallest_df: float) -> bool:
    """Whether the p of a pair could exceed the p of the pair with the smallest t above 0.

    p falls with t and with the degrees of freedom, so the pair needs fewer of them, and a t that
    the bounds of :func:`squared_deviate` do not rule out.
    """
    if not may_be_rival(t, df, smallest_df, rival_bound(smallest_t, smallest_df)):
        return False
    deviate = squared_deviate(smallest_t, smallest_df)
    return bool((1 - 0.5 / df) * squared_deviate(t, df) < deviate)


@inner
def _largest_p(count: Counts, mean: Floats, m2: Floats, target: int, unit: int) -> float:
    """The largest p of a category against each other category, if all t are above 0."""
    smallest, smallest_df = np.inf, np.nan
    for other in range(len(count)):
        if other != target:
            t, df = _pair(count, mean, m2, target, other, unit)
            if t < smallest or (t == smallest and not df >= smallest_df):
                smallest, smallest_df = t, df
    p = upper_tail_of(smallest, smallest_df)
    for other in range(len(count)):
        if other != target:
            t, df = _pair(count, mean, m2, target, other, unit)
            if is_rival(t, df, smallest, smallest_df):
                p = max(p, upper_tail_of(t, df))
    return p


@parallel
def conjunction(
    count: Counts, mean: Floats, m2: Floats, category: Counts, t: Floats, least: float, p: Floats
) -> None:
    """One-sided p ``[unit]`` of a category against each other category: the largest p of all tests.

    ``category`` and ``t [unit]`` come from :func:`.each.preferred_against_each`. p is computed for
    t above ``least`` (0 or more) and set to 1 elsewhere, as t <= 0 means a p of at least 0.5. Only
    the tests that could have the largest p are evaluated.
    """
    for u in prange(len(p)):
        p[u] = np.nan if np.isnan(t[u]) else 1.0
        if t[u] > least:
            p[u] = _largest_p(count, mean, m2, category[u], u)


def adjusted(p: Floats, correction: str, family: int | None = None) -> Floats:
    """p-values ``[unit]`` corrected for multiple tests. NaN stays NaN and is not counted.

    ``family`` is the number of tests, if tests with larger p were left out. ``correction`` is

    - ``bh``: the false discovery rate, ``q_(i) = min over j >= i of p_(j) m / j``, for independent
      or positively dependent tests (Benjamini & Hochberg 1995, J. R. Statist. Soc. B 57(1));
    - ``by``: that times ``1 + 1/2 + ... + 1/m``, for any dependence (Benjamini & Yekutieli 2001,
      Ann. Statist. 29(4));
    - ``bonferroni``: the family-wise error rate, ``p m``;
    - ``none``: p unchanged.
    """
    size = np.count_nonzero(~np.isnan(p)) if family is None else family
    if correction == "none":
        return p
    if correction == "bonferroni":
        return np.minimum(p * size, 1)
    factor = float(np.sum(1 / np.arange(1, size + 1))) if correction == "by" else 1.0
    q = np.where(np.isnan(p), np.nan, 1.0)
    below = np.flatnonzero(p < 1)
    order = below[np.argsort(p[below])]  # equal p have equal q: their order does not matter
    scaled = p[order] * (size * factor / np.arange(1, order.size + 1))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q
