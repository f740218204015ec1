"""Selectivity indices from means and moments: numpy formulas, one value per unit.

Responses may be negative: :func:`contrast_ratio` divides by absolute values, :func:`ratio` is NaN
for negative responses. A difference without variance is infinite, no difference is 0. NaN in, NaN
out. Callers silence numpy's warnings about division by 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, gammaln, ndtr

from .contrast import Floats
from .moments import Moments, variance


def contrast_ratio(a: Floats, b: Floats) -> Floats:
    """``(a - b) / (|a| + |b|)``, in [-1, 1]; 0 if both are 0.

    Equal to Michelson's (a - b) / (a + b) for responses of 0 or more.
    """
    size = np.abs(a) + np.abs(b)
    none = np.where(np.isnan(size), np.nan, 0.0)
    return np.asarray(np.divide(a - b, size, out=none, where=size > 0))


def ratio(a: Floats, b: Floats) -> Floats:
    """``a / b`` of non-negative responses: inf if only b is 0, 1 if both are, NaN if negative."""
    quotient = np.where((a == 0) & (b == 0), 1.0, a / b)
    return np.where((a < 0) | (b < 0), np.nan, quotient)


def d_prime(a: Moments, b: Moments) -> Floats:
    """``(m_a - m_b) / sqrt((v_a + v_b) / 2)``, v the unbiased variances.

    Vinken, Prince, Konkle & Livingstone (2023), Science Advances 9(35), for faces and non-faces.
    """
    return _standardised(a.mean - b.mean, (variance(a) + variance(b)) / 2)


def cohens_d(a: Moments, b: Moments) -> Floats:
    """Difference of means over the pooled standard deviation (Cohen 1988)."""
    return _standardised(a.mean - b.mean, (a.m2 + b.m2) / (a.count + b.count - 2))


def hedges_g(a: Moments, b: Moments) -> Floats:
    """Cohen's d, corrected for bias by the exact factor of Hedges (1981), J. Educ. Statist. 6(2).

    ``J = G(df/2) / (sqrt(df/2) G((df-1)/2))`` with the gamma function G and df = n_a + n_b - 2.
    """
    df = a.count + b.count - 2
    factor = np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    return np.asarray(cohens_d(a, b) * factor)


def auc_normal(a: Moments, b: Moments) -> Floats:
    """Area under the ROC curve of normal responses: ``Phi((m_a - m_b) / sqrt(v_a + v_b))``.

    The chance that a response to ``a`` exceeds one to ``b`` if both are normal, with unequal
    variances: Green & Swets (1966), Signal Detection Theory and Psychophysics; Simpson & Fitter
    (1973), Psychol. Bull. 80(6). It is ``Phi(d' / sqrt(2))``.
    """
    return np.asarray(ndtr(d_prime(a, b) / np.sqrt(2)))


def class_selectivity(mean: Floats) -> Floats:
    """Preferred category against the mean of all others, from ``mean [category, unit]``.

    Morcos et al. (2018, ICLR), ``(m_max - m_-max) / (m_max + m_-max)``, by :func:`contrast_ratio`.
    """
    best = mean.argmax(axis=0)
    others = np.where(np.arange(len(mean))[:, np.newaxis] == best, 0, mean)
    return contrast_ratio(mean.max(axis=0), others.sum(axis=0) / (len(mean) - 1))


def lifetime_sparseness(response: Floats) -> Floats:
    """Lifetime sparseness of ``response [stimulus, unit]``: 0 if all are equal, 1 for a single one.

    ``(1 - (sum r / n)**2 / (sum r**2 / n)) / (1 - 1/n)``: Rolls & Tovee (1995), J. Neurophysiol.
    73(2), in the form of Vinje & Gallant (2000), Science 287. Negative responses count as 0, as no
    firing. A unit without any response gets 0; NaN for a single stimulus.
    """
    rate = response.clip(0)
    best = rate.max(axis=0)
    rate /= np.where(best > 0, best, 1)  # squares of tiny responses would underflow
    mean = rate.mean(axis=0)
    square = np.square(rate, out=rate).mean(axis=0)
    share = np.divide(
        mean**2,
        square,
        out=np.where(np.isnan(square), np.nan, 1.0),
        where=square > 0,
    )
    return np.asarray(((1 - share) / (1 - 1 / len(rate))).clip(0, 1))  # clips rounding errors


def margin(mean: Floats) -> Floats:
    """Mean response to the best category minus the second best, from ``mean [category, unit]``."""
    first, second = np.partition(mean, -2, axis=0)[[-1, -2]]
    return np.asarray(first - second)


def one_way_anova(moments: Moments) -> tuple[Floats, Floats]:
    """F and eta squared ``[unit]`` over all categories of moments ``[category, unit]``.

    ``F = (B / (K - 1)) / (W / (N - K))`` and ``eta**2 = B / (B + W)`` with ``B = sum n (m - M)**2``
    between categories, ``W = sum M2`` within, and M the mean of all stimuli (Fisher 1925). Means
    are taken relative to the first category's, so that a large common mean costs no digits.
    """
    count = np.broadcast_to(moments.count, moments.mean.shape)
    shifted = moments.mean - moments.mean[0]
    grand = (count * shifted).sum(axis=0) / count.sum(axis=0)
    between = (count * (shifted - grand) ** 2).sum(axis=0)
    within = moments.m2.sum(axis=0)
    df_between, df_within = len(count) - 1, count.sum(axis=0) - len(count)
    constant = (between == 0) & (within == 0)
    f = np.where(constant, 0, (between / df_between) / (within / df_within))
    return f, np.where(constant, 0, between / (between + within))


def anova_p(f: Floats, count: NDArray[np.int64]) -> Floats:
    """Upper tail of F for categories of ``count [category]`` stimuli."""
    return np.asarray(fdtrc(len(count) - 1, count.sum() - len(count), f))


def _standardised(difference: Floats, variance: Floats) -> Floats:
    return np.where(difference == 0, 0.0 * variance, difference / np.sqrt(variance))
