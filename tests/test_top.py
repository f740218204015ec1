"""The top of a layer and of the model, against a plain sort."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiform.engine.contrasts.evaluate import Evaluation, samples_of
from fusiform.engine.contrasts.language.contrast import every_category
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.measures import Measured
from fusiform.engine.contrasts.sample import Sample
from fusiform.engine.contrasts.top import Leaders, largest
from fusiform.engine.errors import UserError
from fusiform.kernels.moments import Moments, folds_of

from . import reference

EVERY = every_category("abc")
Values = Callable[[str], np.ndarray]
# Few different values, so that many are tied.
VALUES = st.sampled_from([-np.inf, -1.5, 0.0, -0.0, 1.0, 2.0, np.inf, np.nan])


@given(st.lists(VALUES, max_size=40), st.integers(0, 45))
def test_the_largest_equal_a_plain_sort(values: list[float], size: int) -> None:
    found = largest(np.array(values, float), size).tolist()
    assert found == sorted(reference.top(values, size))


@given(st.lists(st.lists(VALUES, max_size=20), max_size=12), st.integers(0, 60))
def test_leaders_of_parts_equal_a_plain_sort_of_all(parts: list[list[float]], size: int) -> None:
    leaders = Leaders(size)
    for part in parts:
        leaders.add(np.array(part, float))
    values = [value for part in parts for value in part]
    assert leaders.places().tolist() == sorted(reference.top(values, size))


def test_leaders_hold_twice_the_top_at_most() -> None:
    leaders, rng = Leaders(100), np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(200):
        leaders.add(np.sort(rng.normal(size=10_000)))
    leaders.add(np.full(10_000, 9.0))  # ties do not pile up
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 100 * 16 + 10_000


def moments_of(rng: np.random.Generator, folds: int, units: int) -> Moments:
    """Moments of three categories; some units are dead, tied or nonfinite."""
    mean = rng.integers(0, 3, (folds, 3, units)).astype(float)
    m2 = rng.integers(1, 3, (folds, 3, units)).astype(float)
    dead = rng.random(units) < 0.2
    mean[:, :, dead], m2[:, :, dead] = 1, 0
    m2[0, 1, rng.random(units) < 0.1] = np.nan
    return Moments(np.full((folds, 3, 1), 5), mean, m2)


RULES: list[tuple[str, str, Callable[[int], int], Callable[[Values], np.ndarray]]] = [
    ("top 7 of model", "t", lambda n: 7, lambda _: np.True_),
    ("top 12.5% of model by csi", "csi", lambda n: n // 8, lambda _: np.True_),
    ("top 0.1% of model", "t", lambda n: 0, lambda _: np.True_),
    ("top 100% of model by ratio", "ratio", lambda n: n, lambda _: np.True_),
    ("top 9 by csi of model and t > 0.5", "csi", lambda n: 9, lambda of: of("t") > 0.5),
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    layers=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=5),
    rule=st.sampled_from(RULES),
)
def test_the_top_of_the_model_equals_a_plain_sort(
    seed: int, layers: list[list[int]], rule: Any
) -> None:
    text, measure, size, condition = rule
    rng = np.random.default_rng(seed)
    slabs = [[moments_of(rng, 2, units) for units in layer] for layer in layers]
    evaluation = Evaluation(Criterion("rest", text), EVERY)
    evaluated = ((evaluation.evaluate(slab) for slab in layer) for layer in slabs)
    settled = evaluation.settle(evaluated, units := sum(map(sum, layers)))
    found = [evaluation.decide(slab).selection for layer in settled for slab in layer]
    selective = np.concatenate([one.selective for one in found], axis=-1)
    by_fold = np.concatenate([one.selective_fold for one in found], axis=-1)
    together = Moments(
        slabs[0][0].count,
        *(np.concatenate([slab[part] for layer in slabs for slab in layer], axis=-1)
          for part in (1, 2)),
    )  # fmt: skip
    samples = samples_of(folds_of(together))
    never = ~np.isfinite(samples[0].m2).all(axis=0)
    for sample, moments in enumerate(samples):
        masks = selective if sample == 0 else by_fold[:, sample - 1]
        for contrast, mask in zip(EVERY, masks, strict=True):
            with np.errstate(all="ignore"):
                one = Measured(Sample(moments), contrast, Criterion("rest"), shared=True)
                values = np.where(never, np.nan, one.measure(measure))
                met = np.broadcast_to(condition(one.measure), units)
            top = reference.top(values.tolist(), size(units))
            assert np.flatnonzero(mask).tolist() == sorted(u for u in top if met[u])


def test_q_is_corrected_in_layers_beside_a_top_of_the_model() -> None:
    rng = np.random.default_rng(3)
    layers = [[moments_of(rng, 1, 40)], [moments_of(rng, 1, 30)]]

    def decided(rule: str, family: str = "layer") -> np.ndarray:
        evaluation = Evaluation(Criterion("rest", rule, family=family), EVERY)
        evaluated = ([evaluation.evaluate(slab) for slab in layer] for layer in layers)
        settled = evaluation.settle(evaluated, 70)
        found = [evaluation.decide(slab).selection.selective for (slab,) in settled]
        return np.concatenate(found, axis=-1)

    top, q = decided("top 25 of model"), [decided("q <= 0.12", one) for one in ("layer", "model")]
    assert (q[0] != q[1]).any()
    for family, alone in zip(("layer", "model"), q, strict=True):
        np.testing.assert_array_equal(decided("q <= 0.12 and top 25 of model", family), top & alone)
    layer = decided("top 3")
    assert layer.sum(axis=1).tolist() == [6, 6, 6]
    np.testing.assert_array_equal(decided("top 3 or top 25 of model"), layer | top)


def test_a_top_names_its_family_before_or_after_its_measure() -> None:
    (before,) = Criterion("rest", "top 1% of model by csi").rule().conditions()
    (after,) = Criterion("rest", "top 1% by csi of model").rule().conditions()
    assert before == after
    (layer,) = Criterion("rest", "top 1% of layer").rule().conditions()
    assert layer == next(Criterion("rest", "top 1%").rule().conditions())
    with pytest.raises(UserError, match="of layer, the default, or of model; got 'network'"):
        Criterion("rest", "top 1% of network")
    with pytest.raises(UserError, match="should end"):
        Criterion("rest", "top 1% of model by csi of model")
    assert Criterion("rest", "t > 1 and top 3 of model").spans_model
    assert not Criterion("rest", "top 3 and q <= 0.05").spans_model
