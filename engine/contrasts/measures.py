"""Measures of units under a contrast: statistics and indices, computed lazily from moments.

Values are float64 ``[unit]``. Formulas are in ``kernels/``; ``registry.MEASURES`` describes the
measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels import contrast as tests
from ...kernels import each, indices, pvalues
from ...kernels.moments import Moments
from .language.contrast import Contrast
from .language.criterion import Criterion, test_of
from .sample import Floats, Sample, least_t, p_of

# Relative difference of equal t's whose moments were merged in another order.
_ROUNDING = 1e-12


class Measured:
    """Measures of a contrast on a sample, under a criterion; each is computed on first use.

    p is exact up to ``level``; a larger p may be given as 1. ``shared`` states that every category
    is tested against all others, so that they share their work. ``null_t`` are the sorted t's of
    this contrast under shuffled labels.
    """

    def __init__(
        self,
        sample: Sample,
        contrast: Contrast,
        criterion: Criterion,
        *,
        level: float = 1.0,
        shared: bool = False,
        null_t: Floats | None = None,
    ) -> None:
        self._sample = sample
        self._contrast = contrast
        self._test = test_of(contrast, criterion)
        self._two_sided = criterion.sides == 2
        self._least = least_t(level / 2 if self._two_sided and level < 1 else level)
        self._shared = shared
        self._null_t = null_t

    def measure(self, name: str) -> NDArray[Any]:
        """A measure of ``registry.MEASURES`` that does not depend on other units."""
        return _MEASURES[name](self)

    # t, p

    @cached_property
    def t(self) -> Floats:
        """t; for two-sided ``each`` the t nearest to 0, and 0 if signs differ."""
        if self._test != "each":
            return self._t_and_df[0]
        up = self._against_each(1)
        if not self._two_sided:
            return up
        return np.where(up > 0, up, -np.maximum(self._against_each(-1), 0))

    @cached_property
    def extremity(self) -> Floats:
        """t, or its absolute value if two-sided: p decreases with it."""
        return np.abs(self.t) if self._two_sided else self.t

    @cached_property
    def p(self) -> Floats:
        """p; for ``each`` the largest p of its tests, and 1 if one of them has t <= 0."""
        if self._test == "each":
            p = self._conjunction(1)
            return np.minimum(2 * np.minimum(p, self._conjunction(-1)), 1) if self._two_sided else p
        if self._test == "rest" and self._shared:
            p = self._sample.p_against_rest(self._least, self._two_sided)
            return np.asarray(p[self._contrast.target[0]])
        return p_of(*self._t_and_df, self._least, self._two_sided)

    @cached_property
    def log10_p(self) -> Floats:
        """log10 of p, computed from t where p underflows."""
        with np.errstate(divide="ignore"):
            log_p = np.log10(self.p)
        tiny = np.flatnonzero(np.isfinite(self.t) & (self.p < np.finfo(np.float64).tiny))
        if self._test == "each":
            tails = np.stack(list(self._log_tails_of_pairs(tiny))).max(axis=0)
        else:
            t, df = self._t_and_df
            tails = pvalues.log10_upper_tail(np.abs(t[tiny]), df[tiny])
        log_p[tiny] = tails + (np.log10(2) if self._two_sided else 0)
        return log_p

    def _log_tails_of_pairs(self, units: NDArray[np.int64]) -> Iterator[Floats]:
        """log10 of the one-sided p of the target against each baseline category, for ``units``."""
        rows, target = self._rows(1)
        groups = [
            Moments(int(count), mean[units], m2[units])
            for count, mean, m2 in zip(*rows, strict=True)
        ]
        own = groups.pop(target)
        for other in groups:
            t, df = np.empty((2, len(units)))
            tests.welch(*own, *other, t, df)
            yield pvalues.log10_upper_tail(np.abs(t), df)

    @cached_property
    def p_null(self) -> Floats:
        """P under shuffled labels, counting the unit itself (Phipson & Smyth 2010).

        t's that differ only by rounding count as equal.
        """
        assert self._null_t is not None
        own = self.extremity
        slack = np.where(np.isfinite(own), _ROUNDING * np.maximum(np.abs(own), 1), 0)
        as_large = len(self._null_t) - np.searchsorted(self._null_t, own - slack, side="left")
        return np.where(np.isnan(self.t), np.nan, (as_large + 1) / (len(self._null_t) + 1))

    @cached_property
    def _t_and_df(self) -> tuple[Floats, Floats]:
        if self._test == "rest" and self._shared:
            (category,) = self._contrast.target
            t, df = self._sample.against_rest
            return t[category], df[category]
        t, df = np.empty(self._sample.units), np.empty(self._sample.units)
        sample = self._sample
        if self._test == "weighted":
            tests.weighted(self._weights, sample.count, sample.mean, sample.m2, t, df)
        elif self._test == "glm":
            tests.glm(self._weights, sample.count, sample.mean, sample.residual, t, df)
        else:
            test = tests.welch if self._test == "rest" else tests.student
            test(*self._target, *self._baseline, t, df)
        return t, df

    def _against_each(self, sign: int) -> Floats:
        if self._shared and sign > 0:
            return np.asarray(self._sample.against_each[self._contrast.target[0]])
        rows, target = self._rows(sign)
        t = np.empty(self._sample.units)
        each.one_against_each(*rows, target, t)
        return t

    def _conjunction(self, sign: int) -> Floats:
        least = max(self._least, 0.0)  # p is 1 below it
        if self._shared and sign > 0:
            p = self._sample.conjunction(least)
            mine = (self._sample.preferred == self._contrast.target[0]) | np.isnan(p)
            return np.where(mine, p, 1.0)
        rows, target = self._rows(sign)
        t = self._against_each(sign)
        p = np.empty_like(t)
        pvalues.conjunction(*rows, np.full(len(t), target), t, least, p)
        return p

    def _rows(self, sign: int) -> tuple[tuple[NDArray[np.int64], Floats, Floats], int]:
        """Moments of the target and of each baseline category, and the target's row."""
        sample, category = self._sample, self._contrast.category
        if category is not None:
            return (sample.count, sign * sample.mean, sample.m2), category
        pooled, rows = self._target, list(self._contrast.baseline)
        count = np.array([pooled.count, *sample.count[rows]])
        mean = np.stack([pooled.mean, *sample.mean[rows]])
        return (count, sign * mean, np.stack([pooled.m2, *sample.m2[rows]])), 0

    # The two sides

    @cached_property
    def _target(self) -> Moments:
        """All stimuli of the target's categories."""
        return self._pooled(self._contrast.target, ())

    @cached_property
    def _baseline(self) -> Moments:
        """All stimuli of the baseline's categories."""
        first = self._contrast.target[0]
        if self._shared:
            return self._sample.rest[first]
        baseline = self._contrast.baseline
        before = [k for k in baseline if k < first]
        return self._pooled(before, [k for k in baseline if k > first])

    def _pooled(self, before: Sequence[int], after: Sequence[int]) -> Moments:
        sample = self._sample
        if len(before) == 1 and not after:
            return Moments(
                int(sample.count[before[0]]), sample.mean[before[0]], sample.m2[before[0]]
            )
        mean, m2 = np.empty(sample.units), np.empty(sample.units)
        members = np.array(before, np.int64), np.array(after, np.int64)
        tests.pool(sample.count, sample.mean, sample.m2, *members, mean, m2)
        return Moments(int(sum(sample.count[rows].sum() for rows in members)), mean, m2)

    @cached_property
    def _weights(self) -> Floats:
        contrast, weights = self._contrast, np.zeros(len(self._sample.count))
        weights[[*contrast.target, *contrast.baseline]] = contrast.weights
        return weights

    @cached_property
    def response(self) -> Floats:
        """The mean of the target's category means."""
        return self._mean_of_means(self._contrast.target)

    @cached_property
    def baseline_response(self) -> Floats:
        """The mean of the baseline's category means."""
        if self._is_one_of_many:  # sums in another order, which costs less for many categories
            (target,) = self._contrast.target
            if self._shared:
                return np.asarray(self._sample.mean_of_others[target])
            own = slice(target, target + 1)
            return np.asarray(self._sample.mean_of_others_than(own)[0])
        return self._mean_of_means(self._contrast.baseline)

    @property
    def _is_one_of_many(self) -> bool:
        """Whether the contrast is one of many categories against all others."""
        return self._contrast.category is not None and len(self._sample.count) > each.FEW

    def _mean_of_means(self, categories: Sequence[int]) -> Floats:
        """Mean by deviations from the first, so that equal means give exactly that mean."""
        if len(categories) == 1:  # skip the weights, which are slow for many categories
            return np.asarray(self._sample.mean[categories[0]] + 0.0)
        mean = self._sample.mean[list(categories)]
        weights = np.abs(self._weights[list(categories)])
        shares = (weights / weights.sum())[1:, np.newaxis]
        return np.asarray(mean[0] + (shares * (mean[1:] - mean[0])).sum(axis=0))

    def _clamped(self) -> Floats:
        responses = self.response.clip(0), self.baseline_response.clip(0)
        return indices.contrast_ratio(*responses)

    def _strongest(self) -> Floats:
        return np.asarray(self._sample.mean[list(self._contrast.baseline)].max(axis=0))

    @cached_property
    def preferred(self) -> NDArray[np.bool_]:
        """Whether the unit's largest mean response is to a target category."""
        return np.isin(self._sample.preferred, self._contrast.target)


# Indices of the moments of two sides, which may have a count for every unit.
POOLED: dict[str, Callable[[Moments, Moments], Floats]] = {
    "csi_pooled": lambda a, b: indices.contrast_ratio(a.mean, b.mean),
    "d_prime": indices.d_prime,
    "cohens_d": indices.cohens_d,
    "hedges_g": indices.hedges_g,
    "auc_normal": indices.auc_normal,
}


def _of_sides(index: Callable[[Moments, Moments], Floats], x: Measured) -> Floats:
    return index(x._target, x._baseline)


_MEASURES: dict[str, Callable[[Measured], NDArray[Any]]] = {
    "t": lambda x: x.t,
    "p": lambda x: x.p,
    "log10_p": lambda x: x.log10_p,
    "p_null": lambda x: x.p_null,
    "csi": lambda x: indices.contrast_ratio(x.response, x.baseline_response),
    "csi_strongest": lambda x: indices.contrast_ratio(x.response, x._strongest()),
    "csi_clamped": lambda x: x._clamped(),
    "ratio": lambda x: indices.ratio(x.response, x.baseline_response),
    "log_ratio": lambda x: np.log2(indices.ratio(x.response, x.baseline_response)),
    "response": lambda x: x.response,
    "baseline_response": lambda x: x.baseline_response,
    "f": lambda x: x._sample.anova[0],
    "p_f": lambda x: indices.anova_p(x._sample.anova[0], x._sample.count),
    "eta_squared": lambda x: x._sample.anova[1],
    "class_selectivity": lambda x: indices.class_selectivity(x._sample.mean),
    "category_sparseness": lambda x: indices.lifetime_sparseness(x._sample.mean),
    "margin": lambda x: indices.margin(x._sample.mean),
    "preferred": lambda x: x.preferred,
    "preferred_category": lambda x: x._sample.preferred,
    **{name: partial(_of_sides, index) for name, index in POOLED.items()},
}
