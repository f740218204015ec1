"""Evaluation of a criterion, slab by slab, with decisions once a whole family is known.

Conditions on a unit alone are decided at once. Conditions that depend on other units (q, the top)
wait for the end of the family. Until then, q keeps the smaller p-values: 12 bytes each, for
``each`` at most one per unit and sample, however many categories there are. The top of a layer
keeps all values of the layer, the top of the model those that lead so far; other conditions of such
a rule keep a byte per unit, sample and contrast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, folds_of, merge
from ...kernels.pvalues import adjusted
from ..registry import MEASURE_TYPES
from .language.contrast import Contrast, pairs
from .language.criterion import Criterion, Test
from .language.rule import Comparison, Condition, Top
from .measures import Measured
from .sample import Floats, Sample
from .selectivity import SCANNED, evaluate_every_category
from .slab import Decision, Mask, Selection, SlabValues, SmallPValues, StoredMeasure
from .top import TopOfModel, find_top


class Evaluation:
    """Evaluates a criterion on contrasts, slab by slab.

    ``stored`` measures are computed on all stimuli, and so is q if ``stores_q``. p is exact where q
    is stored, else only as far as the rule needs.
    """

    def __init__(
        self,
        criterion: Criterion,
        contrasts: Sequence[Contrast],
        stored: Sequence[StoredMeasure] = (),
        stores_q: bool = False,
    ) -> None:
        self._criterion = criterion
        self._contrasts = contrasts
        self._rule = criterion.rule()
        self._conditions = tuple(dict.fromkeys(self._rule.conditions()))
        self._tops = [one for one in self._conditions if isinstance(one, Top)]
        self._stored, self._stores_q = stored, stores_q
        # Extremity of t under shuffled labels, [sample][test].
        self._null_t: list[list[Floats]] = []
        # The tests of every contrast: one, or one per pair.
        groups = [pairs(contrast) if criterion.pairwise else [contrast] for contrast in contrasts]
        self._tests = [test for group in groups for test in group]
        self._firsts = np.cumsum([0, *(len(group) for group in groups[:-1])])
        self._needs_q = stores_q or any(c.measure == "q" for c in self._conditions)
        self._in_one_pass = (
            (criterion.test, criterion.sides, criterion.pairwise) == ("each", 1, False)
            and all(c.measure == "q" and isinstance(c, Comparison) for c in self._conditions)
            and self._needs_q
            and tuple(stored) in ((), SCANNED)
        )
        # Number of categories if there is one test for every one, in order.
        number = len(self._tests)
        in_order = [test.category for test in self._tests] == list(range(number))
        self._every = number if number > 1 and in_order else 0

    @property
    def needs_family(self) -> bool:
        """Whether a decision on any unit needs the values of its whole family."""
        return self._needs_q or bool(self._tops)

    @property
    def needs_model(self) -> bool:
        """Whether a decision on any unit needs the values of all layers."""
        return self.needs_family and self._criterion.spans_model

    @property
    def needs_shuffles(self) -> bool:
        """Whether units are compared with shuffled labels."""
        measures = (one.measure for one in (*self._conditions, *self._stored))
        return "p_null" in measures

    def with_shuffles(self, folds: Sequence[Moments]) -> Evaluation:
        """Return an evaluation that compares with a layer's moments under shuffled labels.

        Parameters
        ----------
        folds : of every fold, ``[category, unit and shuffle]``
        """
        null_t = []
        with np.errstate(all="ignore"):
            for index, moments in enumerate(samples_of(folds)):
                found = (one.extremity for one in self.measured(Sample(moments), index))
                null_t.append([np.sort(values[~np.isnan(values)]) for values in found])
        own = copy(self)
        own._null_t = null_t
        return own

    def evaluate(self, moments: Moments) -> SlabValues:
        """Evaluate the units of a slab.

        Parameters
        ----------
        moments : ``count [fold, category, 1]``, ``mean, m2 [fold, category, unit]``
        """
        folds, categories, _ = moments.mean.shape
        if self._in_one_pass and self._every == categories:
            levels = [self._level(sample) for sample in range(folds + 1 if folds > 1 else 1)]
            return evaluate_every_category(moments, levels, bool(self._stored))
        with np.errstate(all="ignore"):  # constant units divide by 0, by the rules of the kernels
            return self._evaluate(folds_of(moments))

    def settle(self, family: Iterable[Iterable[SlabValues]], units: int) -> list[list[SlabValues]]:
        """Correct p over a family, and find the top of each layer and of the model.

        Parameters
        ----------
        family : the slabs of every layer, in order; they are read once, changed and returned
        units : number of units of the family
        """
        of_model = [TopOfModel(top, units) for top in self._tops if top.family == "model"]
        layers: list[list[SlabValues]] = []
        for slabs in family:
            layer = []
            for slab in slabs:
                for model in of_model:
                    model.add(slab)
                layer.append(slab)
            for top in self._tops:
                if top.family == "layer":
                    find_top(layer, top)
            layers.append(layer)
        whole = [slab for layer in layers for slab in layer]
        for model in of_model:
            model.settle(whole)
        if self._needs_q:
            for tested in layers if self._criterion.family == "layer" else [whole]:
                small = [slab.small_p for slab in tested if slab.small_p]
                for sample in range(tested[0].samples):
                    self._correct(small, sample)
        return layers

    def decide(self, slab: SlabValues) -> Decision:
        """Decide on the units of a slab, after :meth:`settle` if it :attr:`needs_family`."""
        masks = np.empty((len(self._tests), slab.samples, slab.units), np.bool_)
        for sample in range(slab.samples):
            masks[:, sample] = self._passes(slab, sample)
        chosen = self._by_contrast(np.logical_and, masks)
        folds = chosen[:, 1:] if slab.samples > 1 else chosen
        selection = Selection(chosen[:, 0], folds, slab.dead, slab.nonfinite)
        return Decision(selection, self._q(slab) if self._stores_q else None)

    def measured(self, sample: Sample, index: int) -> list[Measured]:
        """Every test on the ``index``-th sample: 0 for all stimuli, then fold by fold."""
        shared = _is_every_category(self._tests)
        null_t = self._null_t[index] if self._null_t else [None] * len(self._tests)
        level = self._level(index)
        return [
            Measured(sample, test, self._criterion, level=level, shared=shared, null_t=t)
            for test, t in zip(self._tests, null_t, strict=True)
        ]

    def _evaluate(self, folds: Sequence[Moments]) -> SlabValues:
        samples = samples_of(folds)
        units, shape = samples[0].mean.shape[1], (len(samples), len(self._tests))
        columns: dict[Condition, NDArray[Any]] = {
            condition: np.empty((*shape, units), float if isinstance(condition, Top) else np.bool_)
            for condition in self._conditions
            if condition.measure != "q"
        }
        small: list[tuple[NDArray[np.int32], Floats, int]] = []
        for index, moments in enumerate(samples):
            sample = Sample(moments)
            if not index:
                total = sample.total
                stored = {
                    variable: self._stored_values(sample, test, measure)
                    for variable, test, measure in self._stored
                }
            for number, measured in enumerate(self.measured(sample, index)):
                for condition, column in columns.items():
                    values = measured.measure(condition.measure)
                    column[index, number] = (
                        values if isinstance(condition, Top) else condition.holds(values)
                    )
                if self._needs_q:
                    small.append(_small_p(measured.p, self._level(index)))
        small_p = None
        if small:
            own, p, tested = zip(*small, strict=True)
            stops = np.cumsum([len(part) for part in own]).reshape(shape)
            small_p = SmallPValues(
                np.concatenate(own), np.concatenate(p), stops, np.array(tested).reshape(shape)
            )
        dead, nonfinite = total.m2 == 0, ~np.isfinite(total.m2)
        return SlabValues(columns, small_p, stored, dead, nonfinite, len(samples))

    def _stored_values(self, sample: Sample, test: Test, measure: str) -> NDArray[Any]:
        criterion = replace(self._criterion, test=test)
        shared = _is_every_category(self._contrasts)
        null_t = self._null_t[0] if self._null_t else [None] * len(self._contrasts)
        dtype = MEASURE_TYPES.get(measure, "float32")
        values = np.empty((len(self._contrasts), sample.units), dtype)
        for row, contrast, t in zip(values, self._contrasts, null_t, strict=True):
            row[:] = Measured(sample, contrast, criterion, shared=shared, null_t=t).measure(measure)
        return values

    def _level(self, sample: int) -> float:
        """The level up to which the rule needs exact p on a sample."""
        conditions = [c for c in self._conditions if c.measure in ("p", "log10_p", "q")]
        bounds = [
            c.value
            for c in conditions
            if isinstance(c, Comparison) and c.sign in ("<", "<=") and c.measure != "log10_p"
        ]
        if (self._stores_q and sample == 0) or len(bounds) < len(conditions):
            return 1.0
        return min(max(bounds, default=0.0), 1.0)

    def _correct(self, slabs: Sequence[SmallPValues], sample: int) -> None:
        """Turn p of a family into q, in place; omitted p are larger and change nothing."""
        sizes = sum(slab.tested[sample] for slab in slabs)
        starts, stops = np.swapaxes([slab.bounds(sample) for slab in slabs], 0, 1)
        # Most of many categories are preferred by no unit: nothing to correct.
        for test in np.flatnonzero((stops > starts).any(axis=0)):
            bounds = zip(slabs, starts[:, test], stops[:, test], strict=True)
            parts = [slab.p[first:stop] for slab, first, stop in bounds]
            q = adjusted(np.concatenate(parts), self._criterion.correction, int(sizes[test]))
            start = 0
            for part in parts:
                part[:] = q[start : start + len(part)]
                start += len(part)

    def _passes(self, slab: SlabValues, sample: int) -> Mask:
        """Whether the units pass each test on a sample ``[test, unit]``."""
        met: dict[Condition, Mask] = {}
        for condition in self._conditions:
            if isinstance(condition, Comparison) and condition.measure == "q":
                assert slab.small_p is not None
                met[condition] = np.full((len(self._tests), slab.units), condition.holds(1.0))
                for test, units, q in slab.small_p.of(sample):
                    met[condition][test, units] = condition.holds(q)
            elif condition in slab.leading:
                met[condition] = np.zeros((len(self._tests), slab.units), np.bool_)
                for test, mask in enumerate(met[condition]):
                    mask[slab.leading[condition][sample, test]] = True
            else:
                met[condition] = slab.columns[condition][sample]
        passes: Mask = self._rule.decide(met) & ~slab.nonfinite
        return passes

    def _q(self, slab: SlabValues) -> NDArray[np.float32]:
        """Q on all stimuli ``[contrast, unit]``, the largest over a contrast's tests."""
        assert slab.small_p is not None
        q = np.empty((len(self._tests), slab.units), np.float32)
        q[:] = np.where(slab.nonfinite, np.nan, 1)
        for test, units, small in slab.small_p.of(0):
            q[test, units] = small
        return self._by_contrast(np.maximum, q)

    def _by_contrast(self, join: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """Join ``values [test, ...]`` of the tests of every contrast."""
        if len(self._contrasts) == len(self._tests):
            return values
        return np.asarray(join.reduceat(values, self._firsts, axis=0))


def _small_p(p: Floats, level: float) -> tuple[NDArray[np.int32], Floats, int]:
    """The units with p up to a level, their p, and the number of units tested."""
    small = np.flatnonzero((p <= level) & (p < 1)).astype(np.int32)
    return small, p[small], int(np.count_nonzero(~np.isnan(p)))


def samples_of(folds: Sequence[Moments]) -> list[Moments]:
    """The samples that a criterion is tested on: all stimuli, then each of several folds."""
    return [reduce(merge, folds), *folds] if len(folds) > 1 else list(folds)


def _is_every_category(tests: Sequence[Contrast]) -> bool:
    """Whether there are several tests, each of one category against all others."""
    return len(tests) > 1 and all(test.category is not None for test in tests)
