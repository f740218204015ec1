"""Units under a criterion: looked at slab by slab, decided when all of a family has been seen.

A rule that concerns a unit alone is decided at once. What depends on others (q, the top of a
layer) waits for the family's end. Until then it is kept, of q the smaller p: 12 bytes each, of
``each`` one for a unit and sample, however many categories there are. Of other conditions of such a
rule a byte is kept for every unit, sample and contrast, and of a top the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ...kernels.pvalues import adjusted
from ..variables import MEASURE_TYPES
from .language.contrast import Contrast, pairs
from .language.criterion import Criterion, Test
from .language.rule import Comparison, Condition, Top
from .measures import Floats, Measured, Sample

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Which units of a layer meet a criterion, units flat in the layer's order.

    ``selective [contrast, unit]`` on all stimuli; ``selective_fold [contrast, fold, unit]`` on each
    fold's stimuli alone; ``dead [unit]`` is constant over all stimuli; ``nonfinite [unit]`` gave
    NaN or infinity for some stimulus and is never selective.
    """

    selective: Mask
    selective_fold: Mask
    dead: Mask
    nonfinite: Mask


class Kept(NamedTuple):
    """A measure of all stimuli that is kept as ``variable``, by a test of its own."""

    variable: str
    test: Test
    measure: str


class Tails(NamedTuple):
    """The smaller p-values of every test on every sample: ``p`` of ``units``; the rest is 1.

    One after the other, each up to its ``stops [sample, test]``; of ``tests [sample, test]`` units
    in all.
    """

    units: NDArray[np.int32]
    p: Floats
    stops: NDArray[np.int64]
    tests: NDArray[np.int64]

    def part(self, sample: int, test: int) -> slice:
        """Where one test on one sample stands."""
        place = int(np.ravel_multi_index((sample, test), self.stops.shape))
        return slice(self.stops.flat[place - 1] if place else 0, self.stops.flat[place])


@dataclass
class Look:
    """What was seen of the units of a slab, for every sample of the stimuli and every test.

    ``columns [sample, test, unit]``: of decided conditions of the rule a mask, of the top of a
    layer the values. q has the tails of p, which become those of q when the family is settled.
    ``kept`` values are ``[contrast, unit]``.
    """

    columns: dict[Condition, NDArray[Any]]
    tails: Tails | None
    kept: dict[str, NDArray[Any]]
    dead: Mask
    nonfinite: Mask
    samples: int

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.dead)


class Decided(NamedTuple):
    """The outcome for a slab: its selection, and q ``[contrast, unit]`` if it is kept."""

    selection: Selection
    q: NDArray[np.float32] | None


class Examination:
    """A criterion on contrasts, ready to look at units and to decide.

    Measures that are ``kept`` are those of all stimuli; so is q, under the name ``keep_q``. p is
    exact where q is kept, else as far as the rule asks. ``null_t [sample][test]`` are the t's under
    shuffled labels that p_null compares with.
    """

    def __init__(
        self,
        criterion: Criterion,
        contrasts: Sequence[Contrast],
        kept: Sequence[Kept] = (),
        keep_q: str | None = None,
        null_t: Sequence[Sequence[Floats]] | None = None,
    ) -> None:
        self._criterion = criterion
        self._contrasts = contrasts
        self._rule = criterion.rule()
        self._conditions = tuple(dict.fromkeys(self._rule.conditions()))
        self._kept, self._keep_q = kept, keep_q
        self._null_t = null_t
        # The tests of every contrast: one, or one per pair.
        groups = [pairs(contrast) if criterion.pairwise else [contrast] for contrast in contrasts]
        self._tests = [test for group in groups for test in group]
        stops = np.cumsum([len(group) for group in groups])
        self._groups = [range(b - len(group), b) for b, group in zip(stops, groups, strict=True)]
        self._asks_q = keep_q is not None or any(c.measure == "q" for c in self._conditions)

    @property
    def waits(self) -> bool:
        """Whether all of a family has to be looked at before any unit can be decided on."""
        return self._asks_q or any(isinstance(condition, Top) for condition in self._conditions)

    def look(self, folds: Sequence[Moments]) -> Look:
        """Look at the units of a slab, given by their moments, one for every fold."""
        with np.errstate(all="ignore"):  # constant units divide by 0, by the rules of the kernels
            return self._look(folds)

    def settle(self, family: Sequence[Sequence[Look]]) -> None:
        """Correct p over all looks together, and find the top of each layer; in place.

        ``family`` has for every layer the looks at its slabs, in order.
        """
        looks = [look for layer in family for look in layer]
        for sample, test in np.ndindex(looks[0].samples, len(self._tests)):
            if self._asks_q:
                self._correct([look.tails for look in looks if look.tails], sample, test)
        for layer in family:
            for condition in self._conditions:
                if isinstance(condition, Top):
                    _find_top(layer, condition)

    def decide(self, look: Look) -> Decided:
        """Decide on the units of a slab, whose family is settled if it :attr:`waits`."""
        masks = np.empty((look.samples, len(self._tests), look.units), np.bool_)
        for sample, test in np.ndindex(masks.shape[:2]):
            masks[sample, test] = self._passes(look, sample, test)
        chosen = np.stack([masks[:, group].all(axis=1) for group in self._groups])
        folds = chosen[:, 1:] if look.samples > 1 else chosen
        selection = Selection(chosen[:, 0], folds, look.dead, look.nonfinite)
        return Decided(selection, self._rates(look) if self._keep_q else None)

    def measured(self, sample: Sample, index: int) -> list[Measured]:
        """Every test on a sample, the ``index``-th: 0 for all stimuli, then fold by fold."""
        shares = _is_every_category(self._tests, len(sample.count))
        null_t = self._null_t[index] if self._null_t else [None] * len(self._tests)
        level = self._level(index)
        return [
            Measured(sample, test, self._criterion, level=level, shares=shares, null_t=t)
            for test, t in zip(self._tests, null_t, strict=True)
        ]

    def _look(self, folds: Sequence[Moments]) -> Look:
        samples = samples_of(folds)
        units, shape = samples[0].mean.shape[1], (len(samples), len(self._tests))
        columns: dict[Condition, NDArray[Any]] = {
            condition: np.empty((*shape, units), float if isinstance(condition, Top) else np.bool_)
            for condition in self._conditions
            if condition.measure != "q"
        }
        tails: list[tuple[NDArray[np.int32], Floats, int]] = []
        for index, moments in enumerate(samples):
            sample = Sample(moments)
            if not index:
                total = sample.total
                kept = {
                    variable: self._values_kept(sample, test, measure)
                    for variable, test, measure in self._kept
                }
            for place, measured in enumerate(self.measured(sample, index)):
                for condition, column in columns.items():
                    values = measured.measure(condition.measure)
                    column[index, place] = (
                        values if isinstance(condition, Top) else condition.holds(values)
                    )
                if self._asks_q:
                    tails.append(_tail(measured.p, self._level(index)))
        joined = None
        if tails:
            own, p, tests = zip(*tails, strict=True)
            stops = np.cumsum([len(part) for part in own]).reshape(shape)
            joined = Tails(
                np.concatenate(own), np.concatenate(p), stops, np.array(tests).reshape(shape)
            )
        dead, nonfinite = total.m2 == 0, ~np.isfinite(total.m2)
        return Look(columns, joined, kept, dead, nonfinite, len(samples))

    def _values_kept(self, sample: Sample, test: Test, measure: str) -> NDArray[Any]:
        criterion = replace(self._criterion, test=test)
        shares = _is_every_category(self._contrasts, len(sample.count))
        null_t = self._null_t[0] if self._null_t else [None] * len(self._contrasts)
        dtype = MEASURE_TYPES.get(measure, "float32")
        values = np.empty((len(self._contrasts), sample.units), dtype)
        for row, contrast, t in zip(values, self._contrasts, null_t, strict=True):
            row[:] = Measured(sample, contrast, criterion, shares=shares, null_t=t).measure(measure)
        return values

    def _level(self, sample: int) -> float:
        """The p up to which it matters on a sample: that of the rule, or any."""
        asked = [c for c in self._conditions if c.measure in ("p", "log10_p", "q")]
        bounds = [
            c.value
            for c in asked
            if isinstance(c, Comparison) and c.sign in ("<", "<=") and c.measure != "log10_p"
        ]
        if (self._keep_q and sample == 0) or len(bounds) < len(asked):
            return 1.0
        return min(max(bounds, default=0.0), 1.0)

    def _correct(self, tails: Sequence[Tails], sample: int, test: int) -> None:
        """Turn p of a family into q: what was left out has larger p, and changes none."""
        parts = [own.p[own.part(sample, test)] for own in tails]
        size = sum(int(own.tests[sample, test]) for own in tails)
        q = adjusted(np.concatenate(parts), self._criterion.correction, size)
        start = 0
        for part in parts:
            part[:] = q[start : start + len(part)]
            start += len(part)

    def _passes(self, look: Look, sample: int, test: int) -> Mask:
        met: dict[Condition, Mask] = {}
        for condition in self._conditions:
            if isinstance(condition, Comparison) and condition.measure == "q":
                assert look.tails is not None
                part = look.tails.part(sample, test)
                met[condition] = np.full(look.units, condition.holds(1.0))
                met[condition][look.tails.units[part]] = condition.holds(look.tails.p[part])
            else:
                met[condition] = look.columns[condition][sample, test]
        passes: Mask = self._rule.decide(met) & ~look.nonfinite
        return passes

    def _rates(self, look: Look) -> NDArray[np.float32]:
        """The q of all stimuli ``[contrast, unit]``: of several tests the largest."""
        assert look.tails is not None
        q = np.empty((len(self._tests), look.units), np.float32)
        q[:] = np.where(look.nonfinite, np.nan, 1)
        for test, row in enumerate(q):
            part = look.tails.part(0, test)
            row[look.tails.units[part]] = look.tails.p[part]
        if len(self._groups) == len(self._tests):
            return q
        return np.stack([q[group].max(axis=0) for group in self._groups])


def _tail(p: Floats, level: float) -> tuple[NDArray[np.int32], Floats, int]:
    """The units with p up to a level, their p, and how many were tested."""
    small = np.flatnonzero((p <= level) & (p < 1)).astype(np.int32)
    return small, p[small], int(np.count_nonzero(~np.isnan(p)))


def samples_of(folds: Sequence[Moments]) -> list[Moments]:
    """What a criterion is tested on: all stimuli, then each of several folds."""
    return [reduce(merge, folds), *folds] if len(folds) > 1 else list(folds)


def _is_every_category(tests: Sequence[Contrast], categories: int) -> bool:
    """Whether each of several tests is of one category against all others."""
    return len(tests) > 1 and not any(
        test.weighted or len(test.target) > 1 or len(test.baseline) < categories - 1
        for test in tests
    )


def _find_top(layer: Sequence[Look], top: Top) -> None:
    """Turn values into masks of the largest of a layer; of equals, those that come first."""
    eligible = ~np.concatenate([look.nonfinite for look in layer])
    stops = np.cumsum([look.units for look in layer])[:-1]
    masks = [np.zeros(look.columns[top].shape, np.bool_) for look in layer]
    for sample, test in np.ndindex(masks[0].shape[:2]):
        values = np.concatenate([look.columns[top][sample, test] for look in layer])
        ranked = np.argsort(-values, kind="stable")  # NaN last
        ranked = ranked[(eligible & ~np.isnan(values))[ranked]]
        chosen = np.zeros(len(values), np.bool_)
        chosen[ranked[: top.of(len(values))]] = True
        for mask, own in zip(masks, np.split(chosen, stops), strict=True):
            mask[sample, test] = own
    for look, mask in zip(layer, masks, strict=True):
        look.columns[top] = mask
