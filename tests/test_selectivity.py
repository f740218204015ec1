"""Every category against all others in one pass: the bits of the separate steps, and scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fusiform.engine.contrasts import evaluate
from fusiform.engine.contrasts.evaluate import Evaluation
from fusiform.engine.contrasts.language.contrast import every_category, parse_contrasts
from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.selectivity import SCANNED
from fusiform.engine.contrasts.slab import SlabValues
from fusiform.kernels import contrast
from fusiform.kernels.moments import Moments

from . import reference

AWKWARD = (0.0, -0.0, 1.0, 1.0, 2.0, -1.0, 1e-320, 1e-160, 1e160, -1e308, np.inf, np.nan)


def names(categories: int) -> list[str]:
    return [f"c{k}" for k in range(categories)]


def moments_of(groups: Sequence[Sequence[np.ndarray]]) -> Moments:
    """Moments ``[fold, category, unit]`` of samples ``[fold][category] [stimulus, unit]``."""
    with np.errstate(invalid="ignore"):
        mean = np.array([[x.mean(0) for x in fold] for fold in groups])
        m2 = np.array([[((x - x.mean(0)) ** 2).sum(0) for x in fold] for fold in groups])
    count = np.array([[len(x) for x in fold] for fold in groups])
    return Moments(count[..., np.newaxis], mean, m2)


def drawn(folds: int, categories: int, units: int, seed: int = 0) -> list[list[np.ndarray]]:
    """Samples, among them constant, infinite and unknown units, and ties of categories."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 1, (categories, units))
    groups = [
        [rng.normal(centre[k], 1, (3 + (k + fold) % 4, units)) for k in range(categories)]
        for fold in range(folds)
    ]
    for fold in groups:
        for k, x in enumerate(fold):
            x[:, 0] = 0.1  # dead
            x[:, 1] = k  # varies across categories only
            x[:, 2] = [0, 7][k == 1]  # and of one category alone
            x[:, 3] = np.arange(len(x)) % 2 if k else 5
            x[:, 4] = x[:, 4].clip(0)
    groups[0][0][0, 5] = np.nan
    groups[-1][-1][0, 6] = np.inf
    return groups


def both(evaluation: Evaluation, moments: Moments) -> tuple[SlabValues, SlabValues]:
    """Values by one pass, and by the separate steps."""
    assert evaluation._in_one_pass
    whole = evaluation.evaluate(moments)
    evaluation._in_one_pass = False
    steps = evaluation.evaluate(moments)
    evaluation._in_one_pass = True
    return whole, steps


def assert_same(whole: SlabValues, steps: SlabValues) -> None:
    for name, values in steps.stored.items():
        np.testing.assert_array_equal(np.isnan(whole.stored[name]), np.isnan(values), name)
        known = ~np.isnan(values)
        found = whole.stored[name][known].view(np.int32)
        np.testing.assert_array_equal(found, values[known].view(np.int32), name)
    np.testing.assert_array_equal(whole.dead, steps.dead)
    np.testing.assert_array_equal(whole.nonfinite, steps.nonfinite)
    assert whole.small_p is not None
    assert steps.small_p is not None
    np.testing.assert_array_equal(whole.small_p.tested, steps.small_p.tested)
    np.testing.assert_array_equal(whole.small_p.stops, steps.small_p.stops)
    np.testing.assert_array_equal(whole.small_p.units, steps.small_p.units)
    np.testing.assert_allclose(whole.small_p.p, steps.small_p.p, rtol=1e-12)


@pytest.mark.parametrize("folds", [1, 2, 3])
@pytest.mark.parametrize("categories", [2, 3, 5, 48, 49, 130])
def test_one_pass_gives_the_bits_of_the_separate_steps(folds: int, categories: int) -> None:
    units = 2 * contrast.tile_size(categories) + 13
    evaluation = Evaluation(DEFAULT, every_category(names(categories)), SCANNED, stores_q=True)
    moments = moments_of(drawn(folds, categories, units))
    assert_same(*both(evaluation, moments))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_pass_gives_the_bits_of_the_separate_steps_for_awkward_moments(
    data: st.DataObject,
) -> None:
    folds, categories, units = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 6)), 3
    size = folds * categories * units
    means = st.floats(-3, 3) | st.integers(-2, 2).map(float)
    spreads = st.floats(0, 5) | st.integers(0, 3).map(float)
    if data.draw(st.booleans()):
        means, spreads = (
            (st.sampled_from(AWKWARD) | means),
            (st.sampled_from(AWKWARD).map(abs) | spreads),
        )
    shape = (folds, categories, units)
    mean = np.array(data.draw(st.lists(means, min_size=size, max_size=size))).reshape(shape)
    m2 = np.array(data.draw(st.lists(spreads, min_size=size, max_size=size))).reshape(shape)
    numbers = st.lists(st.integers(2, 9), min_size=folds * categories, max_size=folds * categories)
    count = np.array(data.draw(numbers)).reshape(folds, categories, 1)
    evaluation = Evaluation(DEFAULT, every_category(names(categories)), SCANNED, stores_q=True)
    assert_same(*both(evaluation, Moments(count, mean, m2)))


def test_one_pass_equals_scipy_and_plain_loops() -> None:
    groups = drawn(2, 4, 60, seed=3)
    evaluation = Evaluation(DEFAULT, every_category(names(4)), SCANNED, stores_q=True)
    values = evaluation.evaluate(moments_of(groups))
    together = [np.concatenate([fold[k] for fold in groups]) for k in range(4)]
    assert values.small_p is not None
    samples = [together, *groups]
    tested = 0
    for k in range(4):
        rest = np.concatenate([x for other, x in enumerate(together) if other != k])
        for unit in range(7, 60):
            t = stats.ttest_ind(together[k][:, unit], rest[:, unit], equal_var=False)
            np.testing.assert_allclose(values.stored["t"][k, unit], t.statistic, rtol=1e-6)
            columns = [x[:, unit].tolist() for x in together]
            each = reference.against_each(columns)[k]
            np.testing.assert_allclose(values.stored["t_each"][k, unit], each, rtol=1e-6)
            means = [float(np.mean(column)) for column in columns]
            a, b = means[k], (sum(means) - means[k]) / 3
            expected = (a - b) / (abs(a) + abs(b))
            np.testing.assert_allclose(values.stored["csi"][k, unit], expected, rtol=1e-5)
        for number, sample in enumerate(samples):
            part = slice(*(bound[k] for bound in values.small_p.bounds(number)))
            found = dict(zip(values.small_p.units[part], values.small_p.p[part], strict=True))
            for unit in range(7, 60):
                p = max(
                    stats.ttest_ind(
                        sample[k][:, unit], x[:, unit], equal_var=False, alternative="greater"
                    ).pvalue
                    for other, x in enumerate(sample)
                    if other != k
                )
                # On all stimuli q is stored: p is exact. On a fold it is below q's level.
                if unit in found:
                    tested += 1
                    np.testing.assert_allclose(found[unit], p, rtol=1e-10)
                elif number:
                    assert p > 0.05
                else:
                    assert p >= 0.5
    assert tested > 60


@pytest.mark.parametrize("categories", [3, 60])
def test_decisions_and_q_are_those_of_the_separate_steps(categories: int) -> None:
    moments = moments_of(drawn(2, categories, 900))
    found = []
    for one_pass in (True, False):
        evaluation = Evaluation(DEFAULT, every_category(names(categories)), SCANNED, True)
        evaluation._in_one_pass = one_pass
        slab = evaluation.evaluate(moments)
        evaluation.settle([[slab]], slab.units)
        found.append(evaluation.decide(slab))
    whole, steps = found
    for name, mask in vars(steps.selection).items():
        np.testing.assert_array_equal(getattr(whole.selection, name), mask, name)
    assert whole.selection.selective.any()
    assert whole.q is not None
    np.testing.assert_allclose(whole.q, steps.q, rtol=1e-6)


@pytest.mark.parametrize(
    "criterion",
    [
        Criterion("rest"),
        Criterion("each", "q <= 0.05 and csi > 0.2"),
        Criterion("each", "t > 3"),
        Criterion("each", sides=2),
        Criterion("each", pairwise=True),
        Criterion("each", "top 5"),
    ],
    ids=str,
)
def test_other_criteria_take_the_separate_steps(criterion: Criterion) -> None:
    evaluation = Evaluation(criterion, every_category(names(3)))
    assert not evaluation._in_one_pass


@pytest.mark.parametrize("level", [0.001, 0.3, 1.0])
def test_the_level_of_q_is_that_of_the_rule(level: float) -> None:
    criterion = replace(DEFAULT, where=f"q <= {level}")
    evaluation = Evaluation(criterion, every_category(names(3)))
    assert_same(*both(evaluation, moments_of(drawn(2, 3, 500))))


def test_some_contrasts_alone_take_the_separate_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "evaluate_every_category", lambda *_: 1 / 0)
    for some in (["c1"], ["c1", "c0", "c2"], ["c0 > c1", "c1", "c2"]):
        evaluation = Evaluation(DEFAULT, parse_contrasts(some, names(3)))
        assert evaluation.evaluate(moments_of(drawn(2, 3, 50))).units == 50
