"""Rows scaled so that their products are correlations, and noise ceilings of several subjects."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Correlation = Literal["pearson", "spearman"]
Floats = NDArray[np.float64]


def standard(values: Floats, correlation: Correlation) -> Floats:
    """Rows, or their ranks for Spearman's, with mean 0 and length 1; NaN for a constant row."""
    if correlation == "spearman":
        ranked = rankdata(values, axis=1)
        values = np.where(np.isfinite(values), ranked, np.nan)
    # By a power of 2, which is exact: squares of very large and small numbers would be inf and 0.
    _, exponent = np.frexp(np.abs(values).max(axis=1, keepdims=True))
    values = np.ldexp(values, -exponent)
    centred = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # The mean of equal numbers may differ from them by rounding.
    constant = np.ptp(values, axis=1, keepdims=True) == 0
    with np.errstate(all="ignore"):
        return np.asarray(np.where(constant, np.nan, centred / length))


def noise_ceiling(
    values: Floats, correlation: Correlation
) -> tuple[float, float] | tuple[None, None]:
    """Bounds of the correlation that the best model could reach, for ``values [subject, item]``.

    Low: the mean correlation of a subject with the mean of the other subjects; high: with the mean
    of all (Nili et al. 2014, PLoS Computational Biology 10(4)). Subjects are standardised before
    they are averaged; for Spearman's their ranks are averaged, and ranked again.
    """
    if len(values) < 2:
        return None, None
    own = standard(values, correlation)
    parts = rankdata(values, axis=1) if correlation == "spearman" else own
    total = parts.sum(axis=0)

    def mean_correlation(models: Floats) -> float:
        return float(np.mean((own * standard(models, correlation)).sum(axis=1)))

    return mean_correlation(total - parts), mean_correlation(np.broadcast_to(total, own.shape))


def among(values: Floats, items: NDArray[np.bool_], are_rdms: bool) -> Floats:
    """The part of ``values [row, item]``, or ``[row, pair]``, among some ``items [item]``."""
    if not are_rdms:
        return values[:, items]
    first, second = np.triu_indices(len(items), 1)
    return values[:, items[first] & items[second]]
