"""Units under a criterion: looked at slab by slab, decided when all of a family has been seen.

Most conditions of a rule concern a unit alone and are decided at once. What depends on others (q,
the top of a layer) waits for the family's end; until then only what it needs is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ...kernels.pvalues import adjusted
from ..spec import MEASURE_TYPES
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


class Tail(NamedTuple):
    """The smaller p-values of a test: ``p`` of ``units``, of ``tests`` in all; the rest is 1."""

    units: NDArray[np.int32]
    p: Floats
    tests: int


@dataclass(frozen=True)
class Seen:
    """One test on one sample of the stimuli: what each condition of the rule needs of the units.

    Decided conditions have a mask; the top of a layer has values; q has the tail of p.
    """

    columns: dict[Condition, NDArray[Any]]
    tail: Tail | None


@dataclass(frozen=True)
class Look:
    """What was seen of some units, by ``[sample][test]``; ``kept`` values ``[contrast, unit]``."""

    seen: tuple[tuple[Seen, ...], ...]
    kept: dict[str, NDArray[Any]]
    dead: Mask
    nonfinite: Mask

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.dead)

    def part(self, start: int, stop: int) -> Look:
        """What was seen of the units from ``start`` to ``stop``, as if they were all."""

        def cut(seen: Seen) -> Seen:
            columns = {condition: c[start:stop] for condition, c in seen.columns.items()}
            if seen.tail is None:
                return Seen(columns, None)
            rows = slice(*np.searchsorted(seen.tail.units, (start, stop)))
            own = seen.tail.units[rows] - start
            return Seen(columns, Tail(own, seen.tail.p[rows], finite))

        finite = int(np.count_nonzero(~self.nonfinite[start:stop]))
        return Look(
            tuple(tuple(cut(seen) for seen in tests) for tests in self.seen),
            {name: values[:, start:stop] for name, values in self.kept.items()},
            self.dead[start:stop],
            self.nonfinite[start:stop],
        )


class Decided(NamedTuple):
    """The outcome for a layer: its selection, and what was kept, ``[contrast, unit]``."""

    selection: Selection
    kept: dict[str, NDArray[Any]]


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

    def look(self, slabs: Iterable[Sequence[Moments]]) -> Look:
        """Look at units, whose moments come slab by slab, those of every fold together."""
        with np.errstate(all="ignore"):  # constant units divide by 0, by the rules of the kernels
            return _joined([self._look(list(folds)) for folds in slabs])

    def decide(self, family: Sequence[Look]) -> list[Decided]:
        """Decide on every look; p is corrected over all of them together."""
        masks = [
            np.empty((len(look.seen), len(self._tests), look.units), np.bool_) for look in family
        ]
        q = [np.empty((len(self._tests), look.units), "float32") for look in family if self._keep_q]
        for sample, test in np.ndindex(masks[0].shape[:2]):
            seen = [look.seen[sample][test] for look in family]
            for i, rates in enumerate(self._corrected(seen)):
                masks[i][sample, test] = self._passes(seen[i], rates, family[i].nonfinite)
                tail = seen[i].tail
                if self._keep_q and sample == 0 and tail is not None:
                    q[i][test] = np.where(family[i].nonfinite, np.nan, 1)
                    q[i][test, tail.units] = rates
        decided = []
        for i, look in enumerate(family):
            chosen = np.stack([masks[i][:, group].all(axis=1) for group in self._groups])
            kept = dict(look.kept)
            if self._keep_q:
                kept[self._keep_q] = np.stack([q[i][group].max(axis=0) for group in self._groups])
            folds = chosen[:, 1:] if len(look.seen) > 1 else chosen
            decided.append(Decided(Selection(chosen[:, 0], folds, look.dead, look.nonfinite), kept))
        return decided

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
        samples = [Sample(moments) for moments in samples_of(folds)]
        measured = [self.measured(sample, index) for index, sample in enumerate(samples)]
        seen = [
            tuple(self._seen(one, self._level(index)) for one in tests)
            for index, tests in enumerate(measured)
        ]
        whole = samples[0]
        kept = {
            variable: self._values_kept(whole, test, measure)
            for variable, test, measure in self._kept
        }
        return Look(tuple(seen), kept, whole.total.m2 == 0, ~np.isfinite(whole.total.m2))

    def _seen(self, measured: Measured, level: float) -> Seen:
        columns: dict[Condition, NDArray[Any]] = {}
        for condition in self._conditions:
            if condition.measure != "q":
                values = measured.measure(condition.measure)
                columns[condition] = (
                    values if isinstance(condition, Top) else condition.holds(values)
                )
        if not self._asks_q:
            return Seen(columns, None)
        p = measured.p
        small = np.flatnonzero((p <= level) & (p < 1)).astype(np.int32)
        return Seen(columns, Tail(small, p[small], int(np.count_nonzero(~np.isnan(p)))))

    def _values_kept(self, sample: Sample, test: Test, measure: str) -> NDArray[Any]:
        criterion = replace(self._criterion, test=test)
        shares = _is_every_category(self._contrasts, len(sample.count))
        null_t = self._null_t[0] if self._null_t else [None] * len(self._contrasts)
        values = [
            Measured(sample, contrast, criterion, shares=shares, null_t=t).measure(measure)
            for contrast, t in zip(self._contrasts, null_t, strict=True)
        ]
        return np.stack(values).astype(MEASURE_TYPES.get(measure, "float32"))

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

    def _corrected(self, seen: Sequence[Seen]) -> list[Floats]:
        """The q's of the tails of a family: what was left out has larger p, and changes none."""
        tails = [one.tail for one in seen if one.tail is not None]
        if not tails:
            return [np.empty(0)] * len(seen)
        p = np.concatenate([tail.p for tail in tails])
        q = adjusted(p, self._criterion.correction, sum(tail.tests for tail in tails))
        return np.split(q, np.cumsum([len(tail.p) for tail in tails])[:-1])

    def _passes(self, seen: Seen, q: Floats, nonfinite: Mask) -> Mask:
        met: dict[Condition, Mask] = {}
        for condition in self._conditions:
            if isinstance(condition, Top):
                met[condition] = _top(seen.columns[condition], condition, ~nonfinite)
            elif isinstance(condition, Comparison) and condition.measure == "q":
                assert seen.tail is not None
                met[condition] = np.full(len(nonfinite), condition.holds(1.0))
                met[condition][seen.tail.units] = condition.holds(q)
            else:
                met[condition] = seen.columns[condition]
        passes: Mask = self._rule.decide(met) & ~nonfinite
        return passes


def samples_of(folds: Sequence[Moments]) -> list[Moments]:
    """What a criterion is tested on: all stimuli, then each of several folds."""
    return [reduce(merge, folds), *folds] if len(folds) > 1 else list(folds)


def _is_every_category(tests: Sequence[Contrast], categories: int) -> bool:
    """Whether each of several tests is of one category against all others."""
    return len(tests) > 1 and not any(
        test.weighted or len(test.target) > 1 or len(test.baseline) < categories - 1
        for test in tests
    )


def _top(values: Floats, top: Top, eligible: Mask) -> Mask:
    """The units with the largest values; of equals, those that come first."""
    chosen = np.zeros(len(values), np.bool_)
    ranked = np.argsort(-values, kind="stable")  # NaN last
    ranked = ranked[(eligible & ~np.isnan(values))[ranked]]
    chosen[ranked[: top.of(len(values))]] = True
    return chosen


def _joined(looks: Sequence[Look]) -> Look:
    """Looks at units that follow each other, as one."""
    if len(looks) == 1:
        return looks[0]
    starts = np.cumsum([0, *(look.units for look in looks[:-1])])

    def joined(parts: Sequence[Seen]) -> Seen:
        columns = {
            condition: np.concatenate([part.columns[condition] for part in parts])
            for condition in parts[0].columns
        }
        tails = [part.tail for part in parts if part.tail is not None]
        if not tails:
            return Seen(columns, None)
        units = [int(start) + tail.units for start, tail in zip(starts, tails, strict=True)]
        p = np.concatenate([tail.p for tail in tails])
        return Seen(columns, Tail(np.concatenate(units), p, sum(tail.tests for tail in tails)))

    return Look(
        tuple(
            tuple(joined(parts) for parts in zip(*tests, strict=True))
            for tests in zip(*(look.seen for look in looks), strict=True)
        ),
        {
            name: np.concatenate([look.kept[name] for look in looks], axis=-1)
            for name in looks[0].kept
        },
        np.concatenate([look.dead for look in looks]),
        np.concatenate([look.nonfinite for look in looks]),
    )
