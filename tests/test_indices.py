"""Indices against plain loops and scipy, and the policy for degenerate units.

The rows of ``POLICY`` equal the table in docs/reference/definitions.md.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from fusiform.engine.contrasts.language.contrast import parse_contrast
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.measures import _MEASURES, POOLED, Measured
from fusiform.engine.contrasts.sample import Sample
from fusiform.engine.registry import MEASURES
from fusiform.kernels import indices
from fusiform.kernels.moments import Moments

from . import reference

CATEGORIES = ("a", "b", "c")
DEFINITIONS = (Path(__file__).parents[1] / "docs" / "reference" / "definitions.md").read_text()


def moments_of(groups: list[np.ndarray]) -> Moments:
    found = [reference_moments(group) for group in groups]
    count = np.array([[len(group)] for group in groups])
    return Moments(count, np.stack([f[0] for f in found]), np.stack([f[1] for f in found]))


def reference_moments(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    units = [reference.moments(column) for column in group.T]
    return np.array([u[1] for u in units]), np.array([u[2] for u in units])


def measures_of(groups: list[np.ndarray], text: str = "a") -> Measured:
    contrast = parse_contrast(text, CATEGORIES)
    return Measured(Sample(moments_of(groups)), contrast, Criterion("rest"))


def value_of(name: str, *groups: list[float]) -> float:
    """A measure of one unit, from its responses to each category."""
    with np.errstate(all="ignore"):
        columns = [np.array(group, float)[:, np.newaxis] for group in groups]
        return float(measures_of(columns).measure(name)[0])


def draw(seed: int, shift: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(shift + rng.normal(0, 1, 20), 1, (n, 20)) for n in (7, 12, 9)]


def test_effect_sizes_equal_their_definitions() -> None:
    groups = draw(0)
    own = measures_of(groups)
    for u in range(20):
        a = groups[0][:, u]
        b = np.concatenate([groups[1][:, u], groups[2][:, u]])
        difference, v_a, v_b = a.mean() - b.mean(), a.var(ddof=1), b.var(ddof=1)
        pooled = math.sqrt((6 * v_a + 20 * v_b) / 26)
        assert own.measure("d_prime")[u] == pytest.approx(difference / math.sqrt((v_a + v_b) / 2))
        assert own.measure("cohens_d")[u] == pytest.approx(difference / pooled)
        # The usual approximation of the factor is accurate to about 1e-4 at 26 degrees of freedom.
        hedges = difference / pooled * (1 - 3 / (4 * 26 - 1))
        assert own.measure("hedges_g")[u] == pytest.approx(hedges, rel=2e-4)
        expected = reference.auc_normal(a.tolist(), b.tolist())
        assert own.measure("auc_normal")[u] == pytest.approx(expected)
        assert own.measure("csi_pooled")[u] == pytest.approx(
            difference / (abs(a.mean()) + abs(b.mean()))
        )


def test_auc_of_normal_responses_is_the_exact_one_of_many() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(1, 2, (2000, 1)), rng.normal(0, 0.5, (1000, 1)),
              rng.normal(0, 0.5, (1000, 1))]  # fmt: skip
    exact = reference.area_under_curve(groups[0][:, 0], np.concatenate(groups[1:])[:, 0])
    assert measures_of(groups).measure("auc_normal")[0] == pytest.approx(exact, abs=0.02)
    assert exact == pytest.approx(0.686, abs=0.02)  # Phi(1 / sqrt(4.25))


def test_hedges_factor_removes_the_bias() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(2, 4, 200_000))
    samples[0] += 1
    sides = [Moments(4, s.mean(0), ((s - s.mean(0)) ** 2).sum(0)) for s in samples]
    biased, unbiased = indices.cohens_d(*sides).mean(), indices.hedges_g(*sides).mean()
    assert biased > 1.1
    assert unbiased == pytest.approx(1, abs=0.01)


def test_indices_of_means_equal_plain_loops() -> None:
    for shift in (0.0, 5.0):
        groups = draw(2, shift)
        own = measures_of(groups)
        for u in range(20):
            means = [g[:, u].mean() for g in groups]
            assert own.measure("csi")[u] == pytest.approx(reference.selectivity_index(means)[0])
            strongest = max(means[1:])
            assert own.measure("csi_strongest")[u] == pytest.approx(
                (means[0] - strongest) / (abs(means[0]) + abs(strongest))
            )
            best = max(range(3), key=means.__getitem__)
            assert own.measure("preferred_category")[u] == best
            assert own.measure("preferred")[u] == (best == 0)
            assert own.measure("margin")[u] == pytest.approx(
                means[best] - max(m for k, m in enumerate(means) if k != best)
            )
            assert own.measure("class_selectivity")[u] == pytest.approx(
                reference.selectivity_index(means)[best]
            )
            assert own.measure("category_sparseness")[u] == pytest.approx(
                reference.lifetime_sparseness(means), abs=1e-12
            )
            assert own.measure("response")[u] == pytest.approx(means[0])
            assert own.measure("baseline_response")[u] == pytest.approx((means[1] + means[2]) / 2)
            if shift:
                others = (means[1] + means[2]) / 2
                assert own.measure("ratio")[u] == pytest.approx(means[0] / others)
                assert own.measure("log_ratio")[u] == pytest.approx(math.log2(means[0] / others))


def test_anova_equals_scipy() -> None:
    for shift in (0.0, 1e4):
        groups = draw(3, shift)
        own, oracle = measures_of(groups), stats.f_oneway(*groups)
        np.testing.assert_allclose(own.measure("f"), oracle.statistic, rtol=1e-9)
        np.testing.assert_allclose(own.measure("p_f"), oracle.pvalue, rtol=1e-7)
        joined = np.concatenate(groups)
        within = sum(((g - g.mean(0)) ** 2).sum(0) for g in groups)
        total = ((joined - joined.mean(0)) ** 2).sum(0)
        np.testing.assert_allclose(own.measure("eta_squared"), 1 - within / total, rtol=1e-9)


def test_the_sides_of_a_weighted_sum_are_weighted_means() -> None:
    groups = draw(4)
    own = measures_of(groups, "a - b/4 - 3*c/4")
    means = [g.mean(0) for g in groups]
    np.testing.assert_allclose(own.measure("baseline_response"), means[1] / 4 + 3 * means[2] / 4)
    two = measures_of(groups, "a + b > c")
    np.testing.assert_allclose(two.measure("response"), (means[0] + means[1]) / 2)


def test_log_p_of_a_conjunction_stays_finite_where_p_underflows() -> None:
    far = [np.full((1, 3), 100.0), np.zeros((1, 3)), np.full((1, 3), [[5.0, 60, 90]])]
    moments = Moments(np.full((3, 1), 500), np.concatenate(far), np.ones((3, 3)))
    for sides in (1, 2):
        for text, sign in (("a", 1), ("b", -1)):
            own = Measured(
                Sample(moments), parse_contrast(text, CATEGORIES), Criterion("each", sides=sides)
            )
            if sides == 1 and sign < 0:  # not the largest: p is 1
                assert own.measure("log10_p").tolist() == [0, 0, 0]
                continue
            pairs = [
                Measured(Sample(moments), parse_contrast(f"{text} > {other}", CATEGORIES),
                         Criterion("rest", sides=sides)).measure("log10_p")
                for other in {"a": "bc", "b": "ac"}[text]
            ]  # fmt: skip
            np.testing.assert_allclose(own.measure("log10_p"), np.max(pairs, axis=0), rtol=1e-12)
            assert own.measure("log10_p").max() < -320
            assert np.isfinite(own.measure("log10_p")).all()


@settings(max_examples=100, deadline=None)
@given(means=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
@example(means=[0.0, 0.0, 4.592981580757756e-161])  # its square has no digits left
def test_every_index_stays_in_its_range(means: list[float]) -> None:
    mean = np.array(means)[:, np.newaxis]
    own = Measured(
        Sample(Moments(np.full((3, 1), 4), mean, np.ones((3, 1)))),
        parse_contrast("a", CATEGORIES),
        Criterion("rest"),
    )
    for name in ("csi", "csi_pooled", "csi_strongest", "csi_clamped"):
        assert -1 <= own.measure(name)[0] <= 1
    for name in ("class_selectivity", "category_sparseness", "eta_squared"):
        assert 0 <= own.measure(name)[0] <= 1
    assert own.measure("margin")[0] >= 0


# The policy: a unit's responses to a, b and c, and the measures of "a".
CONSTANT = [0.3] * 4
POLICY: dict[str, tuple[tuple[list[float], list[float], list[float]], dict[str, float]]] = {
    "constant over all stimuli": (
        (CONSTANT, CONSTANT, CONSTANT),
        {"t": 0, "p": 1, "log10_p": 0, "csi": 0, "csi_pooled": 0, "csi_strongest": 0, "d_prime": 0,
         "cohens_d": 0, "hedges_g": 0, "ratio": 1, "log_ratio": 0, "f": 0, "p_f": 1,
         "auc_normal": 0.5, "eta_squared": 0, "class_selectivity": 0, "category_sparseness": 0,
         "margin": 0},
    ),
    "never responds": (
        ([0.0] * 4, [0.0] * 4, [0.0] * 4),
        {"t": 0, "p": 1, "csi": 0, "csi_clamped": 0, "d_prime": 0, "ratio": 1, "log_ratio": 0,
         "class_selectivity": 0, "category_sparseness": 0},
    ),
    "no variance, but a larger mean": (
        ([2.0] * 4, [1.0] * 4, [1.0] * 4),
        {"t": math.inf, "p": 0, "log10_p": -math.inf, "d_prime": math.inf, "cohens_d": math.inf,
         "hedges_g": math.inf, "csi": 1 / 3, "f": math.inf, "p_f": 0, "eta_squared": 1,
         "auc_normal": 1},
    ),
    "no variance, but a smaller mean": (
        ([0.5] * 4, [1.0] * 4, [1.0] * 4),
        {"t": -math.inf, "p": 1, "d_prime": -math.inf, "csi": -1 / 3, "ratio": 0.5,
         "log_ratio": -1, "auc_normal": 0},
    ),
    "responds to the target only": (
        ([1.0, 3.0], [0.0, 0.0], [0.0, 0.0]),
        {"csi": 1, "csi_strongest": 1, "csi_clamped": 1, "ratio": math.inf, "log_ratio": math.inf,
         "class_selectivity": 1, "category_sparseness": 1},
    ),
    "responds to the baseline only": (
        ([0.0, 0.0], [1.0, 3.0], [1.0, 2.0]),
        {"csi": -1, "ratio": 0, "log_ratio": -math.inf},
    ),
    "positive to the target, negative to the baseline": (
        ([1.0, 3.0], [-1.0, -2.0], [-1.0, -3.0]),
        {"csi": 1, "csi_clamped": 1, "ratio": math.nan, "log_ratio": math.nan,
         "category_sparseness": 1, "class_selectivity": 1},
    ),
    "negative to both": (
        ([-1.0, -1.0], [-3.0, -3.0], [-3.0, -3.0]),
        {"csi": 0.5, "csi_clamped": 0, "ratio": math.nan, "log_ratio": math.nan,
         "category_sparseness": 0, "class_selectivity": 0.5},
    ),
    "NaN among its responses": (
        ([1.0, 2.0], [1.0, math.nan], [2.0, 1.0]),
        dict.fromkeys(
            ("t", "p", "log10_p", "csi", "csi_pooled", "csi_strongest", "csi_clamped", "d_prime",
             "cohens_d", "hedges_g", "auc_normal", "ratio", "log_ratio", "f", "p_f", "eta_squared",
             "class_selectivity", "category_sparseness", "margin"), math.nan,
        ),
    ),
    "infinity among its responses": (
        ([1.0, 2.0], [1.0, math.inf], [2.0, 1.0]),
        dict.fromkeys(("t", "p", "d_prime", "cohens_d", "f", "eta_squared"), math.nan),
    ),
}  # fmt: skip


@pytest.mark.parametrize("unit", POLICY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_indices_follow_the_documented_policy(unit: str) -> None:
    responses, expected = POLICY[unit]
    found = {name: value_of(name, *responses) for name in expected}
    assert found == pytest.approx(expected, nan_ok=True)
    assert f"| {unit} |" in DEFINITIONS


def test_every_measure_is_defined_computed_and_documented() -> None:
    assert {*_MEASURES, *POOLED} == {*MEASURES, "preferred"} - {"q"}
    for name in MEASURES:
        assert f"`{name}`" in DEFINITIONS
