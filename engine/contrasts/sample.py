"""Moments of a sample of the stimuli, and the values that contrasts share."""

from __future__ import annotations

from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ...kernels import contrast as tests
from ...kernels import each, indices, pvalues
from ...kernels.moments import Moments, merge

Floats = NDArray[np.float64]
# Values of every category whose p are computed at once: one call of a kernel, not one for each.
_AT_ONCE = 2**18


def least_t(level: float) -> float:
    """A bound on t below which p exceeds ``level``: the normal has the lightest tails."""
    return -float(ndtri(level)) if level < 1 else -np.inf


def p_of(t: Floats, df: Floats, least: float, two_sided: bool) -> Floats:
    """P of t; 1 where t, or its absolute value if two-sided, is not above ``least``."""
    p = np.where(np.isnan(t), np.nan, 1.0)
    extremity = np.abs(t) if two_sided else t
    large = extremity > least
    tail = pvalues.upper_tail(extremity[large], df[large])
    p[large] = np.minimum(2 * tail, 1) if two_sided else tail
    return p


class Sample:
    """Moments ``[category, unit]`` of a sample of the stimuli, and values shared by contrasts."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.count: NDArray[np.int64] = moments.count.ravel()
        self.mean: Floats = moments.mean
        self.m2: Floats = moments.m2
        self.units = moments.mean.shape[1]
        self._conjunction: tuple[float, Floats] | None = None
        self._rest_p: tuple[tuple[float, bool], Floats] | None = None

    @cached_property
    def total(self) -> Moments:
        """Moments over all categories; a unit constant within each may still vary across them."""
        return reduce(merge, (Moments(*group) for group in zip(*self.moments, strict=True)))

    @cached_property
    def against_rest(self) -> tuple[Floats, Floats]:
        """Welch's t and df ``[category, unit]`` of every category against the pooled rest."""
        t, df = np.empty_like(self.mean), np.empty_like(self.mean)
        tests.against_rest(self.count, self.mean, self.m2, t, df)
        return t, df

    def p_against_rest(self, least: float, two_sided: bool) -> Floats:
        """P ``[category, unit]`` of every category against the rest, where t is above ``least``."""
        if self._rest_p is None or self._rest_p[0] != (least, two_sided):
            t, df = self.against_rest
            p, step = np.empty_like(t), max(1, _AT_ONCE // max(1, self.units))
            for first in range(0, len(t), step):
                own = slice(first, first + step)
                p[own] = p_of(t[own], df[own], least, two_sided)
            self._rest_p = (least, two_sided), p
        return self._rest_p[1]

    @cached_property
    def against_each(self) -> Floats:
        """The smallest t ``[category, unit]`` of every category against each other category."""
        t = np.empty_like(self.mean)
        each.against_each(self.count, self.mean, self.m2, t)
        return t

    @cached_property
    def mean_of_others(self) -> Floats:
        """The mean of the other categories' means ``[category, unit]``."""
        return self.mean_of_others_than(slice(0, len(self.count)))

    def mean_of_others_than(self, categories: slice) -> Floats:
        """Rows of :attr:`mean_of_others`, bit for bit."""
        others = np.empty_like(self.mean[categories])
        tests.mean_of_others(self.mean, categories.start, others)
        return others

    @cached_property
    def others(self) -> Moments:
        """Pooled moments ``[category, unit]`` of all categories but each."""
        mean, m2 = np.empty((2, *self.mean.shape))
        tests.pool_others(self.count, self.mean, self.m2, mean, m2)
        return Moments(self.count.sum() - self.count, mean, m2)

    @cached_property
    def rest(self) -> list[Moments]:
        """The rows of :attr:`others`."""
        return [Moments(int(n), *own) for n, *own in zip(*self.others, strict=True)]

    @cached_property
    def preferred(self) -> NDArray[np.int64]:
        """The category with the largest mean ``[unit]``, the first of ties."""
        return np.asarray(self.mean.argmax(axis=0), np.int64)

    def conjunction(self, least: float) -> Floats:
        """P ``[unit]`` of the preferred category against each other, where t is above ``least``."""
        if self._conjunction is None or self._conjunction[0] != least:
            category, t, p = np.empty(self.units, np.int64), *np.empty((2, self.units))
            each.preferred_against_each(self.count, self.mean, self.m2, category, t)
            pvalues.conjunction(self.count, self.mean, self.m2, category, t, least, p)
            self._conjunction = least, p
        return self._conjunction[1]

    @cached_property
    def residual(self) -> Floats:
        """The sum of squared deviations of all stimuli from their category's mean ``[unit]``."""
        return np.asarray(self.m2.sum(axis=0))

    @cached_property
    def anova(self) -> tuple[Floats, Floats]:
        """F and eta squared."""
        return indices.one_way_anova(self.moments)
